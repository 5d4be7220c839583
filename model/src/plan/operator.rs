//! What an operator says about a slot that nobody else can see into, and about instances that hold none.

use std::collections::BTreeSet;

use super::adopt::template_of;
use super::steps::Plan;
use super::waiting::Wait;
use crate::command::{Settle, Stray, StrayFate, Strays};
use crate::ids::{GroupId, InstanceId, InstanceRef, PluginName, Revision, Slot};
use crate::observed::Observed;
use crate::spec::Allocation;
use crate::state::{GroupState, Lifecycle, Member};
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
    /// The group is being validated, released or destroyed.
    NotActedOn,
    /// Its plugin has not been listed since the group changed: which instances are strays is not known.
    NotListedYet(PluginName),
    /// The latest plan knows no such stray.
    Unknown(InstanceId),
    /// Two plugins list a stray of this id.
    Ambiguous(InstanceId),
    /// It was made by another cluster, which may use it.
    AnotherClusters(InstanceId),
    HostsManager(InstanceId),
    /// It is of a plugin by which the group has no members any more.
    OtherPlugin(InstanceRef),
    /// The group has no free slot for it: it has as many members as are wanted, or no member of its name.
    NoSlot(InstanceId),
}

/// Whether this cluster made a stray, or somebody by hand for it: what is destroyed when an operator gives up all.
pub fn is_own_stray(observed: &Observed, stray: &InstanceRef) -> bool {
    observed.seen(stray).is_some_and(|seen| seen.ours)
}

/// The change that an operator's word on strays comes to: on these, or on all that this cluster made.
pub fn word_on_strays(
    id: &GroupId,
    group: &GroupState,
    observed: &Observed,
    plan: &Plan,
    named: &BTreeSet<InstanceId>,
    fate: StrayFate,
) -> Result<Strays, NoStray> {
    if group.lifecycle != Lifecycle::Managed {
        return Err(NoStray::NotActedOn);
    }
    let mut strays: Vec<&InstanceRef> = Vec::new();
    for name in named {
        let mut all = plan.strays.iter().filter(|it| it.id == *name);
        let one = all.next().ok_or_else(|| unknown(group, observed, name))?;
        if all.next().is_some() {
            return Err(NoStray::Ambiguous(name.clone()));
        }
        strays.push(one);
    }
    if named.is_empty() {
        let hosts = |it: &&InstanceRef| observed.bounds.hosts.has(it);
        strays.extend(plan.strays.iter().filter(|it| is_own_stray(observed, it) && !hosts(it)));
    }
    let mut taken: BTreeSet<Slot> = BTreeSet::new();
    let mut from = 0;
    let mut items = Vec::new();
    for stray in strays {
        let seen = observed.seen(stray).ok_or_else(|| unknown(group, observed, &stray.id))?;
        if fate == StrayFate::Destroyed && seen.is_another_clusters() {
            return Err(NoStray::AnotherClusters(stray.id.clone()));
        }
        if observed.bounds.hosts.has(stray) && fate == StrayFate::Destroyed {
            return Err(NoStray::HostsManager(stray.id.clone()));
        }
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
                own.filter(free).or_else(|| {
                    let found = (from..).find(|n| free(&Slot::Ordinal(*n)))?;
                    from = found + 1;
                    Some(Slot::Ordinal(found))
                })
            }
            (StrayFate::Adopted, Allocation::Size(_)) => None,
        };
        if fate == StrayFate::Adopted && slot.is_none() {
            return Err(NoStray::NoSlot(stray.id.clone()));
        }
        taken.extend(slot.clone());
        items.push(Stray { instance: stray.clone(), template, slot });
    }
    Ok(Strays { group: id.clone(), fate, items })
}

/// Why a name is no stray: it is not known while a listing is older than the last change of the group.
fn unknown(group: &GroupState, observed: &Observed, name: &InstanceId) -> NoStray {
    let old =
        |plugin: &&PluginName| observed.views.get(*plugin).is_none_or(|view| view.after < group.changed);
    let is_member = group.roster.with_id(name).next().is_some();
    let mut plugins = group.templates.values().map(|known| &known.template.instance.plugin);
    match plugins.find(old).filter(|_| !is_member) {
        Some(plugin) => NoStray::NotListedYet(plugin.clone()),
        None => NoStray::Unknown(name.clone()),
    }
}
