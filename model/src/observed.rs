//! What was last seen at the providers. Never replicated: the provider alone knows, and is asked again.

mod backoff;
mod health;
mod listing;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::bounds::Bounds;
use crate::ids::{InstanceRef, IntentId, PluginName, Slot};
use crate::time::Timestamp;

pub use backoff::{Absence, Backoff, Trouble, Unsure};
pub use health::{Health, HealthSample};
pub use listing::{Description, InstanceState, Listing, ListingHistory, RunStatus};
pub use view::{Seen, View};

/// A listing that may show all that a group had before it was declared again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstLook {
    pub at: Timestamp,
    /// How many instances its plugin has shown since: in all, and of this group. Fewer say that a listing lacks some.
    pub total: usize,
    pub seen: usize,
}

/// Everything the leader knows about the world, as far as one group is concerned.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The latest view for each plugin of the group that could be asked.
    pub views: BTreeMap<PluginName, Arc<View>>,
    /// Plugins that cannot be asked: since when and why.
    pub troubles: BTreeMap<PluginName, Trouble>,
    /// Answers of the flavor.
    pub health: BTreeMap<InstanceRef, HealthSample>,
    /// Who at rest was asked last how it is, and when.
    pub patrolled: Option<Slot>,
    pub patrolled_at: Timestamp,
    /// Intents whose call is under way here, or whose outcome is on its way to the log.
    pub in_flight: BTreeSet<IntentId>,
    pub unsure: BTreeMap<IntentId, Unsure>,
    pub backoff: BTreeMap<Slot, Backoff>,
    /// Members that this leader has seen listed, of plugins whose listings may lag behind.
    pub listed_once: BTreeSet<InstanceRef>,
    /// Members that the latest look at their plugin did not show.
    pub missing: BTreeMap<InstanceRef, Absence>,
    /// Members that this leader has seen lost: one of them may come back.
    pub lost: BTreeSet<InstanceRef>,
    /// The first listing that may show all that the group had before it was declared again.
    pub first_look: Option<FirstLook>,
    /// Since when instances with a token of a closed intent, or without some of our tags, have been listed without a
    /// break: what was being made when its intent was refused may be shown for a while, and tags come late.
    pub appeared: BTreeMap<InstanceRef, Timestamp>,
    /// Instances without a slot that could not be destroyed, or do not show their label, and when that is
    /// tried again.
    pub held_off: BTreeMap<InstanceRef, Backoff>,
    /// Why the plugins have not accepted the spec yet; empty when they have, or were not asked.
    pub unaccepted: String,
    /// Since when this manager leads: calls of earlier leaders began before.
    pub leading_since: Timestamp,
    pub bounds: Bounds,
}

impl Observed {
    /// An instance as its plugin lists it, if it does.
    pub fn seen(&self, instance: &InstanceRef) -> Option<&Seen> {
        self.views.get(&instance.plugin)?.seen.get(&instance.id)
    }
}

#[cfg(test)]
mod tests;
