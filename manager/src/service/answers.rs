//! Refusals of the state and errors of the replica, as API errors.

use api::{Code, Error};
use model::answer::Refusal;
use model::{Answer, RequestId, State};

pub(super) fn refused(refusal: &Refusal) -> Error {
    let error = |code, remedy: &str| Error::new(code, refusal.to_string()).remedy(remedy);
    match refusal {
        Refusal::NotFound { .. } => error(Code::NotFound, "`infrakit group ls` lists the groups"),
        Refusal::Conflict { .. } => {
            error(Code::Conflict, "check it again with `infrakit group inspect`; nothing was changed")
        }
        Refusal::BeingDestroyed { .. } => {
            error(Code::Conflict, "wait until it is destroyed; nothing was changed")
        }
        Refusal::OtherAllocation { .. } => {
            error(Code::Conflict, "scale it to 0 first, or use another name; nothing was changed")
        }
        Refusal::NotInDoubt { .. } => {
            error(Code::Conflict, "check it again with `infrakit group describe`; nothing was changed")
        }
        Refusal::Token(_) => {
            error(Code::Forbidden, "ask an admin for another token: `infrakit token create`")
        }
        Refusal::NoToken { .. } => error(Code::NotFound, "`infrakit token ls` lists the tokens"),
        Refusal::TooManyTokens { .. } => error(Code::Conflict, "revoke some tokens; nothing was changed"),
        Refusal::TooOld { .. } => {
            error(Code::Conflict, "use the version of the other managers; nothing was changed")
        }
        Refusal::NoSecret { .. } => {
            error(Code::NotFound, "set it first: `infrakit secret set NAME --file FILE`; nothing was changed")
        }
        Refusal::SecretInUse { .. } => {
            error(Code::Guarded, "commit the group without the secret first; nothing was changed")
        }
        Refusal::TooManySecrets { .. } => error(Code::Conflict, "remove some secrets; nothing was changed"),
        Refusal::IsRotating => error(Code::Conflict, "`infrakit ca show` shows its progress"),
        Refusal::NoManager { .. } => error(Code::NotFound, "`infrakit node ls` lists the managers"),
        Refusal::LastVoter => error(Code::Guarded, "join another manager first; nothing was changed"),
        Refusal::BadSetting { .. } => error(Code::Invalid, "nothing was changed"),
        Refusal::NameTaken { .. }
        | Refusal::AddressTaken { .. }
        | Refusal::Removed { .. }
        | Refusal::AlreadyBootstrapped => error(Code::Conflict, "nothing was changed"),
    }
}

/// Whether a request was accepted before; a repeated request that was refused is refused again.
pub(super) fn is_done(state: &State, id: RequestId) -> Result<bool, Error> {
    match state.first_answer(id) {
        Some(Answer::Refused(refusal)) => Err(refused(refusal)),
        first => Ok(first.is_some()),
    }
}

pub(super) fn unavailable(error: &raft::Error) -> Error {
    match error {
        raft::Error::NotLeader { .. } | raft::Error::Unavailable(_) => {
            Error::new(Code::Unavailable, "there is no leader at the moment").cause(error.to_string())
        }
        raft::Error::Fatal(_) => Error::new(Code::Internal, "this manager has stopped")
            .cause(error.to_string())
            .remedy("check its log, and restart it"),
    }
}

pub(super) fn no_group(id: &str) -> Error {
    refused(&Refusal::NotFound { group: id.into() })
}
