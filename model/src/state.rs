//! The replicated state machine: desired state, intents and verdicts, never observations.
//!
//! Its collections share structure between versions, so that a clone for readers is cheap,
//! whatever its size.

mod access;
mod admission;
mod context;
mod group;
mod invariants;
mod members;
mod objects;
mod records;
mod recovery;
mod report;
mod rollout;
mod secrets;
mod settings;
mod settle;
mod slot;
mod strays;

use std::sync::Arc;

use context::Context;
use imbl::{OrdMap, OrdSet, Vector};

use crate::ObjectKey;
use crate::access::{Authorities, Token, TokenId};
use crate::answer::Answer;
use crate::command::{Change, Command, Manager};
use crate::event::Event;
use crate::ids::{ClusterId, GroupId, LogId, NodeId, RequestId, Revision};
use crate::limits::ANSWERS_KEPT;
use crate::lineage::Lineages;
use crate::secret::SecretName;
use crate::time::Timestamp;

pub use group::{Accepted, GroupState, Lifecycle, Paused, Recorded, TemplateRecord};
pub use invariants::Broken;
pub use records::{StoredSecret, Variable};
pub use settings::{RESERVED, setting_defaults};
pub use slot::{Incarnation, Member, Occupied, Roster, Verdict};

/// Everything the managers agree on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Empty until the cluster is bootstrapped.
    pub cluster: Option<ClusterId>,
    pub lineages: Lineages,
    /// The latest time in an applied entry, by the clocks of proposers. Never runs backwards.
    pub time: Timestamp,
    pub groups: OrdMap<GroupId, Arc<GroupState>>,
    /// Revision numbers outlive their object: one that is declared again goes on counting, so
    /// that an old `--if-revision` never fits by accident.
    pub revisions: OrdMap<ObjectKey, Revision>,
    pub managers: OrdMap<NodeId, Manager>,
    /// Managers that receive the log and do not vote.
    pub learners: OrdSet<NodeId>,
    /// Managers that are no longer members, with the identity of their data directory: they are rejected.
    pub removed: OrdMap<NodeId, String>,
    pub variables: OrdMap<String, Variable>,
    pub authorities: Option<Authorities>,
    pub tokens: OrdMap<TokenId, Token>,
    pub secrets: OrdMap<SecretName, StoredSecret>,
    /// The feature level that all managers have reached; never lowered. Changes of a higher level are not
    /// proposed.
    pub level: u32,
    /// The first answers to requests, oldest first.
    pub answers: Vector<(RequestId, Answer)>,
    /// The place of the first answer to a request: its index in `answers`, plus the number of dropped answers.
    pub answered: OrdMap<RequestId, u64>,
    /// How many answers were dropped from the front.
    pub answers_dropped: u64,
}

/// The result of applying one command.
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
        let mut context = Context {
            log,
            at: self.time,
            said: command.at,
            by: &command.by,
            level: self.level,
            events: Vec::new(),
        };
        let answer = match &command.change {
            Change::Bootstrap { cluster, lineage, manager, authority } => {
                self.bootstrap(&mut context, cluster, *lineage, manager, authority.as_ref())
            }
            Change::Join { manager, token } => self.join(&mut context, manager, token.as_ref()),
            Change::Declare { items } => self.declare(&mut context, items),
            Change::Object { key, verb } => self.object(&mut context, key, *verb),
            Change::Report(report) => self.report(&mut context, report),
            Change::SetVariable { key, value } => self.set_variable(&mut context, key, value),
            Change::Settle(settle) => self.settle(&mut context, settle),
            Change::Strays(strays) => self.strays(&mut context, strays),
            Change::SetMemberRole { nodes, role } => self.set_member_role(&mut context, nodes, *role),
            Change::Lead { node } => self.lead(&mut context, *node),
            Change::Duplicate { node } => self.duplicate(&mut context, *node),
            Change::CreateToken(new) => self.create_token(&mut context, new),
            Change::RevokeToken { id } => self.revoke_token(&mut context, id),
            Change::Login { token, name, key } => self.log_in(&mut context, token, name, key),
            Change::Rotate { next, bridge } => self.rotate(&mut context, next, bridge),
            Change::StepRotation { after } => self.step_rotation(&mut context, *after),
            Change::SetSecret { name, value } => self.set_secret(&mut context, name, value),
            Change::RemoveSecret { name } => self.remove_secret(&mut context, name),
            Change::RemoveVariable { key } => self.remove_variable(&mut context, key),
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
}

#[cfg(test)]
mod tests;
