//! Members with names: each of them once, and nobody else.

use std::collections::BTreeSet;

use super::planner::Planner;
use crate::ids::{LogicalId, Slot};
use crate::intent::Reason;

impl Planner<'_> {
    /// Makes the missing, destroys those that are no longer named.
    pub(super) fn names(&mut self, ids: &[LogicalId]) {
        let named: BTreeSet<Slot> = ids.iter().cloned().map(Slot::Logical).collect();
        let (named, unnamed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|running| named.contains(running.slot));
        self.running = named;
        self.present -= unnamed.len();
        for running in unnamed {
            self.destroy(&running, Reason::Terminate);
        }
        let missing: Vec<Slot> =
            ids.iter().cloned().map(Slot::Logical).filter(|slot| !self.taken.contains(slot)).collect();
        if !missing.is_empty() && self.can_provision() {
            for slot in missing {
                self.provision(slot);
            }
        }
    }
}
