//! A reference to a plugin, with its properties.

use std::fmt;
use std::sync::Arc;

use crate::ids::PluginName;

/// JSON for a plugin: kept byte for byte, compared as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Opaque(Arc<str>);

impl Opaque {
    /// Takes text that is known to be one JSON value; `draft` and `convert` check it.
    pub fn from_json(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    pub fn null() -> Self {
        Self::from_json("null")
    }

    pub fn as_json(&self) -> &str {
        &self.0
    }

    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A plugin, and its properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub plugin: PluginName,
    pub properties: Opaque,
}
