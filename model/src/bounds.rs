//! The limits of the cluster for one group, at one entry of the log.

use std::collections::BTreeMap;

use crate::ids::{InstanceId, LogIndex};

/// The limits of the cluster for one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The feature level that all managers know.
    pub level: u32,
    /// How many more instances may be created, by `infrakit/max-instances`.
    pub instances: usize,
    /// How many more intents may be opened.
    pub open: usize,
    /// Whether there are more instances than allowed.
    pub overfull: bool,
    /// The machines of managers, with their names: these are never destroyed.
    pub hosts: BTreeMap<InstanceId, String>,
    /// The last applied entry: no token is from a later one.
    pub index: LogIndex,
    /// The last entry of the lineage before this one; 0 when this is the first.
    pub since: LogIndex,
}

impl Bounds {
    /// How many more intents a group may open that has so many open: one in any case, whatever the others hold.
    pub fn open_for(&self, open: usize) -> usize {
        if self.level >= 2 && open == 0 { self.open.max(1) } else { self.open }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            level: crate::command::LEVEL,
            instances: usize::MAX,
            open: usize::MAX,
            overfull: false,
            hosts: BTreeMap::new(),
            index: LogIndex(u64::MAX),
            since: LogIndex(0),
        }
    }
}
