//! What a plugin process serves: its objects, and what it says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Millis;

use crate::contract::{Flavors, Instances};
use crate::events::Events;
use crate::{fence, interface};

/// A plugin process's objects. `""` names the base object.
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
    #[must_use]
    pub fn with_instances(mut self, subtype: &str, instances: Arc<dyn Instances>) -> Self {
        self.instances.insert(subtype.to_owned(), instances);
        self
    }

    #[must_use]
    pub fn with_flavor(mut self, subtype: &str, flavor: Arc<dyn Flavors>) -> Self {
        self.flavors.insert(subtype.to_owned(), flavor);
        self
    }

    #[must_use]
    pub fn with_events(mut self, events: Events) -> Self {
        self.events = Some(events);
        self
    }

    /// The plugin makes no second instance for a token that it has seen (`Fence/0.1.0`).
    #[must_use]
    pub fn knowing_tokens(mut self) -> Self {
        self.knows_tokens = true;
        self
    }

    /// An instance that was made may be missing from listings for so long.
    #[must_use]
    pub fn listing_within(mut self, span: Millis) -> Self {
        self.lists_within = span;
        self
    }

    /// The plugin hears who calls and until when, and cannot tell whether an instance was made whose answer
    /// was lost: class D. Nothing is repeated there but by an operator.
    #[must_use]
    pub fn proving_nothing(mut self) -> Self {
        self.proves_nothing = true;
        self
    }

    /// The plugin starts instances that have stopped (`Start/0.1.0`).
    #[must_use]
    pub fn starting(mut self) -> Self {
        self.starts = true;
        self
    }

    /// Interfaces and their objects, the base object first, as Hello tells them.
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
            let mut said = vec![".".to_owned()];
            if self.proves_nothing {
                said.push(fence::LISTS_NEVER.to_owned());
            } else if self.lists_within > Millis(0) {
                said.push(format!("{}{}", fence::LISTS_WITHIN, self.lists_within));
            }
            objects.insert(interface::FENCE.to_owned(), said);
        }
        objects
    }
}
