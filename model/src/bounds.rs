//! The limits of the cluster for one group, at one entry of the log.

use std::collections::BTreeMap;

use crate::command::Machine;
use crate::ids::{InstanceId, InstanceRef, LogIndex};

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
    /// The machines of managers: these are never destroyed.
    pub hosts: Hosts,
    /// The last applied entry: no token is from a later one.
    pub index: LogIndex,
    /// The last entry of the lineage before this one; 0 when this is the first.
    pub since: LogIndex,
}

/// The machines of managers, with the names of the managers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(BTreeMap<InstanceId, Vec<(Machine, String)>>);

impl Hosts {
    /// The manager that runs on this instance.
    pub fn manager_on(&self, instance: &InstanceRef) -> Option<&str> {
        let all = self.0.get(&instance.id)?;
        all.iter().find(|(machine, _)| machine.may_be(instance)).map(|(_, manager)| manager.as_str())
    }

    pub fn has(&self, instance: &InstanceRef) -> bool {
        self.manager_on(instance).is_some()
    }
}

impl FromIterator<(Machine, String)> for Hosts {
    fn from_iter<T: IntoIterator<Item = (Machine, String)>>(all: T) -> Self {
        let mut hosts = Hosts::default();
        for (machine, manager) in all {
            hosts.0.entry(machine.id.clone()).or_default().push((machine, manager));
        }
        hosts
    }
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
            hosts: Hosts::default(),
            index: LogIndex(u64::MAX),
            since: LogIndex(0),
        }
    }
}
