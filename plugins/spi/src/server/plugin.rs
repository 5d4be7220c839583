//! The objects that a plugin process serves, and its guarantees.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Millis;

use crate::contract::{Flavors, Instances};
use crate::events::Events;
use crate::{fence, interface};

/// The objects of a plugin process. The base object has the name `""`.
#[derive(Clone, Default)]
pub struct Plugin {
    pub(super) instances: BTreeMap<String, Arc<dyn Instances>>,
    pub(super) flavors: BTreeMap<String, Arc<dyn Flavors>>,
    pub(super) events: Option<Events>,
    pub(super) knows_tokens: bool,
    pub(super) lists_within: Millis,
    pub(super) proves_nothing: bool,
    pub(super) starts: bool,
    pub(super) gate: Arc<fence::Fence>,
}

impl Plugin {
    /// Serves an instance plugin at this subtype.
    #[must_use]
    pub fn with_instances(mut self, subtype: &str, instances: Arc<dyn Instances>) -> Self {
        self.instances.insert(subtype.to_owned(), instances);
        self
    }

    /// Serves a flavor plugin at this subtype.
    #[must_use]
    pub fn with_flavor(mut self, subtype: &str, flavor: Arc<dyn Flavors>) -> Self {
        self.flavors.insert(subtype.to_owned(), flavor);
        self
    }

    /// Serves these events.
    #[must_use]
    pub fn with_events(mut self, events: Events) -> Self {
        self.events = Some(events);
        self
    }

    /// The plugin creates no second instance for a token that it has seen (`Fence/0.1.0`).
    #[must_use]
    pub fn knowing_tokens(mut self) -> Self {
        self.knows_tokens = true;
        self
    }

    /// A new instance may be missing from listings for this long.
    #[must_use]
    pub fn listing_within(mut self, span: Millis) -> Self {
        self.lists_within = span;
        self
    }

    /// The plugin obeys the fence, and cannot tell whether a call with a lost reply took effect: class D.
    /// Only an operator can resolve that.
    #[must_use]
    pub fn proving_nothing(mut self) -> Self {
        self.proves_nothing = true;
        self
    }

    /// The plugin can start stopped instances (`Start/0.1.0`).
    #[must_use]
    pub fn starting(mut self) -> Self {
        self.starts = true;
        self
    }

    /// The interfaces and their objects for Hello, the base object first.
    pub(super) fn objects(&self) -> BTreeMap<String, Vec<String>> {
        // The empty name sorts first, and is written as a dot.
        let names = |keys: Vec<&String>| {
            keys.into_iter().map(|key| if key.is_empty() { ".".to_owned() } else { key.clone() }).collect()
        };
        let mut objects = BTreeMap::new();
        if !self.instances.is_empty() {
            objects.insert(interface::INSTANCE.to_owned(), names(self.instances.keys().collect()));
        }
        if !self.flavors.is_empty() {
            objects.insert(interface::FLAVOR.to_owned(), names(self.flavors.keys().collect()));
        }
        if self.events.is_some() {
            objects.insert(interface::EVENT.to_owned(), vec![".".to_owned()]);
        }
        if self.starts {
            objects.insert(interface::START.to_owned(), names(self.instances.keys().collect()));
        }
        if self.knows_tokens || self.proves_nothing {
            let mut names = vec![".".to_owned()];
            if self.proves_nothing {
                names.push(fence::LISTS_NEVER.to_owned());
            } else if self.lists_within > Millis(0) {
                names.push(format!("{}{}", fence::LISTS_WITHIN, self.lists_within));
            }
            objects.insert(interface::FENCE.to_owned(), names);
        }
        objects
    }
}
