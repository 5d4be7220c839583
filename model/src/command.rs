//! What is written to the log, and what is answered when it is applied.

use std::fmt;
use std::sync::Arc;

use crate::access::{Authority, BadToken, Role, Secret, TokenId};
use crate::ids::{ClusterId, GroupId, InstanceId, IntentId, NodeId, RequestId, Revision, Slot, Term};
use crate::intent::{Outcome, Reason};
use crate::secret::SecretName;
use crate::spec::GroupSpec;
use crate::time::{Millis, Timestamp};

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
    Commit {
        items: Vec<Commit>,
    },
    /// The plugins have accepted a group that was stored before they were there.
    Validated {
        group: GroupId,
        revision: Revision,
    },
    /// Stop managing a group; its instances stay.
    Free {
        group: GroupId,
    },
    /// Drain and destroy all members of a group, then forget it.
    Destroy {
        group: GroupId,
    },
    /// One turn of the reconciler for one group.
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

/// The newest feature level that this program knows.
pub const LEVEL: u32 = 1;

impl Change {
    /// The feature level whose programs know this change. Older ones would stop at it, so it is not written while
    /// one of them is a manager.
    pub fn level(&self) -> u32 {
        match self {
            Change::SetSecret { .. } | Change::RemoveSecret { .. } => 1,
            Change::Bootstrap { .. }
            | Change::Join { .. }
            | Change::Commit { .. }
            | Change::Validated { .. }
            | Change::Free { .. }
            | Change::Destroy { .. }
            | Change::Report(_)
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
pub struct Commit {
    pub spec: GroupSpec,
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

/// What the reconciler found out and wants to do, in one entry: outcomes and verdicts first, so
/// that the claims that follow from them find their slots free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub group: GroupId,
    /// Applied only in this term: a deposed leader's round changes nothing.
    pub term: Term,
    /// The revision the plan was made from. A claim or an adoption that was planned from another is
    /// denied: a commit in between may have changed what is wanted, and where.
    pub revision: Revision,
    pub outcomes: Vec<(IntentId, Outcome)>,
    /// Members that a fresh listing no longer shows.
    pub gone: Vec<(Slot, InstanceId)>,
    /// Members that their flavor called healthy for the first time.
    pub ready: Vec<(Slot, InstanceId)>,
    /// Instances of this group that take an empty slot.
    pub adopt: Vec<Adoption>,
    pub claims: Vec<Claim>,
    /// Open intents that are attempted again, under the same token.
    pub repeats: Vec<IntentId>,
    /// Every wanted member is ready at this template.
    pub replaced: Option<Revision>,
    /// The group was being destroyed, and nothing of it is left.
    pub finished: bool,
}

/// An instance that fills an empty slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    pub slot: Slot,
    pub instance: InstanceId,
    /// The template it was made from; 0 when it is none that is known.
    pub template: Revision,
}

/// A side effect for which an intent is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    Provision { slot: Slot },
    Destroy { instance: InstanceId, slot: Option<Slot>, template: Revision, reason: Reason },
    Label { instance: InstanceId },
}

/// What is answered when a command is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing to say: it is done.
    Done,
    Joined(NodeId),
    Committed(Vec<Committed>),
    /// One for each claim of a round, in order.
    Admitted(Vec<Admission>),
    Refused(Refusal),
}

/// What became of one committed spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub group: GroupId,
    pub revision: Revision,
    /// The revision it replaced; none when the group is new.
    pub replaced: Option<Revision>,
    /// It was already so.
    pub unchanged: bool,
}

/// The answer to one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Granted(IntentId),
    Denied(Denial),
}

/// Why a claim was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// The round was proposed in another term.
    OtherTerm,
    /// The round was planned from another revision.
    OtherRevision,
    /// The group is gone, not validated, or being destroyed.
    GroupNotManaged,
    /// The slot has a living or pending instance.
    SlotTaken,
    /// The group has as many members as it wants.
    EnoughMembers,
    /// Too many intents are open.
    TooManyOpen,
    /// The instance does not hold that slot, or is doomed already.
    NotThere,
    /// The cluster has as many instances as it may have.
    Ceiling,
    /// The group has made too many instances in a short time.
    TooFast,
    /// A manager runs on the instance.
    HostsManager,
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    NotFound {
        group: GroupId,
    },
    /// The stored revision is not the one the author saw.
    Conflict {
        group: GroupId,
        stored: Revision,
        expected: Revision,
    },
    BeingDestroyed {
        group: GroupId,
    },
    /// Size cannot become LogicalIDs or the reverse: no member could keep its place.
    OtherAllocation {
        group: GroupId,
    },
    NameTaken {
        name: String,
    },
    AddressTaken {
        address: String,
        name: String,
    },
    AlreadyBootstrapped,
    /// There is no manager of this id.
    NoManager {
        node: NodeId,
    },
    /// Nobody would be left to vote.
    LastVoter,
    /// Its disk is that of a manager that was removed.
    Removed {
        node: NodeId,
    },
    /// Nobody is let in by this token.
    Token(BadToken),
    /// There is no such token.
    NoToken {
        id: TokenId,
    },
    TooManyTokens {
        most: usize,
    },
    /// The certificate authority is being changed already.
    IsRotating,
    /// The cluster may have written what the program of this manager does not know.
    TooOld {
        level: u32,
    },
    /// There is no such secret.
    NoSecret {
        name: SecretName,
    },
    /// A group's spec refers to it.
    SecretInUse {
        name: SecretName,
        group: GroupId,
    },
    TooManySecrets {
        most: usize,
    },
    /// The intent is not open any more, or is attempted again.
    NotInDoubt {
        group: GroupId,
        intent: IntentId,
    },
    /// The variable is one that the managers obey, and this is no value for it.
    BadSetting {
        key: String,
        message: String,
    },
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotFound { group } => write!(f, "there is no group `{group}`"),
            Refusal::Conflict { group, stored: Revision(0), expected } => {
                write!(f, "group `{group}` does not exist, and revision {expected} was expected")
            }
            Refusal::Conflict { group, stored, expected: Revision(0) } => {
                write!(f, "group `{group}` exists already, at revision {stored}")
            }
            Refusal::Conflict { group, stored, expected } => {
                write!(f, "group `{group}` is at revision {stored}, and revision {expected} was expected")
            }
            Refusal::BeingDestroyed { group } => write!(f, "group `{group}` is being destroyed"),
            Refusal::OtherAllocation { group } => write!(
                f,
                "group `{group}` cannot change between Size and LogicalIDs: no member could keep its place"
            ),
            Refusal::NameTaken { name } => write!(f, "the name `{name}` belongs to another manager"),
            Refusal::AddressTaken { address, name } => {
                write!(f, "the address {address} belongs to manager `{name}`")
            }
            Refusal::NoManager { node } => write!(f, "there is no manager {node}"),
            Refusal::LastVoter => f.write_str("nobody would be left to vote"),
            Refusal::Removed { node } => {
                write!(f, "this disk belonged to manager {node}, which was removed from the cluster")
            }
            Refusal::Token(why) => why.fmt(f),
            Refusal::NoToken { id } => write!(f, "there is no token `{}`", id.short()),
            Refusal::TooManyTokens { most } => write!(f, "there are {most} tokens already"),
            Refusal::IsRotating => f.write_str("the certificate authority is being changed already"),
            Refusal::TooOld { level } => {
                write!(f, "the cluster is at feature level {level}, and this program is older")
            }
            Refusal::NoSecret { name } => write!(f, "there is no secret `{name}`"),
            Refusal::SecretInUse { name, group } => {
                write!(f, "group `{group}` refers to the secret `{name}`")
            }
            Refusal::TooManySecrets { most } => write!(f, "there are {most} secrets already"),
            Refusal::AlreadyBootstrapped => f.write_str("the cluster is founded already"),
            Refusal::NotInDoubt { group, intent } => {
                write!(f, "intent {intent} of group `{group}` is settled already, or attempted again")
            }
            Refusal::BadSetting { key, message } => write!(f, "`{key}`: {message}"),
        }
    }
}

impl Report {
    /// A round that says nothing yet.
    pub fn new(group: GroupId, revision: Revision, term: Term) -> Self {
        Self {
            group,
            term,
            revision,
            outcomes: Vec::new(),
            gone: Vec::new(),
            ready: Vec::new(),
            adopt: Vec::new(),
            claims: Vec::new(),
            repeats: Vec::new(),
            replaced: None,
            finished: false,
        }
    }

    /// Nothing is written when nothing changes.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
            && self.gone.is_empty()
            && self.ready.is_empty()
            && self.adopt.is_empty()
            && self.claims.is_empty()
            && self.repeats.is_empty()
            && self.replaced.is_none()
            && !self.finished
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denial::OtherTerm => "another manager leads",
            Denial::OtherRevision => "the group was committed anew",
            Denial::GroupNotManaged => "the group is not managed",
            Denial::SlotTaken => "the slot is taken",
            Denial::EnoughMembers => "the group has enough members",
            Denial::TooManyOpen => "too many intents are open",
            Denial::NotThere => "the instance is not there",
            Denial::Ceiling => "the cluster has as many instances as it may have",
            Denial::TooFast => "the group made too many instances in a short time",
            Denial::HostsManager => "a manager runs on the instance",
        })
    }
}
