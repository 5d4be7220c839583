//! The errors of plugin calls, classified by what the caller may do next.

use std::fmt;

/// The error of a plugin call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller may do next.
    pub class: Class,
    /// The message of the plugin.
    pub message: String,
}

/// The classes of errors. On the wire, only plugins of this project report them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The properties are invalid; a retry is pointless.
    InvalidSpec,
    /// The instance does not exist.
    NotFound,
    /// The call conflicts with the state of the plugin, such as a newer leader.
    Conflict,
    /// Retry later: quota, capacity or throttling.
    Exhausted,
    /// The plugin cannot be reached; nothing was sent.
    Unavailable,
    /// The outcome is unknown: a timeout, a broken connection, an invalid reply, or an unclassified error.
    Unsure,
    /// It failed, and nothing was done.
    Internal,
}

impl Error {
    /// An error of this class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// [`Class::InvalidSpec`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Class::InvalidSpec, message)
    }

    /// [`Class::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Class::NotFound, message)
    }

    /// [`Class::Internal`].
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Class::Internal, message.to_string())
    }

    /// [`Class::Unsure`].
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
