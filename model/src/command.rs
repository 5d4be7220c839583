//! What is written to the log: proposals, each of which changes the replicated state.

use std::fmt;
use std::sync::Arc;

use crate::access::{Authority, Role, Secret, TokenId};
use crate::ids::{ClusterId, GroupId, InstanceId, IntentId, NodeId, RequestId, Revision};
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
    /// Without an authority, managers are told apart by their word alone: in simulated time.
    Bootstrap {
        cluster: ClusterId,
        lineage: u32,
        manager: Manager,
        authority: Option<Authority>,
    },
    /// A manager asks to become a member. Its node id is the index of this entry. Without a token, a member
    /// speaks for it: itself, or the one on the same machine.
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
    /// One turn of the reconciler for one object.
    Report(Report),
    /// Store a small text under a name.
    SetVariable {
        key: String,
        value: String,
    },
    /// An operator's word on a provision whose outcome nobody knows.
    Settle(Settle),
    /// What these managers are to be from now on, all or none.
    SetMemberRole {
        nodes: Vec<NodeId>,
        role: MemberRole,
    },
    CreateToken(NewToken),
    RevokeToken {
        id: TokenId,
    },
    /// A person is let in by a token.
    Login {
        token: TokenId,
        name: String,
        /// The digest of the key that the person has.
        key: String,
    },
    /// Another certificate authority is to sign; it is trusted from now on.
    Rotate {
        next: Authority,
        /// Its certificate, as the present authority signs it.
        bridge: Arc<[u8]>,
    },
    /// The next step of the rotation whose last step this entry took.
    StepRotation {
        after: u64,
    },
    /// Store what `secret://NAME` stands for in specs.
    SetSecret {
        name: SecretName,
        value: Secret,
    },
    RemoveSecret {
        name: SecretName,
    },
}

/// What is done to a declared object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The plugins have accepted an object that was stored before they were there.
    Accept(Revision),
    /// Stop managing it; its instances stay.
    Release,
    /// Drain and destroy all that belongs to it, then forget it.
    Destroy,
    /// Take no action of any kind for it.
    Pause,
    /// Act for it again.
    Resume,
}

impl Verb {
    /// As [`Change::level`].
    fn level(self) -> u32 {
        match self {
            Verb::Accept(_) | Verb::Release | Verb::Destroy => 0,
            Verb::Pause | Verb::Resume => 2,
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
        }
    }
}

/// The newest feature level that this program knows.
pub const LEVEL: u32 = 2;

impl Change {
    /// The feature level whose programs know this change. Older ones would stop at it, so it is not written while
    /// one of them is a manager.
    pub fn level(&self) -> u32 {
        match self {
            Change::Object { verb, .. } => verb.level(),
            Change::Report(report) => report.level(),
            Change::SetSecret { .. } | Change::RemoveSecret { .. } => 1,
            Change::Bootstrap { .. }
            | Change::Join { .. }
            | Change::Declare { .. }
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

/// A token that is to be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    pub id: TokenId,
    pub role: Role,
    /// From now on; for ever when none.
    pub lasts: Option<Millis>,
    pub once: bool,
    pub instance: Option<InstanceId>,
    /// The token that is revoked by this.
    pub replaces: Option<TokenId>,
}

/// What a manager is to be in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// It receives the log and votes.
    Voter,
    /// It receives the log.
    Learner,
    /// It is no member, and is not heard again: its disk never joins anew.
    Removed,
}

/// What an operator found out about a provision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    pub group: GroupId,
    pub intent: IntentId,
    /// The attempt the operator knows of: a later one is another matter.
    pub attempt: u32,
    /// The instance that was made; none when nothing was.
    pub made: Option<InstanceId>,
}

/// A spec to accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    pub spec: Spec,
    /// Refuse when the stored revision is another; 0 means "does not exist yet".
    pub if_revision: Option<Revision>,
    /// Its plugins could not be asked: provision nothing before they have accepted it.
    pub unvalidated: bool,
}

/// A manager, as it introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    pub name: String,
    /// Where its peers and clients reach it: `host:port`.
    pub address: String,
    /// The identity of its disk: a wiped disk is another manager.
    pub storage: String,
    /// The instance it runs on, when that is one that the managers might destroy.
    pub instance: Option<InstanceId>,
    pub program: Program,
}

/// The program that a manager runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// For people.
    pub version: String,
    /// The newest feature level that it knows; 0 of those before programs said so.
    pub level: u32,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
