//! An operator's word on a provision whose outcome nobody can see.

use std::sync::Arc;

use super::State;
use super::context::Context;
use crate::answer::{Answer, Refusal};
use crate::command::Settle;
use crate::event::Kind;
use crate::ids::InstanceRef;
use crate::intent::{Intent, Outcome, Task};

impl State {
    /// It counts only while nobody else has found out, or tries, again.
    pub(super) fn settle(&mut self, context: &mut Context<'_>, settle: &Settle) -> Answer {
        let Settle { group: id, intent, attempt, made } = settle;
        let Some(group) = self.groups.get_mut(id) else {
            return Answer::Refused(Refusal::NotFound { group: id.clone() });
        };
        let open = group.intents.get(intent);
        let doubted =
            |open: &&Intent| open.attempt == *attempt && matches!(open.task, Task::Provision { .. });
        let taken = made.as_ref().zip(open).is_some_and(|(id, open)| {
            let it = InstanceRef::new(group.plugin_of(open.task.template()), id);
            group.holds(&it, context.level) || group.is_terminating_stray(&it, context.level)
        });
        let Some(slot) = open.filter(doubted).filter(|_| !taken).and_then(|open| open.task.slot().cloned())
        else {
            return Answer::Refused(Refusal::NotInDoubt { group: id.clone(), intent: *intent });
        };
        let group = Arc::make_mut(group);
        let outcome = match made {
            Some(instance) => Outcome::Done(instance.clone()),
            None => {
                Outcome::Refused { message: "an operator says that nothing was made".into(), retryable: true }
            }
        };
        let said = made.as_ref().map_or_else(|| "nothing was made".to_owned(), |it| format!("{it} was made"));
        context.emit(Some(id), Kind::IntentSettled, format!("slot {slot}: {said}"));
        let mut held = group.held_of(context, std::iter::once((*intent, &outcome)));
        group.close(context, id, *intent, &outcome, &mut held);
        group.remember_repeated(*intent, made.clone());
        Answer::Done
    }
}
