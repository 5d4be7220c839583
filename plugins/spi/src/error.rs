//! What a call can come to, as far as the caller must tell the cases apart.

use std::fmt;

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub class: Class,
    pub message: String,
}

/// The kinds of failure (glossary). Over InfraKit's wire only our own plugins can tell them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The properties are wrong; trying again is useless.
    InvalidSpec,
    NotFound,
    Conflict,
    /// Try later: quota, capacity or throttling.
    Exhausted,
    /// Nothing was sent: the plugin is not there.
    Unavailable,
    /// It may have been done: a timeout, a broken connection, an answer that is no answer, or an
    /// error of a plugin that cannot say what it left behind.
    Unsure,
    /// It failed, and surely nothing was done.
    Internal,
}

impl Error {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Class::InvalidSpec, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Class::NotFound, message)
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Class::Internal, message.to_string())
    }

    pub fn unsure(message: impl fmt::Display) -> Self {
        Self::new(Class::Unsure, message.to_string())
    }
}

impl Class {
    /// Whether it is certain that nothing was done.
    pub fn is_refusal(self) -> bool {
        self != Class::Unsure
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(self) -> bool {
        match self {
            Class::InvalidSpec | Class::NotFound | Class::Conflict => false,
            Class::Exhausted | Class::Unavailable | Class::Unsure | Class::Internal => true,
        }
    }

    /// The name on the wire, in the `data` of a JSON-RPC error.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Class::InvalidSpec => "InvalidSpec",
            Class::NotFound => "NotFound",
            Class::Conflict => "Conflict",
            Class::Exhausted => "Exhausted",
            Class::Unavailable => "Unavailable",
            Class::Unsure => "Unsure",
            Class::Internal => "Internal",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [
            Class::InvalidSpec,
            Class::NotFound,
            Class::Conflict,
            Class::Exhausted,
            Class::Unavailable,
            Class::Unsure,
            Class::Internal,
        ]
        .into_iter()
        .find(|class| class.as_str() == text)
    }
}
