//! Members with names: each of them once, and nobody else.

use crate::ids::{LogicalId, Slot};
use crate::intent::Reason;

use super::Desk;

impl Desk<'_> {
    /// Makes the missing, destroys those that are no longer named.
    pub(super) fn names(&mut self, ids: &[LogicalId]) {
        let unnamed: Vec<_> =
            self.living.iter().filter(|living| !self.group.wants(living.slot)).cloned().collect();
        for living in unnamed {
            self.present -= 1;
            self.living.retain(|other| other.slot != living.slot);
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
