//! What a manager says when it cannot go on.

/// Why a manager cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    pub what: String,
    pub cause: String,
    pub remedy: String,
}

impl Error {
    pub(crate) fn new(what: impl Into<String>, cause: impl ToString, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), cause: cause.to_string(), remedy: remedy.into() }
    }
}
