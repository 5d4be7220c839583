//! The place of a value in a file, for problems that are found later.

use crate::problem::Place;

/// The place of a value: line and column, and its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Line and column.
    pub place: Place,
    /// Its path, such as `properties.Instance`.
    pub path: String,
}
