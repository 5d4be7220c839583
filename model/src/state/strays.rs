//! An operator's word on instances that carry a group's tag and hold no slot.

use std::sync::Arc;

use super::State;
use super::context::Context;
use super::group::{GroupState, Lifecycle};
use crate::answer::{Answer, Refusal};
use crate::bounds::Bounds;
use crate::command::{Stray, StrayFate, Strays};
use crate::event::Kind;
use crate::ids::InstanceRef;
use crate::limits::{GIVEN_UP_FOR, MOST_GIVEN_UP};
use crate::report::Adoption;
use crate::time::Timestamp;

impl State {
    /// All or none. The planner destroys them as any other, with its drain, as often as it takes.
    pub(super) fn strays(&mut self, context: &mut Context<'_>, strays: &Strays) -> Answer {
        let id = &strays.group;
        let bounds = self.bounds(context.log.index, id);
        let Some(group) = self.groups.get_mut(id) else {
            return Answer::Refused(Refusal::NotFound { group: id.clone() });
        };
        if group.lifecycle != Lifecycle::Managed {
            return Answer::Refused(Refusal::NotActedOn { group: id.clone() });
        }
        let mut changed = (**group).clone();
        let still = |at: &Timestamp| context.at.since(*at) < GIVEN_UP_FOR;
        changed.given_up = changed.given_up.into_iter().filter(|(_, at)| still(at)).collect();
        let before = context.events.len();
        for stray in &strays.items {
            let done = changed.is_stray(&stray.instance, &bounds)
                && match (strays.fate, &stray.slot) {
                    (StrayFate::Destroyed, _) => changed.give_up(context, &stray.instance),
                    (StrayFate::Adopted, Some(slot)) => changed.take_in(
                        context,
                        id,
                        &stray.instance,
                        &Adoption {
                            slot: slot.clone(),
                            instance: stray.instance.id.clone(),
                            template: stray.template,
                        },
                    ),
                    (StrayFate::Adopted, None) => false,
                };
            if !done {
                context.events.truncate(before);
                let Stray { instance, .. } = stray;
                return Answer::Refused(Refusal::NotAStray {
                    group: id.clone(),
                    instance: instance.id.clone(),
                });
            }
        }
        *group = Arc::new(changed);
        if strays.fate == StrayFate::Destroyed {
            let what = format!("{} instances that hold no slot are to be destroyed", strays.items.len());
            context.emit(Some(id), Kind::StraysGivenUp, what);
        }
        Answer::Done
    }
}

impl GroupState {
    fn is_stray(&self, instance: &InstanceRef, bounds: &Bounds) -> bool {
        !self.holds(instance, bounds.level)
            && !self.is_terminating_stray(instance, bounds.level)
            && !bounds.hosts.has(instance)
    }

    fn give_up(&mut self, context: &Context<'_>, instance: &InstanceRef) -> bool {
        self.given_up.insert(instance.clone(), context.at);
        self.given_up.len() <= MOST_GIVEN_UP
    }

    /// Never more members than are wanted, whoever says so.
    fn take_in(
        &mut self,
        context: &mut Context<'_>,
        id: &crate::GroupId,
        instance: &InstanceRef,
        adoption: &Adoption,
    ) -> bool {
        *self.plugin_of(adoption.template) == instance.plugin
            && !self.has_enough()
            && self.adopt(context, id, adoption, true)
    }
}
