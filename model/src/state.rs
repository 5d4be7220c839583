//! The replicated machine: intentions and verdicts, never observations.
//!
//! Its collections share structure between versions, so that a clone for readers costs nothing
//! worth counting, whatever its size.

mod access;
mod context;
mod group;
mod members;
mod records;
mod recovery;
mod report;
mod secrets;
mod settings;

use std::sync::Arc;

use context::Context;
use imbl::{OrdMap, OrdSet, Vector};

use crate::access::{Authorities, Token, TokenId};
use crate::command::{Answer, Change, Command, Commit, Committed, Manager, Refusal};
use crate::event::{Event, Kind};
use crate::ids::{ClusterId, GroupId, LogId, NodeId, RequestId, Revision};
use crate::limits::ANSWERS_KEPT;
use crate::lineage::Lineages;
use crate::secret::SecretName;
use crate::spec::Allocation;
use crate::time::Timestamp;

pub use group::{GroupState, Holder, Lifecycle, Member, Recorded, TemplateRecord};
pub use records::{StoredSecret, Variable};
pub use settings::RESERVED;

/// Everything the managers agree on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Empty until the cluster is founded.
    pub cluster: Option<ClusterId>,
    pub lineages: Lineages,
    /// The latest time that a proposer read. Never runs backwards.
    pub time: Timestamp,
    pub groups: OrdMap<GroupId, Arc<GroupState>>,
    /// Revision numbers outlive their group: a group that is declared again goes on counting, so
    /// that an old `--if-revision` never fits by accident.
    pub revisions: OrdMap<GroupId, Revision>,
    pub managers: OrdMap<NodeId, Manager>,
    /// Managers that are to receive the log and not to vote.
    pub learners: OrdSet<NodeId>,
    /// Managers that are no longer members, with the identity of their disk: they are not heard.
    pub removed: OrdMap<NodeId, String>,
    pub variables: OrdMap<String, Variable>,
    pub authorities: Option<Authorities>,
    pub tokens: OrdMap<TokenId, Token>,
    pub secrets: OrdMap<SecretName, StoredSecret>,
    /// The feature level that all managers have reached; never lowered. What a lower one does not know is not
    /// written.
    pub level: u32,
    /// First answers, oldest first.
    pub answers: Vector<(RequestId, Answer)>,
    /// Where in the log a request was first answered: the index into `answers`, counted for ever.
    pub answered: OrdMap<RequestId, u64>,
    /// How many answers were dropped from the front.
    pub answers_dropped: u64,
}

/// What applying one command brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    pub answer: Answer,
    pub events: Vec<Event>,
}

impl State {
    pub fn group(&self, id: &GroupId) -> Option<&Arc<GroupState>> {
        self.groups.get(id)
    }

    /// Applies one entry. Cannot fail: a command that no longer fits is answered, not refused, so
    /// that every replica stays in step.
    pub fn apply(&mut self, log: LogId, command: &Command) -> Applied {
        self.time = self.time.max(command.at);
        if let Some(answer) = self.first_answer(command.id) {
            return Applied { answer: answer.clone(), events: Vec::new() };
        }
        let mut context =
            Context { log, at: self.time, said: command.at, by: &command.by, events: Vec::new() };
        let answer = match &command.change {
            Change::Bootstrap { cluster, lineage, manager, authority } => {
                self.bootstrap(&mut context, cluster, *lineage, manager, authority.as_ref())
            }
            Change::Join { manager, token } => self.join(&mut context, manager, token.as_ref()),
            Change::Commit { items } => self.commit(&mut context, items),
            Change::Validated { group, revision } => self.validated(&mut context, group, *revision),
            Change::Free { group } => self.free(&mut context, group),
            Change::Destroy { group } => self.destroy(&mut context, group),
            Change::Report(report) => self.report(&mut context, report),
            Change::SetVariable { key, value } => self.set_variable(&context, key, value),
            Change::Settle(settle) => self.settle(&mut context, settle),
            Change::SetMemberRole { nodes, role } => self.set_member_role(&mut context, nodes, *role),
            Change::CreateToken(new) => self.create_token(&mut context, new),
            Change::RevokeToken { id } => self.revoke_token(&mut context, id),
            Change::Login { token, name, key } => self.log_in(&mut context, token, name, key),
            Change::Rotate { next, bridge } => self.rotate(&mut context, next, bridge),
            Change::StepRotation { after } => self.step_rotation(&mut context, *after),
            Change::SetSecret { name, value } => self.set_secret(&mut context, name, value),
            Change::RemoveSecret { name } => self.remove_secret(&mut context, name),
        };
        if !matches!(command.change, Change::Report(_)) {
            self.keep_answer(command.id, &answer);
        }
        Applied { answer, events: context.events }
    }

    /// What was answered to a request before, as long as it is kept.
    pub fn first_answer(&self, id: RequestId) -> Option<&Answer> {
        let place = usize::try_from(self.answered.get(&id)? - self.answers_dropped).ok()?;
        self.answers.get(place).map(|(_, answer)| answer)
    }

    fn keep_answer(&mut self, id: RequestId, answer: &Answer) {
        self.answered.insert(id, self.answers_dropped + self.answers.len() as u64);
        self.answers.push_back((id, answer.clone()));
        while self.answers.len() > ANSWERS_KEPT {
            if let Some((old, _)) = self.answers.pop_front() {
                self.answered.remove(&old);
                self.answers_dropped += 1;
            }
        }
    }

    fn commit(&mut self, context: &mut Context<'_>, items: &[Commit]) -> Answer {
        // All or nothing: everything is checked before anything is stored.
        for item in items {
            if let Some(refusal) = self.refuse_commit(item).or_else(|| self.lacks_secret(item)) {
                return Answer::Refused(refusal);
            }
        }
        let mut committed = Vec::new();
        for item in items {
            let id = &item.spec.id;
            let before = self.groups.get(id).cloned();
            let replaced = before.as_ref().map(|group| group.revision);
            if let Some(before) = &before
                && *before.spec == item.spec
            {
                let revision = before.revision;
                committed.push(Committed { group: id.clone(), revision, replaced, unchanged: true });
                continue;
            }
            let revision = Revision(self.revisions.get(id).map_or(0, |last| last.0) + 1);
            let group = GroupState::committed(before.as_deref(), item, revision, context);
            context.emit(
                Some(id),
                Kind::GroupCommitted,
                format!("revision {revision}: {}", group.describe_spec()),
            );
            if let Some(before) = &before
                && before.target != group.target
            {
                context.emit(
                    Some(id),
                    Kind::RolloutStarted,
                    format!("to the template of revision {}", group.target),
                );
            }
            self.revisions.insert(id.clone(), revision);
            self.groups.insert(id.clone(), Arc::new(group));
            committed.push(Committed { group: id.clone(), revision, replaced, unchanged: false });
        }
        Answer::Committed(committed)
    }

    fn refuse_commit(&self, item: &Commit) -> Option<Refusal> {
        let id = &item.spec.id;
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
        match (&stored.spec.allocation, &item.spec.allocation) {
            (Allocation::Size(_), Allocation::Size(_))
            | (Allocation::LogicalIds(_), Allocation::LogicalIds(_)) => None,
            // An empty group has no member to lose.
            _ if stored.is_empty() => None,
            _ => Some(Refusal::OtherAllocation { group: id.clone() }),
        }
    }

    fn validated(&mut self, context: &mut Context<'_>, id: &GroupId, revision: Revision) -> Answer {
        let Some(group) = self.groups.get_mut(id) else {
            return Answer::Refused(Refusal::NotFound { group: id.clone() });
        };
        if group.revision == revision && group.lifecycle == Lifecycle::PendingValidation {
            Arc::make_mut(group).lifecycle = Lifecycle::Managed;
            context.emit(Some(id), Kind::GroupValidated, "its plugins have accepted it");
        }
        Answer::Done
    }

    fn free(&mut self, context: &mut Context<'_>, id: &GroupId) -> Answer {
        match self.groups.remove(id) {
            Some(group) => {
                context.emit(
                    Some(id),
                    Kind::GroupFreed,
                    format!("{} instances are left as they are", group.running()),
                );
                Answer::Done
            }
            None => Answer::Refused(Refusal::NotFound { group: id.clone() }),
        }
    }

    fn destroy(&mut self, context: &mut Context<'_>, id: &GroupId) -> Answer {
        let Some(group) = self.groups.get_mut(id) else {
            return Answer::Refused(Refusal::NotFound { group: id.clone() });
        };
        if group.lifecycle != Lifecycle::Destroying {
            let group = Arc::make_mut(group);
            group.lifecycle = Lifecycle::Destroying;
            context.emit(Some(id), Kind::GroupDestroying, format!("{} instances are to go", group.running()));
        }
        Answer::Done
    }
}

#[cfg(test)]
mod tests;
