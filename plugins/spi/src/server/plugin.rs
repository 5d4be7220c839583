//! The objects that a plugin process serves, and its guarantees.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Millis;

use crate::fence::Fence;
use crate::interface::event::{self, Events};
use crate::interface::flavor::{self, Flavors};
use crate::interface::instance::{self, Instances};
use crate::object::{Interface, Method, Object};
use crate::powers::Powers;
use crate::rpc::{Addressed, Fault, Request};

/// The objects of a plugin process. The base object has the name `""`.
#[derive(Clone, Default)]
pub struct Plugin {
    /// By the part of their methods before the dot.
    interfaces: BTreeMap<&'static str, Served>,
    pub(super) events: Option<Events>,
    powers: Powers,
    pub(super) gate: Arc<Fence>,
}

/// An interface and its objects.
#[derive(Clone)]
struct Served {
    interface: &'static Interface,
    objects: BTreeMap<String, Arc<dyn Object>>,
}

impl Plugin {
    /// Serves an instance plugin at this subtype.
    #[must_use]
    pub fn with_instances(self, subtype: &str, instances: Arc<dyn Instances>) -> Self {
        self.with(&instance::INTERFACE, subtype, Arc::new(instance::Served(instances)))
    }

    /// Serves a flavor plugin at this subtype.
    #[must_use]
    pub fn with_flavor(self, subtype: &str, flavor: Arc<dyn Flavors>) -> Self {
        self.with(&flavor::INTERFACE, subtype, Arc::new(flavor::Served(flavor)))
    }

    /// Serves these events.
    #[must_use]
    pub fn with_events(mut self, events: Events) -> Self {
        self.events = Some(events.clone());
        self.with(&event::INTERFACE, "", Arc::new(events))
    }

    /// The plugin creates no second instance for a token that it has seen (`Fence/0.1.0`).
    #[must_use]
    pub fn knowing_tokens(mut self) -> Self {
        self.powers.knows_tokens = true;
        self
    }

    /// A new instance may be missing from listings for this long.
    #[must_use]
    pub fn listing_within(mut self, span: Millis) -> Self {
        self.powers.lists_within = span;
        self
    }

    /// The plugin obeys the fence, and cannot tell whether a call with a lost reply took effect: class D.
    /// Only an operator can resolve that.
    #[must_use]
    pub fn proving_nothing(mut self) -> Self {
        self.powers.proves_nothing = true;
        self
    }

    /// The plugin can start stopped instances (`Start/0.1.0`).
    #[must_use]
    pub fn starting(mut self) -> Self {
        self.powers.starts = true;
        self
    }

    fn with(mut self, interface: &'static Interface, subtype: &str, object: Arc<dyn Object>) -> Self {
        let served = Served { interface, objects: BTreeMap::new() };
        let served = self.interfaces.entry(interface.service()).or_insert(served);
        served.objects.insert(subtype.to_owned(), object);
        self
    }

    /// The interfaces and their objects, the base object first.
    pub(super) fn objects(&self) -> BTreeMap<String, Vec<String>> {
        // The empty name sorts first, and is written as a dot.
        let name = |key: &String| if key.is_empty() { ".".to_owned() } else { key.clone() };
        self.interfaces
            .values()
            .map(|served| (served.interface.id.to_owned(), served.objects.keys().map(name).collect()))
            .collect()
    }

    /// The same with the extensions, for Hello.
    pub(super) fn with_extensions(&self) -> BTreeMap<String, Vec<String>> {
        let mut objects = self.objects();
        let instances = objects.get(instance::ID).cloned().unwrap_or_default();
        objects.append(&mut self.powers.objects(&instances));
        objects
    }

    /// A method that is served; the error is the one of Docker's InfraKit.
    pub(super) fn method(
        &self,
        request: &Request,
        service: &str,
        name: &str,
    ) -> Result<&'static Method, Fault> {
        let Some(served) = self.interfaces.get(service) else {
            return Err(Fault::new(format!("rpc: can't find service \"{}\"", request.method)));
        };
        let is_served = |method: &&Method| {
            method.name == name && method.extension.is_none_or(|extension| self.powers.has(extension))
        };
        served.interface.methods.iter().find(is_served).ok_or_else(|| request.no_method())
    }

    /// The object of that service which a request names.
    pub(super) fn object(&self, request: &Request, service: &str) -> Result<&dyn Object, Fault> {
        let Addressed { r#type } = request.params()?;
        let object = self.interfaces.get(service).and_then(|served| served.objects.get(&r#type));
        object.map(|object| &**object).ok_or_else(|| Fault::new(format!("no-plugin:{type}")))
    }
}
