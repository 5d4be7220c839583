//! The right number of members without names, and each named one once and nobody else.

use std::collections::BTreeSet;

use super::planner::{Planner, RunningMember};
use crate::ids::{LogicalId, Slot};
use crate::intent::Reason;

impl<'a> Planner<'a> {
    /// Makes what is missing in the lowest free slots, destroys what is too many.
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
        } else if self.present - self.kept.min(self.present) > size {
            // Whoever may be gone already is not counted: nobody goes in vain.
            let surplus = self.present - self.kept - size;
            let holders: Vec<RunningMember<'a>> =
                self.running.iter().filter(|it| self.stands_for_its_slot(it)).cloned().collect();
            for victim in self.by_worth(holders).into_iter().take(surplus) {
                // Whoever is to take the slot over goes with it.
                let both: Vec<RunningMember<'a>> =
                    self.running.iter().filter(|it| it.slot == victim.slot).cloned().collect();
                for member in both {
                    self.destroy(&member, Reason::Terminate);
                }
            }
        }
    }

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

    /// Whether it is the one of its slot that is counted: who takes over is counted when nobody else is there.
    fn stands_for_its_slot(&self, member: &RunningMember<'_>) -> bool {
        !member.incoming || !self.running.iter().any(|it| it.slot == member.slot && !it.incoming)
    }

    /// Whether somebody is in the slot, or is coming, beside the one that holds it.
    pub(super) fn is_being_replaced(&self, slot: &Slot) -> bool {
        self.group
            .roster
            .get(slot)
            .is_some_and(|member| member.current.is_some() && member.incoming.is_some())
    }
}
