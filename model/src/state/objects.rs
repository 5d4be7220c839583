//! Objects as people declare, pause, release and destroy them.

use std::sync::Arc;

use super::State;
use super::context::Context;
use super::group::{GroupState, Lifecycle, Paused};
use crate::answer::{Answer, Committed, Refusal};
use crate::command::{Declaration, Verb};
use crate::event::Kind;
use crate::ids::{GroupId, ObjectKey, Revision};
use crate::spec::{Allocation, GroupSpec, Spec};

impl State {
    pub(super) fn declare(&mut self, context: &mut Context<'_>, items: &[Declaration]) -> Answer {
        // All or nothing: everything is checked before anything is stored.
        for item in items {
            if let Some(refusal) = self.refuse_declaration(item).or_else(|| self.lacks_secret(item)) {
                return Answer::Refused(refusal);
            }
        }
        let declared = items.iter().map(|item| match &item.spec {
            Spec::Group(spec) => self.declare_group(context, spec, item.unvalidated),
        });
        Answer::Committed(declared.collect())
    }

    fn declare_group(&mut self, context: &mut Context<'_>, spec: &GroupSpec, unvalidated: bool) -> Committed {
        let (id, key) = (&spec.id, ObjectKey::group(&spec.id));
        let before = self.groups.get(id).cloned();
        let replaced = before.as_ref().map(|group| group.revision);
        if let Some(before) = &before
            && *before.spec == *spec
            && before.lifecycle != Lifecycle::Releasing
        {
            return Committed { group: id.clone(), revision: before.revision, replaced, unchanged: true };
        }
        let revision = Revision(self.revisions.get(&key).map_or(0, |last| last.0) + 1);
        let mut group = GroupState::committed(before.as_deref(), spec, unvalidated, revision, context);
        if self.level >= 2 {
            group.keep_revision();
        }
        context.emit(
            Some(id),
            Kind::GroupCommitted,
            format!("revision {revision}: {}", group.describe_spec()),
        );
        if let Some(before) = &before
            && before.target != group.target
        {
            let what = format!("to the template of revision {}", group.target);
            context.emit(Some(id), Kind::RolloutStarted, what);
        }
        self.revisions.insert(key, revision);
        self.groups.insert(id.clone(), Arc::new(group));
        Committed { group: id.clone(), revision, replaced, unchanged: false }
    }

    fn refuse_declaration(&self, item: &Declaration) -> Option<Refusal> {
        let Spec::Group(spec) = &item.spec;
        let id = &spec.id;
        let stored = self.groups.get(id);
        if let Some(expected) = item.if_revision {
            let stored = stored.map_or(Revision(0), |group| group.revision);
            if stored != expected {
                return Some(Refusal::Conflict { group: id.clone(), stored, expected });
            }
        }
        let stored = stored?;
        if stored.lifecycle == Lifecycle::Destroying {
            return Some(Refusal::BeingDestroyed { group: id.clone() });
        }
        match (&stored.spec.allocation, &spec.allocation) {
            (Allocation::Size(_), Allocation::Size(_))
            | (Allocation::LogicalIds(_), Allocation::LogicalIds(_)) => None,
            // An empty group has no member to lose.
            _ if stored.is_empty() => None,
            _ => Some(Refusal::OtherAllocation { group: id.clone() }),
        }
    }

    pub(super) fn object(&mut self, context: &mut Context<'_>, key: &ObjectKey, verb: Verb) -> Answer {
        let id = key.as_group().unwrap_or_else(|| GroupId::new(&key.name));
        let Some(group) = self.groups.get_mut(&id) else {
            return Answer::Refused(Refusal::NotFound { group: id });
        };
        let done = match verb {
            Verb::Accept(revision) => accept(group, context, revision),
            // What the open calls make would be lost, or made a second time for who declares it again.
            // Whoever says it twice does not wait for that.
            Verb::Release
                if self.level >= 2
                    && !group.intents.is_empty()
                    && group.lifecycle != Lifecycle::Releasing =>
            {
                Some(release(group))
            }
            Verb::Release => {
                let left = format!("{} instances are left as they are", group.running());
                self.groups.remove(&id);
                Some(left)
            }
            Verb::Destroy => destroy(group),
            Verb::Pause => pause(group, context),
            Verb::Resume => resume(group, context),
            Verb::Rollout(steer) => {
                let group = Arc::make_mut(group);
                let steered = group.steer(context, &id, steer);
                self.revisions.insert(key.clone(), group.revision);
                return steered.map_or_else(
                    |why| Answer::Refused(Refusal::Rollout { group: id, why }),
                    |()| Answer::Done,
                );
            }
        };
        if let Some(what) = done {
            context.emit(Some(&id), Kind::Object(verb), what);
        }
        Answer::Done
    }
}

// Each returns what the event is to say, and nothing when it changed nothing.

fn accept(group: &mut Arc<GroupState>, context: &Context<'_>, revision: Revision) -> Option<String> {
    let waits = group.revision == revision && group.lifecycle == Lifecycle::PendingValidation;
    waits.then(|| {
        let group = Arc::make_mut(group);
        group.lifecycle = Lifecycle::Managed;
        group.begin_anew(context);
        "its plugins have accepted it".into()
    })
}

fn release(group: &mut Arc<GroupState>) -> String {
    let group = Arc::make_mut(group);
    (group.lifecycle, group.paused) = (Lifecycle::Releasing, None);
    format!("{} open calls are settled first", group.intents.len())
}

fn destroy(group: &mut Arc<GroupState>) -> Option<String> {
    (group.lifecycle != Lifecycle::Destroying).then(|| {
        Arc::make_mut(group).lifecycle = Lifecycle::Destroying;
        format!("{} instances are to go", group.running())
    })
}

fn pause(group: &mut Arc<GroupState>, context: &Context<'_>) -> Option<String> {
    (group.paused.is_none() && group.lifecycle != Lifecycle::Releasing).then(|| {
        Arc::make_mut(group).paused = Some(Paused { since: context.at, by: context.by.clone() });
        "no action is taken until it is resumed".into()
    })
}

fn resume(group: &mut Arc<GroupState>, context: &Context<'_>) -> Option<String> {
    group.paused.is_some().then(|| {
        let group = Arc::make_mut(group);
        group.paused = None;
        // Whatever happened meanwhile is looked at before anything is made.
        group.list_from = context.log.index;
        group.begin_anew(context);
        "actions are taken again".into()
    })
}
