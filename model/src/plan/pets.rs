//! Members with names: each of them once, and nobody else.

use std::collections::BTreeSet;

use super::planner::Desk;
use crate::ids::{LogicalId, Slot};
use crate::intent::Reason;

impl Desk<'_> {
    /// Makes the missing, destroys those that are no longer named.
    pub(super) fn names(&mut self, ids: &[LogicalId]) {
        let named: BTreeSet<Slot> = ids.iter().cloned().map(Slot::Logical).collect();
        let (named, unnamed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.living).into_iter().partition(|living| named.contains(living.slot));
        self.living = named;
        self.present -= unnamed.len();
        for living in unnamed {
            self.destroy(&living, Reason::Terminate);
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
