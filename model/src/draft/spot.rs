//! A place in a file, kept for problems that are found later.

use crate::problem::Place;

/// Where a value stands: line and column, and its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub place: Place,
    pub path: String,
}
