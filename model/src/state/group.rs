//! One group, as the managers agree on it.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::command::{Actor, Commit};
use crate::ids::{Generation, InstanceId, IntentId, Revision, Slot};
use crate::intent::{Intent, Task};
use crate::rollout::{Event as Turn, Phase};
use crate::spec::{Allocation, GroupSpec, Template};
use crate::time::{Millis, Timestamp};

use super::Context;

/// How many intents of one group may be open at once: enough to keep every call slot of a leader
/// busy while the next batch is agreed on, and a bound on what a dying leader can leave in doubt.
pub const MOST_OPEN: usize = 1000;

/// How long a group remembers what it destroyed: longer than a provider's listing lags behind.
pub const LISTINGS_LAG: Millis = Millis::seconds(120);

/// When what was destroyed is dropped from the state: later than anybody asks for it, by the clocks of
/// leaders that differ by minutes.
const FORGOTTEN_AFTER: Millis = Millis::seconds(600);

/// A group: what is wanted, how far it has come, who holds which slot, and what is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupState {
    pub spec: Arc<GroupSpec>,
    pub revision: Revision,
    pub committed_at: Timestamp,
    pub committed_by: Actor,
    pub life: Life,
    /// The revision whose template members should have: the oldest one with that template.
    pub target: Revision,
    /// Templates by the revision that brought them: the target's, and every one that still has a
    /// living member, so that old members are drained and destroyed by their own plugins.
    pub templates: OrdMap<Revision, Arc<Known>>,
    pub phase: Phase,
    /// The roster. A slot that has lost its member stays, to remember its generation.
    pub roster: OrdMap<Slot, Member>,
    pub intents: OrdMap<IntentId, Intent>,
    /// The instances that are being destroyed though they hold no slot.
    pub doomed_strays: OrdSet<InstanceId>,
    /// The instances that were destroyed a moment ago, and when. A listing may lag behind: one that
    /// still shows them is no reason to take them in again.
    pub destroyed: OrdMap<InstanceId, Timestamp>,
    /// The last log index that changed the roster: a look that began earlier proves nothing about
    /// who belongs here.
    pub changed: u64,
    /// The log index that created the group, gave it its template, or wanted more of it: a look that
    /// began earlier cannot tell whether its members are there already.
    pub look_from: u64,
}

/// A template with its fingerprint, computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub template: Template,
    pub hash: String,
}

/// Whether a group is acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Stored before its plugins could be asked; nothing is provisioned.
    PendingValidation,
    Managed,
    /// All its members are to go, and then the group itself.
    Destroying,
}

/// One entry of the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The incarnation that holds the slot, or held it last.
    pub generation: Generation,
    pub holder: Holder,
}

/// Who holds a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    /// An instance is being made under this intent. It counts as present.
    Pending(IntentId),
    Living {
        instance: InstanceId,
        /// The template it was made from; 0 when it is none that is known.
        template: Revision,
        since: Timestamp,
        /// The log index that recorded it.
        recorded: u64,
        /// Its flavor has called it healthy once.
        ready: bool,
        /// The intent that destroys it. It no longer counts.
        doomed: Option<IntentId>,
    },
}

impl Holder {
    /// Counts toward the wanted number: it is there or coming, and not going.
    pub fn counts(&self) -> bool {
        match self {
            Holder::Nobody => false,
            Holder::Pending(_) => true,
            Holder::Living { doomed, .. } => doomed.is_none(),
        }
    }
}

impl GroupState {
    /// The group after a commit; `before` is what it was, if it was.
    pub(super) fn committed(
        before: Option<&GroupState>,
        item: &Commit,
        revision: Revision,
        context: &Context<'_>,
    ) -> Self {
        let spec = Arc::new(item.spec.clone());
        let hash = spec.template.fingerprint();
        let fresh = || Arc::new(Known { template: spec.template.clone(), hash: hash.clone() });
        let life = if item.unvalidated { Life::PendingValidation } else { Life::Managed };
        let mut group = match before {
            None => GroupState {
                spec: spec.clone(),
                revision,
                committed_at: context.at,
                committed_by: context.by.clone(),
                life,
                target: revision,
                templates: OrdMap::unit(revision, fresh()),
                phase: Phase::Running { to: revision },
                roster: OrdMap::new(),
                intents: OrdMap::new(),
                doomed_strays: OrdSet::new(),
                destroyed: OrdMap::new(),
                changed: context.log.index,
                look_from: context.log.index,
            },
            Some(before) => GroupState {
                spec: spec.clone(),
                revision,
                committed_at: context.at,
                committed_by: context.by.clone(),
                life,
                ..before.clone()
            },
        };
        // Going back to a template that still has members finds them up to date.
        let known = group.templates.iter().find(|(_, known)| known.hash == hash).map(|(at, _)| *at);
        let target = group.target;
        group.target = match known {
            Some(at) => at,
            None => {
                group.templates.insert(revision, fresh());
                revision
            }
        };
        let more = before.is_some_and(|before| spec.allocation.wants_more_than(&before.spec.allocation));
        if group.target != target || more {
            group.look_from = context.log.index;
        }
        group.phase = group.phase.after(Turn::Target(group.target));
        group.forget_templates();
        group
    }

    /// The template that members should have.
    pub fn template(&self) -> &Arc<Known> {
        self.templates
            .get(&self.target)
            .expect("`committed` stores the target's template and nobody removes it")
    }

    /// The template of a revision, or the target's when that one is not known.
    pub fn template_of(&self, revision: Revision) -> &Arc<Known> {
        self.templates.get(&revision).unwrap_or_else(|| self.template())
    }

    /// The instances that hold a slot.
    pub fn members(&self) -> impl Iterator<Item = &InstanceId> {
        self.roster.values().filter_map(|member| match &member.holder {
            Holder::Living { instance, .. } => Some(instance),
            Holder::Nobody | Holder::Pending(_) => None,
        })
    }

    /// Everybody whom a listing should show: the instances that hold a slot, and those without one that
    /// are being destroyed. With the template, and when each was recorded, by the log and by the clock.
    pub fn recorded(&self) -> impl Iterator<Item = (&InstanceId, Revision, u64, Timestamp)> {
        let members = self.roster.values().filter_map(|member| match &member.holder {
            Holder::Living { instance, template, recorded, since, .. } => {
                Some((instance, *template, *recorded, *since))
            }
            Holder::Nobody | Holder::Pending(_) => None,
        });
        let strays = self.intents.values().filter_map(|intent| match &intent.task {
            // They were listed when they were doomed, so there is nothing to wait for.
            Task::Destroy { instance, slot: None, template, .. } => {
                Some((instance, *template, intent.id.index, Timestamp(0)))
            }
            Task::Destroy { slot: Some(_), .. } | Task::Provision { .. } => None,
        });
        members.chain(strays)
    }

    /// The living members of other templates than the wanted one.
    pub fn outdated(&self) -> impl Iterator<Item = (&Slot, &InstanceId)> {
        self.roster.iter().filter_map(|(slot, member)| match &member.holder {
            Holder::Living { instance, template, doomed: None, .. } if *template != self.target => {
                Some((slot, instance))
            }
            Holder::Living { .. } | Holder::Nobody | Holder::Pending(_) => None,
        })
    }

    /// How many members are living and not doomed.
    pub fn living(&self) -> usize {
        let alive = |member: &&Member| matches!(&member.holder, Holder::Living { doomed: None, .. });
        self.roster.values().filter(alive).count()
    }

    /// Nobody holds a slot and nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.intents.is_empty() && self.roster.values().all(|member| member.holder == Holder::Nobody)
    }

    /// How many members there should be now.
    pub fn wanted(&self) -> usize {
        match self.life {
            Life::Destroying => 0,
            Life::Managed | Life::PendingValidation => self.spec.allocation.count(),
        }
    }

    /// Whether a member may hold this slot at all.
    pub fn wants(&self, slot: &Slot) -> bool {
        match (&self.spec.allocation, slot) {
            (Allocation::Size(_), Slot::Ordinal(_)) => true,
            (Allocation::LogicalIds(ids), Slot::Logical(id)) => ids.contains(id),
            (Allocation::Size(_), Slot::Logical(_)) | (Allocation::LogicalIds(_), Slot::Ordinal(_)) => false,
        }
    }

    /// What was asked, in a few words.
    pub fn wish(&self) -> String {
        let template = &self.spec.template;
        let members = match &self.spec.allocation {
            Allocation::Size(n) => format!("size {n}"),
            Allocation::LogicalIds(ids) => format!("{} logical ids", ids.len()),
        };
        format!("{members} of {} with {}", template.instance.plugin, template.flavor.plugin)
    }

    pub(super) fn forget_destroyed(&mut self, now: Timestamp) {
        let old = |(_, at): &(&InstanceId, &Timestamp)| now.since(**at) > FORGOTTEN_AFTER;
        let old: Vec<InstanceId> = self.destroyed.iter().filter(old).map(|(id, _)| id.clone()).collect();
        for instance in old {
            self.destroyed.remove(&instance);
        }
    }

    /// Drops the templates that nobody needs.
    pub(super) fn forget_templates(&mut self) {
        if self.templates.len() <= 1 {
            return;
        }
        let mut needed = OrdSet::unit(self.target);
        for member in self.roster.values() {
            if let Holder::Living { template, .. } = &member.holder {
                needed.insert(*template);
            }
        }
        for intent in self.intents.values() {
            needed.insert(match &intent.task {
                Task::Provision { template, .. } | Task::Destroy { template, .. } => *template,
            });
        }
        let dropped: Vec<_> = self.templates.keys().filter(|at| !needed.contains(*at)).copied().collect();
        for at in dropped {
            self.templates.remove(&at);
        }
    }
}
