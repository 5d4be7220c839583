//! The right number of members without names, and each named one once and nobody else.

use std::collections::BTreeSet;

use super::planner::{Planner, RunningMember};
use crate::ids::{LogicalId, Slot};
use crate::intent::Reason;
use crate::state::Incarnation;

impl<'a> Planner<'a> {
    /// Makes what is missing in the lowest free slots, destroys what is too many.
    pub(super) fn size(&mut self, size: usize) {
        if self.present < size {
            if !self.can_provision() {
                return;
            }
            let missing = size - self.present;
            let free: Vec<Slot> =
                (0..).map(Slot::Ordinal).filter(|slot| !self.taken.contains(slot)).take(missing).collect();
            let most = self.plan.actions.len() + self.room;
            for slot in free {
                // One that is held back leaves its room to the next.
                if self.plan.actions.len() >= most {
                    break;
                }
                let is_last = self.rate == 0 || self.ceiling == 0;
                self.provision(slot);
                if is_last {
                    break;
                }
            }
        } else {
            self.shrink(size);
        }
    }

    /// Destroys what is too many. Whoever may be gone already, or goes to be replaced, is not counted.
    fn shrink(&mut self, size: usize) {
        let surplus = self.present.saturating_sub(self.kept + self.replacing + size);
        if surplus == 0 {
            return;
        }
        let holders: Vec<RunningMember<'a>> =
            self.running.iter().filter(|it| self.stands_for_its_slot(it)).cloned().collect();
        for victim in self.by_worth(holders).into_iter().take(surplus.min(self.room)) {
            let Some(member) = self.group.roster.get(victim.slot) else { continue };
            if matches!(member.incoming.as_deref(), Some(Incarnation::Pending(_))) {
                // Its slot goes when it is known what was made in it: until then it would count still, and another
                // would go in its place.
                continue;
            }
            // Whoever is to take the slot over goes with it.
            let both: Vec<RunningMember<'a>> = self.running_in(victim.slot).cloned().collect();
            for member in both {
                self.destroy(&member, Reason::Terminate);
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

    /// The members that are there in a slot. They stand beside each other, in the order of the roster.
    fn running_in(&self, slot: &Slot) -> impl Iterator<Item = &RunningMember<'a>> {
        let from = self.running.partition_point(|it| it.slot < slot);
        self.running[from..].iter().take_while(move |it| it.slot == slot)
    }

    /// Whether it is the one of its slot that is counted: who takes over is counted when nobody else is there.
    fn stands_for_its_slot(&self, member: &RunningMember<'_>) -> bool {
        !member.incoming || !self.running_in(member.slot).any(|it| !it.incoming)
    }

    /// Whether somebody is in the slot, or is coming, beside the one that holds it.
    pub(super) fn is_being_replaced(&self, slot: &Slot) -> bool {
        self.group
            .roster
            .get(slot)
            .is_some_and(|member| member.current.is_some() && member.incoming.is_some())
    }
}
