//! Members without names: the right number of them, in the lowest free slots.

use super::planner::Planner;
use crate::ids::Slot;
use crate::intent::Reason;

impl Planner<'_> {
    /// Makes what is missing, destroys what is too many.
    pub(super) fn size(&mut self, size: usize) {
        if self.present < size {
            if !self.can_provision() {
                return;
            }
            let missing = size - self.present;
            let free: Vec<Slot> = (0..)
                .map(Slot::Ordinal)
                .filter(|slot| !self.taken.contains(slot))
                .take(missing.min(self.room))
                .collect();
            for slot in free {
                self.provision(slot);
            }
        } else if self.present - self.kept > size {
            // Whoever may be gone already is not counted: nobody goes in vain.
            let surplus = self.present - self.kept - size;
            for victim in self.by_worth(self.running.clone()).into_iter().take(surplus) {
                self.destroy(&victim, Reason::Terminate);
            }
        }
    }
}
