//! The replicated state of one group.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::context::Context;
use crate::bounds::Bounds;
use crate::command::Actor;
use crate::failpoints::{Protection, is_left_out};
use crate::ids::{InstanceId, InstanceRef, IntentId, LogIndex, PluginName, Revision, Slot};
use crate::intent::{Intent, Task};
use crate::limits::{
    DESTROYED_KEPT, FORGOTTEN_AFTER, HEAVIEST_HISTORY, MOST_REPEATED, MOST_REVISIONS, RATE_BASE,
    RATE_PER_MEMBER, RATE_WINDOW,
};
use crate::rollout::{Phase, Rollout};
use crate::spec::{Allocation, Disruption, GroupSpec, Template};
use crate::state::{Member, Occupied, Roster, Verdict};
use crate::time::{Millis, Timestamp};

/// A group: its spec, the progress of its rollout, its slots with their instances, and its open intents.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupState {
    pub spec: Arc<GroupSpec>,
    pub revision: Revision,
    pub committed_at: Timestamp,
    pub committed_by: Actor,
    /// The latest accepted specs, including this one: for history, diff and undo. Since feature level 2.
    pub revisions: OrdMap<Revision, Accepted>,
    pub lifecycle: Lifecycle,
    /// When and by whom the group was paused: no action of any kind is taken.
    pub paused: Option<Paused>,
    /// The revision whose template members should have: the oldest one with that template.
    pub target: Revision,
    /// Templates by the revision that introduced them: the target's, and every one that still has a
    /// member or an open intent, so that old members are drained and destroyed by their own plugins.
    pub templates: OrdMap<Revision, Arc<TemplateRecord>>,
    pub phase: Phase,
    /// What is known of the rollout beside its phase. Since feature level 2.
    pub rollout: Rollout,
    pub roster: Roster,
    pub intents: OrdMap<IntentId, Intent>,
    /// The instances that are being destroyed though they hold no slot.
    pub terminating_strays: OrdSet<InstanceRef>,
    /// Strays that are to be destroyed by an operator's word, and since when. Since feature level 2.
    pub given_up: OrdMap<InstanceRef, Timestamp>,
    /// The instances that were destroyed a moment ago, and when. A listing may lag behind: one that
    /// still has them is no reason to adopt them again. Without their plugins until feature level 2.
    pub destroyed: OrdMap<InstanceRef, Timestamp>,
    /// The last log index that changed the roster: a listing that began earlier proves nothing about
    /// which instances belong to the group.
    pub changed: LogIndex,
    /// The log index that created the group, changed its template, or increased its size: a listing that
    /// began earlier does not prove that members are missing.
    pub list_from: LogIndex,
    /// Provisions that were attempted more than once, with the instance that is kept of each: another one
    /// with the same token is a duplicate.
    pub repeated: OrdMap<IntentId, Option<InstanceId>>,
    /// The rate limit: until when the instances created so far use up the rate at which the group may
    /// create them.
    pub paid_until: Timestamp,
    /// When a group of this name was declared again, until listings have shown all that it had before: it knows nothing
    /// of that. Since feature level 2.
    pub declared_again: Option<Timestamp>,
}

/// A spec that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub spec: Arc<GroupSpec>,
    pub at: Timestamp,
    pub by: Actor,
}

/// The pause of an object: no action is taken until an operator resumes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    pub since: Timestamp,
    pub by: Actor,
}

/// A template with its fingerprint, computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRecord {
    pub template: Template,
    pub hash: String,
}

/// The state of a group: whether the managers act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Stored before its plugins could validate it; nothing is provisioned.
    PendingValidation,
    Managed,
    /// All its members are destroyed, and then the group is removed.
    Destroying,
    /// The calls that are under way are settled, and then the group is removed; its instances stay. Since feature
    /// level 2.
    Releasing,
}

/// An instance that listings should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded<'a> {
    pub instance: &'a InstanceRef,
    pub template: Revision,
    /// The log entry that recorded it, and its time.
    pub index: LogIndex,
    pub since: Timestamp,
    pub ready: bool,
}

impl GroupState {
    /// Whether this instance of a plugin holds a slot or is to.
    pub fn has(&self, plugin: &PluginName, instance: &InstanceId) -> bool {
        self.roster.slot_of(&InstanceRef::new(plugin, instance)).is_some()
    }

    /// The plugin that has the instances of a template.
    pub fn plugin_of(&self, template: Revision) -> &PluginName {
        &self.template_of(template).template.instance.plugin
    }

    /// Whether a member has this id, of this plugin, or of any before feature level 2.
    pub fn holds(&self, instance: &InstanceRef, level: u32) -> bool {
        match level {
            0 | 1 => self.roster.with_id(&instance.id).next().is_some(),
            _ if is_left_out(Protection::InstanceRef) => self.roster.with_id(&instance.id).next().is_some(),
            _ => self.roster.slot_of(instance).is_some(),
        }
    }

    /// Whether an instance of this id that holds no slot is being destroyed, of this plugin, or of any before feature
    /// level 2.
    pub fn is_terminating_stray(&self, instance: &InstanceRef, level: u32) -> bool {
        match level {
            0 | 1 => self.terminating_strays.iter().any(|it| it.id == instance.id),
            _ => self.terminating_strays.contains(instance),
        }
    }

    /// Derives the plugins of strays that are being destroyed from their templates.
    pub(super) fn name_plugins_of_strays(&mut self) {
        let mut named = Vec::new();
        for (id, open) in self.intents.iter() {
            if let Task::Destroy { instance, slot: None, template, .. } = &open.task {
                named.push((*id, InstanceRef::new(self.plugin_of(*template), &instance.id)));
            }
        }
        self.terminating_strays = named.iter().map(|(_, instance)| instance.clone()).collect();
        for (id, whole) in named {
            if let Some(Task::Destroy { instance, .. }) = self.intents.get_mut(&id).map(|open| &mut open.task)
            {
                *instance = whole;
            }
        }
    }

    /// When an instance of this id was destroyed last, if that was a moment ago. Of any plugin: two may serve one
    /// provider, and one of them lag behind.
    pub fn destroyed_at(&self, id: &InstanceId) -> Option<Timestamp> {
        let first = InstanceRef::of_any_plugin(id);
        self.destroyed.range(first..).take_while(|(it, _)| it.id == *id).map(|(_, at)| *at).max()
    }

    /// The group after a commit; `before` is the group as it was, if it existed.
    pub(super) fn committed(
        before: Option<&GroupState>,
        spec: &GroupSpec,
        unvalidated: bool,
        revision: Revision,
        context: &Context<'_>,
    ) -> Self {
        let spec = Arc::new(spec.clone());
        let hash = spec.template.fingerprint();
        let fresh = || Arc::new(TemplateRecord { template: spec.template.clone(), hash: hash.clone() });
        let lifecycle = if unvalidated { Lifecycle::PendingValidation } else { Lifecycle::Managed };
        let mut group = match before {
            None => GroupState {
                spec: spec.clone(),
                revision,
                committed_at: context.at,
                committed_by: context.by.clone(),
                revisions: OrdMap::new(),
                lifecycle,
                paused: None,
                target: revision,
                templates: OrdMap::unit(revision, fresh()),
                phase: Phase::Running { to: revision },
                rollout: Rollout::default(),
                roster: Roster::default(),
                intents: OrdMap::new(),
                terminating_strays: OrdSet::new(),
                given_up: OrdMap::new(),
                destroyed: OrdMap::new(),
                changed: context.log.index,
                list_from: context.log.index,
                repeated: OrdMap::new(),
                paid_until: Timestamp(0),
                declared_again: (context.level >= 2 && revision > Revision(1)).then_some(context.at),
            },
            Some(before) => GroupState {
                spec: spec.clone(),
                revision,
                committed_at: context.at,
                committed_by: context.by.clone(),
                lifecycle,
                paid_until: Timestamp(0),
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
            group.list_from = context.log.index;
        }
        let phase = group.phase.with_target(group.target);
        if context.level >= 2 && (before.is_none() || phase != group.phase || group.target != target) {
            // Of before this was recorded.
            let succeeded = before.filter(|before| matches!(before.phase, Phase::Succeeded { .. }));
            let stable = group.rollout.stable.or(succeeded.map(|before| before.revision));
            if let Some(before) = before {
                group.revisions.entry(before.revision).or_insert_with(|| before.accepted());
            }
            group.rollout = Rollout {
                began: context.at,
                since: context.at,
                progressed: context.at,
                stable,
                ..Rollout::default()
            };
        }
        group.phase = match phase {
            // Nobody is watched any more.
            Phase::Baking { to } if spec.updating.canary.is_none() => Phase::Running { to },
            phase => phase,
        };
        let is_stable =
            matches!(phase, Phase::Succeeded { at } | Phase::RolledBack { at } if at == group.target);
        if context.level >= 2 && is_stable {
            group.rollout.stable = Some(revision);
        }
        group.forget_templates();
        group
    }

    /// Its spec, as it is kept.
    fn accepted(&self) -> Accepted {
        Accepted { spec: self.spec.clone(), at: self.committed_at, by: self.committed_by.clone() }
    }

    /// Keeps the spec for history and undo, and drops the oldest when there are too many.
    pub(super) fn keep_revision(&mut self) {
        self.revisions.insert(self.revision, self.accepted());
        let weight =
            |all: &OrdMap<Revision, Accepted>| -> usize { all.values().map(|it| it.spec.weight()).sum() };
        while self.revisions.len() > 1
            && (self.revisions.len() > MOST_REVISIONS || weight(&self.revisions) > HEAVIEST_HISTORY)
        {
            // What a rollback goes back to stays.
            let is_needed = |at: &&Revision| **at == self.revision || self.rollout.stable == Some(**at);
            let Some(oldest) = self.revisions.keys().find(|at| !is_needed(at)).copied() else { return };
            self.revisions.remove(&oldest);
        }
    }

    /// The template that members should have.
    pub fn template(&self) -> &Arc<TemplateRecord> {
        self.templates
            .get(&self.target)
            .expect("`committed` stores the target's template and nobody removes it")
    }

    /// The template of a revision, or the target's when it is not kept.
    pub fn template_of(&self, revision: Revision) -> &Arc<TemplateRecord> {
        self.templates.get(&revision).unwrap_or_else(|| self.template())
    }

    /// The current and incoming instances of all slots.
    pub fn members(&self) -> impl Iterator<Item = &InstanceRef> {
        self.roster.instances()
    }

    /// The record of an instance in its slot.
    pub fn occupied(&self, instance: &InstanceRef) -> Option<&Occupied> {
        let slot = self.roster.slot_of(instance)?;
        self.roster.get(slot)?.instances().find(|it| it.instance == *instance)
    }

    /// Every instance that listings should have: those in slots, and those without one that are being
    /// destroyed.
    pub fn recorded(&self) -> impl Iterator<Item = Recorded<'_>> {
        let members = self.roster.values().flat_map(Member::instances).map(|it| Recorded {
            instance: &it.instance,
            template: it.template,
            index: it.recorded,
            since: it.since,
            ready: it.health != Verdict::Booting,
        });
        let strays = self.intents.values().filter_map(|intent| match &intent.task {
            // They were listed when they were claimed, so there is nothing to wait for.
            Task::Destroy { instance, slot: None, template, .. } => {
                let (index, since) = (intent.id.index, Timestamp(0));
                Some(Recorded { instance, template: *template, index, since, ready: false })
            }
            Task::Destroy { slot: Some(_), .. } | Task::Provision { .. } | Task::Label { .. } => None,
        });
        members.chain(strays)
    }

    /// The members of other templates than the target's that are not terminating yet.
    pub fn outdated(&self) -> impl Iterator<Item = (&Slot, &InstanceRef)> {
        self.roster.iter().flat_map(|(slot, member)| {
            let old = member.instances().filter(|it| it.terminating.is_none() && it.template != self.target);
            old.map(move |it| (slot, &it.instance))
        })
    }

    /// How many slots have an instance that is not terminating.
    pub fn running(&self) -> usize {
        let stays = |member: &&Member| member.instances().any(|it| it.terminating.is_none());
        self.roster.values().filter(stays).count()
    }

    /// How many slots count toward the desired number: they have a pending or running instance, which is not
    /// terminating.
    pub fn present(&self) -> usize {
        self.roster.present()
    }

    /// Whether an intent to label this instance is open.
    pub fn is_being_labelled(&self, instance: &InstanceId) -> bool {
        let labels = |open: &Intent| matches!(&open.task, Task::Label { instance: it, .. } if it == instance);
        self.intents.values().any(labels)
    }

    /// No slot has an instance, and no intent is open.
    pub fn is_empty(&self) -> bool {
        self.intents.is_empty() && self.roster.values().all(Member::is_free)
    }

    /// The desired number of members.
    pub fn desired(&self) -> usize {
        match self.lifecycle {
            Lifecycle::Destroying => 0,
            Lifecycle::Managed | Lifecycle::PendingValidation | Lifecycle::Releasing => {
                self.spec.allocation.count()
            }
        }
    }

    /// What a rollout may do to it. Where the cluster has no room for one more, and the spec does not say how many may be
    /// away, one may.
    pub fn disruption(&self, bounds: &Bounds) -> Disruption {
        let mut may = self.spec.updating.disruption(&self.spec.allocation);
        let is_full = bounds.instances == 0 || bounds.level < 2;
        if is_full && self.spec.updating.max_unavailable.is_none() {
            may.unavailable = may.unavailable.max(1);
        }
        may
    }

    /// Whether a member may hold this slot at all.
    pub fn wants(&self, slot: &Slot) -> bool {
        match (&self.spec.allocation, slot) {
            (Allocation::Size(_), Slot::Ordinal(_)) => true,
            (Allocation::LogicalIds(ids), Slot::Logical(id)) => ids.contains(id),
            (Allocation::Size(_), Slot::Logical(_)) | (Allocation::LogicalIds(_), Slot::Ordinal(_)) => false,
        }
    }

    /// The spec in a few words.
    pub fn describe_spec(&self) -> String {
        self.spec.describe()
    }

    pub(super) fn forget_destroyed(&mut self, now: Timestamp) {
        let most = self.destroyed.len().saturating_sub(DESTROYED_KEPT);
        if most == 0 {
            return;
        }
        let old = |(_, at): &(&InstanceRef, &Timestamp)| now.since(**at) > FORGOTTEN_AFTER;
        let mut old: Vec<(Timestamp, InstanceRef)> =
            self.destroyed.iter().filter(old).map(|(id, at)| (*at, id.clone())).collect();
        old.sort();
        for (_, instance) in old.into_iter().take(most) {
            self.destroyed.remove(&instance);
        }
    }

    /// The time of the rate window that one created instance uses up.
    fn price(&self) -> Millis {
        let most = RATE_BASE + RATE_PER_MEMBER * self.desired() as u64;
        Millis((RATE_WINDOW.0 / most).max(1))
    }

    /// Until when the rate is used up, by a clock that may have been set back.
    fn paid(&self, now: Timestamp) -> Timestamp {
        self.paid_until.clamp(now, now + RATE_WINDOW)
    }

    /// How many instances may be created now by the rate limit.
    pub fn may_make(&self, now: Timestamp) -> usize {
        ((now + RATE_WINDOW).since(self.paid(now)).0 / self.price().0) as usize
    }

    /// When at least one instance may be created by the rate limit.
    pub fn may_make_from(&self, now: Timestamp) -> Timestamp {
        (self.paid(now) + self.price() - RATE_WINDOW).max(now)
    }

    /// Counts one created instance; false when the rate is used up.
    pub(super) fn pay(&mut self, now: Timestamp) -> bool {
        let may = self.may_make(now) > 0;
        if may {
            self.paid_until = self.paid(now) + self.price();
        }
        may
    }

    pub(super) fn remember_repeated(&mut self, intent: IntentId, kept: Option<InstanceId>) {
        self.repeated.insert(intent, kept);
        while self.repeated.len() > MOST_REPEATED {
            self.repeated =
                self.repeated.without(&self.repeated.get_min().expect("it is not empty").0.clone());
        }
    }

    /// Drops the templates that no member and no intent needs.
    pub(super) fn forget_templates(&mut self) {
        if self.templates.len() <= 1 {
            return;
        }
        let mut needed = OrdSet::unit(self.target);
        for member in self.roster.values().flat_map(Member::instances) {
            needed.insert(member.template);
        }
        for intent in self.intents.values() {
            needed.insert(intent.task.template());
        }
        let dropped: Vec<_> = self.templates.keys().filter(|at| !needed.contains(*at)).copied().collect();
        for at in dropped {
            self.templates.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LONGEST_CALL;

    #[test]
    fn what_was_destroyed_last_is_remembered_whatever_a_clock_says() {
        let part = |name: &str| crate::part::Part { plugin: name.into(), properties: crate::Opaque::null() };
        let spec = GroupSpec {
            id: "web".into(),
            allocation: Allocation::Size(1),
            template: Template { instance: part("p"), flavor: part("f") },
            updating: crate::Updating::default(),
            healing: Default::default(),
        };
        let by = Actor("test".into());
        let context = Context {
            log: crate::LogId::default(),
            at: Timestamp(0),
            said: Timestamp(0),
            by: &by,
            level: crate::command::LEVEL,
            events: Vec::new(),
        };
        let mut group = GroupState::committed(None, &spec, false, Revision(1), &context);
        let of = |id: String| InstanceRef::new(&"p".into(), &id.into());
        let count = DESTROYED_KEPT as u64 + 10;
        for n in 0..count {
            group.destroyed.insert(of(format!("i{n:05}")), Timestamp(n));
        }
        // By its own clock this leader took over hours later.
        group.forget_destroyed(Timestamp(count) + Millis::seconds(36_000));
        assert_eq!(group.destroyed.len(), DESTROYED_KEPT);
        assert!(group.destroyed.contains_key(&of("i01009".into())), "the latest are kept");
        // And of more, those that may still be listed.
        for n in 0..count {
            group.destroyed.insert(of(format!("j{n:05}")), Timestamp(count + n));
        }
        group.forget_destroyed(Timestamp(2 * count) + LONGEST_CALL);
        assert_eq!(group.destroyed.len(), DESTROYED_KEPT + count as usize);
    }
}
