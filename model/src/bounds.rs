//! What the cluster as a whole allows one group, at one entry of the log.

use std::collections::BTreeMap;

use crate::ids::InstanceId;

/// What the cluster as a whole allows one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The feature level that all managers know.
    pub level: u32,
    /// How many more instances may be made before the ceiling is reached.
    pub instances: usize,
    /// How many more intents may be opened.
    pub open: usize,
    /// There are more instances than there may be.
    pub overfull: bool,
    /// The machines that managers run on, with the managers' names: they are not destroyed.
    pub hosts: BTreeMap<InstanceId, String>,
    /// The last entry of the log that was applied: no token was given out after it.
    pub index: u64,
    /// The last entry of the lineage before this one; 0 when this is the first.
    pub since: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            level: crate::command::LEVEL,
            instances: usize::MAX,
            open: usize::MAX,
            overfull: false,
            hosts: BTreeMap::new(),
            index: u64::MAX,
            since: 0,
        }
    }
}
