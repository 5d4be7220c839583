//! The desired state, as a user declares it. Valid by type: a [`GroupSpec`] need not be checked again.

mod allocation;
mod check;
mod updating;

use crate::ids::{GroupId, ObjectKey};
use crate::limits::NAMED_GONE;
use crate::part::Part;
use crate::time::Millis;

pub use allocation::Allocation;
pub use check::SpecError;
pub use updating::{Amount, Canary, Disruption, HealthGate, OnFailure, Updating};

/// Everything that can be declared. Closed: each kind has its own reconciler, and its own form in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    Group(GroupSpec),
}

impl Spec {
    pub fn key(&self) -> ObjectKey {
        match self {
            Spec::Group(group) => ObjectKey::group(&group.id),
        }
    }

    /// The feature level whose programs know all of this.
    pub fn level(&self) -> u32 {
        match self {
            Spec::Group(group) => {
                let is_new = group.healing != Healing::default() || group.updating.is_of_level_2();
                if is_new { 2 } else { 0 }
            }
        }
    }

    pub fn as_group(&self) -> Option<&GroupSpec> {
        match self {
            Spec::Group(group) => Some(group),
        }
    }
}

impl From<GroupSpec> for Spec {
    fn from(group: GroupSpec) -> Self {
        Spec::Group(group)
    }
}

/// What determines an instance. Two members are alike when their templates have the same fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub instance: Part,
    pub flavor: Part,
}

/// What is done about members that are missing, stopped, or do not become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Healing {
    /// How long listings must lack a member, without notice of its plugin, before it is considered gone; if none,
    /// [`NAMED_GONE`] for pets, and as soon as listings prove it for cattle.
    pub absent_for: Option<Millis>,
    /// Start members that have stopped or failed, where the plugin can (`Start/0.1.0`).
    pub start: bool,
    /// How long after it was made a member may take to become ready, before it counts as failed; for ever if none.
    pub boot_deadline: Option<Millis>,
}

impl Healing {
    /// How long listings must lack a member, with a name or without, before it is considered gone.
    pub fn absence(&self, named: bool) -> Millis {
        self.absent_for.unwrap_or(if named { NAMED_GONE } else { Millis(0) })
    }
}

/// A group as declared: valid, complete, and without the text it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    pub id: GroupId,
    pub allocation: Allocation,
    pub template: Template,
    pub updating: Updating,
    pub healing: Healing,
}

impl GroupSpec {
    /// The largest spec that is accepted, in bytes of its opaque properties: a Raft entry must stay
    /// far below the message limit of the peers' transport.
    pub const LARGEST: usize = 512 * 1024;

    /// The largest group: the listing of a larger one takes longer than the second between two listings.
    pub const MOST_MEMBERS: u32 = 100_000;

    /// It in a few words.
    pub fn describe(&self) -> String {
        let members = match &self.allocation {
            Allocation::Size(n) => format!("size {n}"),
            Allocation::LogicalIds(ids) => format!("{} logical ids", ids.len()),
        };
        format!("{members} of {} with {}", self.template.instance.plugin, self.template.flavor.plugin)
    }

    /// Bytes that the opaque properties take.
    pub fn weight(&self) -> usize {
        self.template.instance.properties.as_json().len() + self.template.flavor.properties.as_json().len()
    }
}
