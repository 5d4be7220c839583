//! Objects as people declare, pause, release and destroy them.

use std::sync::Arc;

use super::State;
use super::context::Context;
use super::group::{GroupState, Lifecycle, Paused};
use crate::answer::{Answer, Committed, Refusal};
use crate::command::Declaration;
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

    /// The group that is meant; otherwise what to answer.
    fn group_mut(&mut self, key: &ObjectKey) -> Result<(GroupId, &mut Arc<GroupState>), Answer> {
        let id = key.as_group().unwrap_or_else(|| GroupId::new(&key.name));
        match self.groups.get_mut(&id) {
            Some(group) => Ok((id, group)),
            None => Err(Answer::Refused(Refusal::NotFound { group: id })),
        }
    }

    pub(super) fn accepted(
        &mut self,
        context: &mut Context<'_>,
        key: &ObjectKey,
        revision: Revision,
    ) -> Answer {
        let (id, group) = match self.group_mut(key) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        if group.revision == revision && group.lifecycle == Lifecycle::PendingValidation {
            Arc::make_mut(group).lifecycle = Lifecycle::Managed;
            context.emit(Some(&id), Kind::GroupValidated, "its plugins have accepted it");
        }
        Answer::Done
    }

    pub(super) fn release(&mut self, context: &mut Context<'_>, key: &ObjectKey) -> Answer {
        let id = match self.group_mut(key) {
            Ok((id, group)) => {
                let left = format!("{} instances are left as they are", group.running());
                context.emit(Some(&id), Kind::GroupFreed, left);
                id
            }
            Err(answer) => return answer,
        };
        self.groups.remove(&id);
        Answer::Done
    }

    pub(super) fn destroy(&mut self, context: &mut Context<'_>, key: &ObjectKey) -> Answer {
        let (id, group) = match self.group_mut(key) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        if group.lifecycle != Lifecycle::Destroying {
            let group = Arc::make_mut(group);
            group.lifecycle = Lifecycle::Destroying;
            let what = format!("{} instances are to go", group.running());
            context.emit(Some(&id), Kind::GroupDestroying, what);
        }
        Answer::Done
    }

    pub(super) fn pause(&mut self, context: &mut Context<'_>, key: &ObjectKey) -> Answer {
        let (id, group) = match self.group_mut(key) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        if group.paused.is_none() {
            Arc::make_mut(group).paused = Some(Paused { since: context.at, by: context.by.clone() });
            context.emit(Some(&id), Kind::GroupPaused, "no action is taken until it is resumed");
        }
        Answer::Done
    }

    pub(super) fn resume(&mut self, context: &mut Context<'_>, key: &ObjectKey) -> Answer {
        let (id, group) = match self.group_mut(key) {
            Ok(found) => found,
            Err(answer) => return answer,
        };
        if group.paused.is_some() {
            let group = Arc::make_mut(group);
            group.paused = None;
            // Whatever happened meanwhile is looked at before anything is made.
            group.list_from = context.log.index;
            context.emit(Some(&id), Kind::GroupResumed, "actions are taken again");
        }
        Answer::Done
    }
}
