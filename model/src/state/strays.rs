//! An operator's word on instances that carry a group's tag and hold no slot.

use std::sync::Arc;

use super::State;
use super::context::Context;
use super::group::Lifecycle;
use crate::answer::{Answer, Refusal};
use crate::command::{StrayFate, Strays};
use crate::event::Kind;
use crate::ids::IntentId;
use crate::intent::Reason;
use crate::report::{Adoption, Claim};

impl State {
    /// All or none. A destroy opens an intent, which the leader carries out, with its drain, as one that an earlier
    /// leader left behind.
    pub(super) fn strays(&mut self, context: &mut Context<'_>, strays: &Strays) -> Answer {
        let id = &strays.group;
        let mut bounds = self.bounds(context.log.index, id);
        let Some(group) = self.groups.get_mut(id) else {
            return Answer::Refused(Refusal::NotFound { group: id.clone() });
        };
        if group.lifecycle != Lifecycle::Managed || group.paused.is_some() {
            return Answer::Refused(Refusal::NotActedOn { group: id.clone() });
        }
        let mut changed = (**group).clone();
        let before = context.events.len();
        for (offset, stray) in strays.items.iter().enumerate() {
            let (instance, template) = (stray.instance.clone(), stray.template);
            let done = match (strays.fate, &stray.slot) {
                (StrayFate::Destroyed, _) => {
                    let intent = IntentId { index: context.log.index, offset: offset as u32 };
                    let (slot, reason) = (None, Reason::Terminate);
                    let claim = Claim::Destroy { instance, slot, template, reason };
                    changed.admit(context, intent, &claim, &mut bounds).is_ok()
                }
                (StrayFate::Adopted, Some(slot)) => {
                    let slot = slot.clone();
                    changed.adopt(context, id, &Adoption { slot, instance, template })
                }
                (StrayFate::Adopted, None) => false,
            };
            if !done {
                context.events.truncate(before);
                let instance = stray.instance.clone();
                return Answer::Refused(Refusal::NotAStray { group: id.clone(), instance });
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
