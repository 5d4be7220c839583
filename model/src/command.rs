//! What is written to the log: proposals, each of which changes the replicated state.

use std::fmt;
use std::sync::Arc;

use crate::access::{Authority, Newcomer, Role, Secret, TokenId};
use crate::ids::{
    ClusterId, GroupId, InstanceId, InstanceRef, IntentId, LogIndex, NodeId, PluginName, RequestId, Revision,
    Slot,
};
use crate::report::Report;
use crate::secret::SecretName;
use crate::time::{Millis, Timestamp};
use crate::{ObjectKey, Spec};

/// One entry of the log. The proposer reads the clock, so that no replica has to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// A repeated id gets the first answer.
    pub id: RequestId,
    pub by: Actor,
    pub at: Timestamp,
    pub change: Change,
}

/// Who caused a change: a user, or the manager itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Actor(pub String);

/// What a command changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The first entry of a cluster, proposed by the manager that bootstraps it.
    ///
    /// Without an authority, managers are not authenticated: only in simulations.
    Bootstrap {
        cluster: ClusterId,
        lineage: u32,
        manager: Manager,
        authority: Option<Authority>,
    },
    /// A manager asks to become a member. Its node id is the index of this entry. Without a token, a member
    /// asks for it: the manager itself, which is a member already, or the one on the same machine.
    Join {
        manager: Manager,
        token: Option<TokenId>,
    },
    /// Accept these specs, all or none.
    Declare {
        items: Vec<Declaration>,
    },
    /// Do this to a declared object.
    Object {
        key: ObjectKey,
        verb: Verb,
    },
    /// What the reconciler of one object observed, and what it wants to do next.
    Report(Report),
    /// Store a variable, or a cluster setting.
    SetVariable {
        key: String,
        value: String,
    },
    /// Resolve an in-doubt slot: an operator states the outcome of its provision.
    Settle(Settle),
    /// Adopt or destroy instances that hold no slot.
    Strays(Strays),
    /// Set the role of these managers, of all or none.
    SetMemberRole {
        nodes: Vec<NodeId>,
        role: MemberRole,
    },
    /// This manager leads from now on: for people, for nothing else follows from it.
    Lead {
        node: NodeId,
    },
    /// Two processes were heard as one manager at once: one of them runs on a copy of the other's disk.
    Duplicate {
        node: NodeId,
    },
    CreateToken(NewToken),
    RevokeToken {
        id: TokenId,
    },
    /// A user logs in with a token.
    Login {
        token: TokenId,
        name: String,
        /// The digest of the user's key.
        key: String,
    },
    /// Announce the next certificate authority: it is trusted from now on, and signs after the next step. The
    /// first one of a cluster signs at once.
    Rotate {
        next: Authority,
        /// The certificate of the next authority, signed by the current one.
        bridge: Arc<[u8]>,
    },
    /// Take the next step of the rotation, if its last step was taken by the log entry `after`.
    StepRotation {
        after: LogIndex,
    },
    /// Store what `secret://NAME` stands for in specs.
    SetSecret {
        name: SecretName,
        value: Secret,
    },
    RemoveSecret {
        name: SecretName,
    },
    /// Remove a variable; a cluster setting gets its default again.
    RemoveVariable {
        key: String,
    },
}

/// What is done to a declared object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The plugins have accepted an object that was stored before they were there.
    Accept(Revision),
    /// Stop managing it; its instances stay.
    Release,
    /// Drain and destroy all its instances, then remove it.
    Destroy,
    /// Take no action of any kind for it.
    Pause,
    /// End its pause.
    Resume,
    /// Pause, resume, promote or abort its rollout.
    Rollout(Steer),
}

/// What an operator does to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// No further member is replaced.
    Pause,
    /// It goes on; what failed before is not counted any more.
    Resume,
    /// The canaries have proven the template.
    Promote,
    /// The template of before is declared again.
    Abort,
}

impl Verb {
    /// As [`Change::level`].
    fn level(self) -> u32 {
        match self {
            Verb::Accept(_) | Verb::Release | Verb::Destroy => 0,
            Verb::Pause | Verb::Resume | Verb::Rollout(_) => 2,
        }
    }

    /// The name of the event that it emits.
    pub fn event(self) -> &'static str {
        match self {
            Verb::Accept(_) => "GroupValidated",
            Verb::Release => "GroupFreed",
            Verb::Destroy => "GroupDestroying",
            Verb::Pause => "GroupPaused",
            Verb::Resume => "GroupResumed",
            Verb::Rollout(Steer::Pause) => "RolloutPaused",
            Verb::Rollout(Steer::Resume) => "RolloutResumed",
            Verb::Rollout(Steer::Promote) => "RolloutPromoted",
            Verb::Rollout(Steer::Abort) => "RolloutRollingBack",
        }
    }
}

/// The newest feature level that this program knows.
pub const LEVEL: u32 = 2;

impl Change {
    /// The lowest feature level that supports this change. A manager with a lower one would stop at such a log
    /// entry, so none is written while the cluster has such a manager.
    pub fn level(&self) -> u32 {
        match self {
            Change::Object { verb, .. } => verb.level(),
            Change::Report(report) => report.level(),
            Change::Declare { items } => items.iter().map(|item| item.spec.level()).max().unwrap_or(0),
            Change::SetSecret { .. } | Change::RemoveSecret { .. } => 1,
            Change::Strays(_)
            | Change::Lead { .. }
            | Change::Duplicate { .. }
            | Change::RemoveVariable { .. } => 2,
            Change::Bootstrap { .. }
            | Change::Join { .. }
            | Change::SetVariable { .. }
            | Change::Settle(_)
            | Change::SetMemberRole { .. }
            | Change::CreateToken(_)
            | Change::RevokeToken { .. }
            | Change::Login { .. }
            | Change::Rotate { .. }
            | Change::StepRotation { .. } => 0,
        }
    }
}

/// A token to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    pub id: TokenId,
    pub role: Role,
    /// How long it is valid from now on; without an end when none.
    pub lasts: Option<Millis>,
    /// It is valid for a single use.
    pub once: bool,
    /// The only instance whose manager may join with it; none when any may.
    pub instance: Option<InstanceId>,
    /// The token that is revoked when this one is created.
    pub replaces: Option<TokenId>,
}

/// The role of a manager in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// It receives the log and votes.
    Voter,
    /// It receives the log and does not vote.
    Learner,
    /// It is not a member, and its messages are rejected: its data directory can never join again.
    Removed,
}

/// The outcome of a provision, as an operator found it at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    pub group: GroupId,
    pub intent: IntentId,
    /// The attempt that the operator means: refused when there was a later one.
    pub attempt: u32,
    /// The instance that was created; none when nothing was.
    pub made: Option<InstanceId>,
}

/// What is to become of instances that carry a group's tag and hold no slot, by an operator's word: all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strays {
    pub group: GroupId,
    pub fate: StrayFate,
    pub items: Vec<Stray>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrayFate {
    /// They become members.
    Adopted,
    /// They are drained and destroyed.
    Destroyed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    pub instance: InstanceRef,
    /// The template it was made from; 0 when it is none that is known.
    pub template: Revision,
    /// The slot that it gets, if it is adopted.
    pub slot: Option<Slot>,
}

/// A spec to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    pub spec: Spec,
    /// Refuse when the stored revision is another; 0 means "does not exist yet".
    pub if_revision: Option<Revision>,
    /// Its plugins could not validate it: nothing is provisioned before they have accepted it.
    pub unvalidated: bool,
}

/// A manager, as it describes itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    pub name: String,
    /// Where its peers and clients reach it: `host:port`.
    pub address: String,
    /// The identity of its data directory: with an empty one it is another manager.
    pub storage: String,
    /// The instance it runs on, if it may be a member of a group: it is not destroyed under the manager.
    pub instance: Option<Machine>,
    pub program: Program,
}

impl Manager {
    /// Itself as a token admits it.
    pub fn newcomer(&self) -> Newcomer<'_> {
        Newcomer::Manager { storage: &self.storage, instance: self.instance.as_ref().map(|it| &it.id) }
    }
}

/// The instance that a manager runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub id: InstanceId,
    /// The plugin that lists it, with or without its type. When none is given, and until feature level 2, it is an
    /// instance of any plugin with that id.
    pub plugin: Option<PluginName>,
}

impl Machine {
    /// Whether it may be this instance.
    pub fn may_be(&self, instance: &InstanceRef) -> bool {
        let fits = |it: &PluginName| it.covers(&instance.plugin) || instance.plugin.covers(it);
        self.id == instance.id && self.plugin.as_ref().is_none_or(fits)
    }

    /// Whether both may be one instance.
    pub fn may_equal(&self, other: &Machine) -> bool {
        self.id == other.id
            && match (&self.plugin, &other.plugin) {
                (Some(one), Some(two)) => one.covers(two) || two.covers(one),
                (None, _) | (_, None) => true,
            }
    }
}

impl From<&str> for Machine {
    fn from(id: &str) -> Self {
        Machine { id: id.into(), plugin: None }
    }
}

/// The program that a manager runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// The version that people read.
    pub version: String,
    /// The highest feature level that it supports; 0 for programs that do not report one.
    pub level: u32,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
