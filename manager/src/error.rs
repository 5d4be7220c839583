//! The error of a manager that cannot start or continue.

/// Why a manager cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    /// What failed, in one sentence.
    pub what: String,
    /// Why; may be empty.
    pub cause: String,
    /// What the operator can do about it; may be empty.
    pub remedy: String,
}

impl Error {
    pub(crate) fn new(what: impl Into<String>, cause: impl ToString, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), cause: cause.to_string(), remedy: remedy.into() }
    }
}
