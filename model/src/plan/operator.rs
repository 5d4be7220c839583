//! What an operator says about a slot that nobody else can see into.

use super::steps::Plan;
use super::waiting::Wait;
use crate::command::Settle;
use crate::ids::{GroupId, InstanceId, InstanceRef};
use crate::observed::Observed;
use crate::state::GroupState;

/// Why an operator's word does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unasked {
    /// The slot is not in doubt, or its call may still take effect: then not even somebody who looks at
    /// the provider knows.
    Slot,
    /// The instance holds another slot, was made for another, or is another cluster's.
    BelongsElsewhere,
    /// The group's plugins do not list the instance.
    NotShown,
}

/// The change that an operator's word comes to, when the latest plan waits for one.
pub fn operators_word(
    id: &GroupId,
    group: &GroupState,
    observed: &Observed,
    plan: &Plan,
    slot: &str,
    made: Option<InstanceId>,
) -> Result<Settle, Unasked> {
    let asked = plan.waits.iter().find_map(|wait| match wait {
        Wait::Operator { intent, slot: asked, .. } if asked.to_string() == slot => Some(intent),
        _ => None,
    });
    let intent = asked.and_then(|intent| group.intents.get(intent)).ok_or(Unasked::Slot)?;
    if let Some(made) = &made {
        let plugin = group.plugin_of(intent.task.template());
        let seen = observed.views.get(plugin).and_then(|view| view.seen.get(made));
        let others = seen.is_some_and(|seen| {
            seen.is_another_clusters() || seen.intent.is_some_and(|other| other != intent.id)
        });
        if others || group.recorded().any(|known| *known.instance == InstanceRef::new(plugin, made)) {
            return Err(Unasked::BelongsElsewhere);
        }
        if seen.is_none() {
            return Err(Unasked::NotShown);
        }
    }
    Ok(Settle { group: id.clone(), intent: intent.id, attempt: intent.attempt, made })
}
