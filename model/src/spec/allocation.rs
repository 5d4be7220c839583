//! How many members a group has, and whether they have names.

use std::collections::BTreeSet;

use crate::ids::LogicalId;

/// How many members, and whether they have names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allocation {
    /// Cattle: interchangeable, any number of them.
    Size(u32),
    /// Pets: exactly these, each keeping its identity. Never empty, no id twice.
    LogicalIds(Vec<LogicalId>),
}

impl Allocation {
    /// How many members are desired.
    pub fn count(&self) -> usize {
        match self {
            Allocation::Size(n) => *n as usize,
            Allocation::LogicalIds(ids) => ids.len(),
        }
    }

    /// Whether it has a slot that the other one does not have.
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
