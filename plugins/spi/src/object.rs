//! What a plugin serves: objects, each with the methods of one interface.

use async_trait::async_trait;

use crate::call::Call;
use crate::rpc::{Request, Result};

/// An interface of the protocol.
pub(crate) struct Interface {
    /// Its name and version, as Hello has them, such as `Instance/0.6.1`.
    pub(crate) id: &'static str,
    pub(crate) methods: &'static [Method],
}

/// A method of an interface.
pub(crate) struct Method {
    /// Its name behind the dot: `Provision` of `Instance.Provision`.
    pub(crate) name: &'static str,
    /// The fence protects it: it creates, changes or destroys instances.
    pub(crate) is_fenced: bool,
    /// The extension that a plugin must have, if it is not a part of the interface itself.
    pub(crate) extension: Option<&'static str>,
}

impl Interface {
    /// The part of its methods before the dot.
    pub(crate) fn service(&self) -> &'static str {
        self.id.split('/').next().unwrap_or(self.id)
    }
}

impl Method {
    pub(crate) const fn plain(name: &'static str) -> Self {
        Self { name, is_fenced: false, extension: None }
    }

    pub(crate) const fn fenced(name: &'static str) -> Self {
        Self { name, is_fenced: true, extension: None }
    }

    pub(crate) const fn extension(name: &'static str, extension: &'static str) -> Self {
        Self { name, is_fenced: false, extension: Some(extension) }
    }
}

/// An object of a plugin process, behind one interface.
#[async_trait]
pub(crate) trait Object: Send + Sync {
    /// Calls a method, which is one of its interface.
    async fn answer(&self, method: &'static str, request: &Request, call: &Call) -> Result;
}
