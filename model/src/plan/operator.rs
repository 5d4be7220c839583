//! What an operator says about a slot that nobody else can see into, and about instances that hold none.

use super::adopt::template_of;
use super::steps::Plan;
use super::waiting::Wait;
use crate::command::{Settle, Stray, StrayFate, Strays};
use crate::ids::{GroupId, InstanceId, InstanceRef, Revision, Slot};
use crate::observed::Observed;
use crate::spec::Allocation;
use crate::state::{GroupState, Member};
use crate::tags;

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

/// Why an operator's word on an instance does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoStray {
    /// The latest plan knows no such stray.
    Unknown(InstanceId),
    /// Two plugins list a stray of this id.
    Ambiguous(InstanceId),
    /// It is of a plugin by which the group has no members any more.
    OtherPlugin(InstanceRef),
    /// The group has no free slot for it: it has as many members as are wanted, or no member of its name.
    NoSlot(InstanceId),
}

/// The change that an operator's word on strays comes to: on these, or on all.
pub fn word_on_strays(
    id: &GroupId,
    group: &GroupState,
    observed: &Observed,
    plan: &Plan,
    named: &[InstanceId],
    fate: StrayFate,
) -> Result<Strays, NoStray> {
    let mut strays: Vec<&InstanceRef> = Vec::new();
    for name in named {
        let mut all = plan.strays.iter().filter(|it| it.id == *name);
        let one = all.next().ok_or_else(|| NoStray::Unknown(name.clone()))?;
        if all.next().is_some() {
            return Err(NoStray::Ambiguous(name.clone()));
        }
        strays.push(one);
    }
    if named.is_empty() {
        strays.extend(&plan.strays);
    }
    let mut taken: Vec<Slot> = Vec::new();
    let mut items = Vec::new();
    for stray in strays {
        let seen = observed.views.get(&stray.plugin).and_then(|view| view.seen.get(&stray.id));
        let seen = seen.ok_or_else(|| NoStray::Unknown(stray.id.clone()))?;
        let template = template_of(group, &stray.plugin, seen);
        if template == Revision(0) && *group.plugin_of(template) != stray.plugin {
            return Err(NoStray::OtherPlugin(stray.clone()));
        }
        let free = |slot: &Slot| {
            group.wants(slot) && group.roster.get(slot).is_none_or(Member::is_free) && !taken.contains(slot)
        };
        let slot = match (fate, &group.spec.allocation) {
            (StrayFate::Destroyed, _) => None,
            (StrayFate::Adopted, Allocation::LogicalIds(_)) => {
                seen.logical_id().map(Slot::Logical).filter(free)
            }
            (StrayFate::Adopted, Allocation::Size(size))
                if group.present() + taken.len() < *size as usize =>
            {
                let own = seen.tag(tags::SLOT).and_then(|slot| slot.parse().ok()).map(Slot::Ordinal);
                own.filter(free).or_else(|| (0..).map(Slot::Ordinal).find(free))
            }
            (StrayFate::Adopted, Allocation::Size(_)) => None,
        };
        if fate == StrayFate::Adopted && slot.is_none() {
            return Err(NoStray::NoSlot(stray.id.clone()));
        }
        taken.extend(slot.clone());
        items.push(Stray { instance: stray.id.clone(), template, slot });
    }
    Ok(Strays { group: id.clone(), fate, items })
}
