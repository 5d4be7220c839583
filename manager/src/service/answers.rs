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
        Refusal::NotActedOn { .. } => {
            error(Code::Conflict, "`infrakit group describe` shows its state; nothing was changed")
        }
        Refusal::NotAStray { .. } => {
            error(Code::Conflict, "`infrakit group describe` lists the strays; nothing was changed")
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
        Refusal::Rollout { .. } => error(
            Code::Conflict,
            "`infrakit rollout status` shows where it stands, and `rollout history` the revisions; nothing was changed",
        ),
        Refusal::NoVariable { .. } => {
            error(Code::NotFound, "`infrakit var ls` lists the variables; nothing was changed")
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
        raft::Error::TooLarge { .. } => Error::new(Code::Invalid, "the request is too large")
            .cause(error.to_string())
            .remedy("divide it into several, or keep large texts elsewhere; nothing was changed"),
        raft::Error::Fatal(_) => Error::new(Code::Internal, "this manager has stopped")
            .cause(error.to_string())
            .remedy("check its log, and restart it"),
    }
}

pub(super) fn no_group(id: &str) -> Error {
    refused(&Refusal::NotFound { group: id.into() })
}

#[cfg(test)]
mod tests {
    use model::access::{BadToken, TokenId};
    use model::secret::SecretName;
    use model::{GroupId, IntentId, NodeId, Revision};

    use super::*;

    /// One of each, in the order of the enum.
    fn all() -> Vec<Refusal> {
        let (group, name) = (GroupId::new("web"), SecretName::new("db"));
        vec![
            Refusal::NotFound { group: group.clone() },
            Refusal::Conflict { group: group.clone(), stored: Revision(2), expected: Revision(1) },
            Refusal::BeingDestroyed { group: group.clone() },
            Refusal::OtherAllocation { group: group.clone() },
            Refusal::NameTaken { name: "one".into() },
            Refusal::AddressTaken { address: "h:1".into(), name: "one".into() },
            Refusal::AlreadyBootstrapped,
            Refusal::NoManager { node: NodeId(9) },
            Refusal::LastVoter,
            Refusal::Removed { node: NodeId(9) },
            Refusal::Token(BadToken::Expired),
            Refusal::NoToken { id: TokenId::new("0123456789abcdef") },
            Refusal::TooManyTokens { most: 1000 },
            Refusal::IsRotating,
            Refusal::TooOld { level: 2 },
            Refusal::NoSecret { name: name.clone() },
            Refusal::SecretInUse { name, group: group.clone() },
            Refusal::TooManySecrets { most: 1000 },
            Refusal::NotInDoubt {
                group: group.clone(),
                intent: IntentId { index: model::LogIndex(3), offset: 0 },
            },
            Refusal::NotActedOn { group: group.clone() },
            Refusal::NotAStray { group: group.clone(), instance: "i-1".into() },
            Refusal::BadSetting { key: "max-instances".into(), message: "no number".into() },
            Refusal::NoVariable { key: "max-instances".into() },
            Refusal::Rollout { group, why: model::rollout::NoSteer::NoCanary },
        ]
    }

    /// Its place in [`all`]; a new one asks to be put there.
    fn place(refusal: &Refusal) -> usize {
        match refusal {
            Refusal::NotFound { .. } => 0,
            Refusal::Conflict { .. } => 1,
            Refusal::BeingDestroyed { .. } => 2,
            Refusal::OtherAllocation { .. } => 3,
            Refusal::NameTaken { .. } => 4,
            Refusal::AddressTaken { .. } => 5,
            Refusal::AlreadyBootstrapped => 6,
            Refusal::NoManager { .. } => 7,
            Refusal::LastVoter => 8,
            Refusal::Removed { .. } => 9,
            Refusal::Token(_) => 10,
            Refusal::NoToken { .. } => 11,
            Refusal::TooManyTokens { .. } => 12,
            Refusal::IsRotating => 13,
            Refusal::TooOld { .. } => 14,
            Refusal::NoSecret { .. } => 15,
            Refusal::SecretInUse { .. } => 16,
            Refusal::TooManySecrets { .. } => 17,
            Refusal::NotInDoubt { .. } => 18,
            Refusal::NotActedOn { .. } => 19,
            Refusal::NotAStray { .. } => 20,
            Refusal::BadSetting { .. } => 21,
            Refusal::NoVariable { .. } => 22,
            Refusal::Rollout { .. } => 23,
        }
    }

    #[test]
    fn every_refusal_says_what_it_is_about_and_what_to_do() {
        let all = all();
        assert!(all.iter().map(place).eq(0..all.len()));
        for refusal in &all {
            let error = refused(refusal);
            assert_eq!(error.what, refusal.to_string());
            assert!(!error.remedy.is_empty(), "{refusal:?} has no remedy");
            let is_fault = matches!(error.code, Code::Internal | Code::Unavailable | Code::Busy);
            assert!(!is_fault, "{refusal:?} is an answer, and asking again would not change it");
        }
    }

    #[test]
    fn a_repeated_request_is_told_what_it_was_told_first() {
        let mut state = State::default();
        assert_eq!(is_done(&state, RequestId(1)), Ok(false));
        for (id, change, done) in [
            (1, model::Change::SetVariable { key: "k".into(), value: "v".into() }, true),
            (
                2,
                model::Change::Object {
                    key: model::ObjectKey::group(&"web".into()),
                    verb: model::command::Verb::Destroy,
                },
                false,
            ),
        ] {
            let (by, at) = (model::Actor("test".into()), model::Timestamp(1));
            let command = model::Command { id: RequestId(id), by, at, change };
            state.apply(model::LogId { term: model::Term(1), index: model::LogIndex(id as u64) }, &command);
            match is_done(&state, RequestId(id)) {
                Ok(answered) => assert!(answered && done),
                Err(error) => assert!(!done && error.code == Code::NotFound, "{error:?}"),
            }
        }
    }
}
