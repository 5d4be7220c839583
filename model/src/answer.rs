//! What is answered when a command is applied.

use std::fmt;

use crate::access::{BadToken, TokenId};
use crate::ids::{GroupId, InstanceId, IntentId, NodeId, Revision};
use crate::rollout::NoSteer;
use crate::secret::SecretName;

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

/// The outcome of one committed spec.
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
    /// The slot has a living or pending instance, or is being taken over.
    SlotTaken,
    /// The group has as many members as it wants.
    EnoughMembers,
    /// Too many intents are open.
    TooManyOpen,
    /// The instance does not hold that slot, or is terminating already.
    NotThere,
    /// The cluster has as many instances as it may have.
    Ceiling,
    /// The group has made too many instances in a short time.
    TooFast,
    /// A manager runs on the instance.
    HostsManager,
    /// The object is paused.
    Paused,
    /// Whoever is to take the slot over is not ready.
    NotReady,
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
    /// The token admits nobody.
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
    /// There is no such variable.
    NoVariable {
        key: String,
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
    /// It is being validated, released or destroyed.
    NotActedOn {
        group: GroupId,
    },
    /// It holds a slot or is to be destroyed, a manager runs on it, or its slot or its template is not there any more.
    NotAStray {
        group: GroupId,
        instance: InstanceId,
    },
    /// That cannot be done to its rollout.
    Rollout {
        group: GroupId,
        why: NoSteer,
    },
    /// The variable is one that the managers obey, and this is no value for it.
    BadSetting {
        key: String,
        message: String,
    },
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
            Refusal::NoVariable { key } => write!(f, "variable `{key}` is not set"),
            Refusal::SecretInUse { name, group } => {
                write!(f, "group `{group}` refers to the secret `{name}`")
            }
            Refusal::TooManySecrets { most } => write!(f, "there are {most} secrets already"),
            Refusal::AlreadyBootstrapped => f.write_str("the cluster is bootstrapped already"),
            Refusal::NotInDoubt { group, intent } => {
                write!(f, "intent {intent} of group `{group}` is settled already, or attempted again")
            }
            Refusal::NotActedOn { group } => {
                write!(f, "group `{group}` is paused, or is being validated, released or destroyed")
            }
            Refusal::NotAStray { group, instance } => write!(
                f,
                "`{instance}` of group `{group}` holds a slot or is being destroyed, a manager runs on it, or its slot \
                 is taken"
            ),
            Refusal::Rollout { group, why } => write!(f, "group `{group}`: {why}"),
            Refusal::BadSetting { key, message } => write!(f, "`{key}`: {message}"),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denial::OtherTerm => "another manager leads",
            Denial::OtherRevision => "the group was committed again",
            Denial::GroupNotManaged => "the group is not managed",
            Denial::SlotTaken => "the slot is taken",
            Denial::EnoughMembers => "the group has enough members",
            Denial::TooManyOpen => "too many intents are open",
            Denial::NotThere => "the instance is not there",
            Denial::Ceiling => "the cluster has as many instances as it may have",
            Denial::TooFast => "the group made too many instances in a short time",
            Denial::HostsManager => "a manager runs on the instance",
            Denial::Paused => "it is paused",
            Denial::NotReady => "its successor is not ready",
        })
    }
}
