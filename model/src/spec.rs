//! What a person asks for, valid by type: whoever holds a [`GroupSpec`] need not check it again.

use std::collections::BTreeSet;

use crate::ids::{GroupId, LogicalId, ObjectKey};
use crate::part::Part;
use crate::time::Millis;

/// Everything that can be declared. Closed: each kind has its own loop, and its own arm in the log.
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

/// What an instance is made from. Two members are alike when their templates have one fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub instance: Part,
    pub flavor: Part,
}

/// How many members, and whether they have names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allocation {
    /// Cattle: interchangeable, any number of them.
    Size(u32),
    /// Pets: exactly these, each keeping its identity. Never empty, no id twice.
    LogicalIds(Vec<LogicalId>),
}

impl Allocation {
    /// How many members are wanted.
    pub fn count(&self) -> usize {
        match self {
            Allocation::Size(n) => *n as usize,
            Allocation::LogicalIds(ids) => ids.len(),
        }
    }

    /// Whether it has a place that the other has not.
    pub fn wants_more_than(&self, other: &Allocation) -> bool {
        match (self, other) {
            (Allocation::LogicalIds(ids), Allocation::LogicalIds(others)) => {
                let others: BTreeSet<&LogicalId> = others.iter().collect();
                ids.iter().any(|id| !others.contains(id))
            }
            (Allocation::Size(size), Allocation::Size(other)) => size > other,
            (Allocation::Size(_), Allocation::LogicalIds(_))
            | (Allocation::LogicalIds(_), Allocation::Size(_)) => true,
        }
    }

    pub fn logical_ids(&self) -> Option<&[LogicalId]> {
        match self {
            Allocation::Size(_) => None,
            Allocation::LogicalIds(ids) => Some(ids),
        }
    }
}

/// When a replacement counts as well, before the next member is taken (semantics §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthGate {
    /// At its first healthy answer.
    #[default]
    Once,
    /// After so many healthy answers in a row.
    Count(u32),
    /// After being healthy without a break for so long.
    Duration(Millis),
}

/// How members are replaced when the template changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Updating {
    pub gate: HealthGate,
    /// Leave out the flavor's drain while replacing (`SkipBeforeInstanceDestroy: drain`).
    pub skip_drain: bool,
}

/// A group as declared: valid, complete, and without the text it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    pub id: GroupId,
    pub allocation: Allocation,
    pub template: Template,
    pub updating: Updating,
}

impl GroupSpec {
    /// The largest spec that is accepted, in bytes of its opaque properties: a Raft entry must stay
    /// far below the message limit of the peers' transport.
    pub const LARGEST: usize = 512 * 1024;

    /// The largest group: above it one listing no longer fits a look per second.
    pub const MOST_MEMBERS: u32 = 100_000;

    /// Bytes that the opaque properties take.
    pub fn weight(&self) -> usize {
        self.template.instance.properties.as_json().len() + self.template.flavor.properties.as_json().len()
    }
}
