//! Answers that are kept, to protobuf and back.

use model::access::TokenId;
use model::answer::Committed;
use model::rollout::NoSteer;
use model::secret::SecretName;
use model::{Answer, NodeId, Refusal, Revision};

use super::Corrupt;
use super::access::{bad_token, from_bad_token};
use super::report::{from_intent_id, intent_id};
use crate::proto as pb;

/// The kept form of an answer; none for admissions, which are never kept.
pub(super) fn answer(answer: &Answer) -> Option<pb::Answer> {
    use pb::answer::Answer as Written;
    let written = match answer {
        Answer::Done => Written::Done(pb::Blank {}),
        Answer::Joined(node) => Written::Joined(node.0),
        Answer::Committed(list) => Written::Committed(pb::CommittedList {
            list: list
                .iter()
                .map(|it| pb::Committed {
                    group: it.group.to_string(),
                    revision: it.revision.0,
                    replaced: it.replaced.map(|revision| revision.0),
                    unchanged: it.unchanged,
                })
                .collect(),
        }),
        Answer::Refused(it) => Written::Refused(refusal(it)),
        Answer::Admitted(_) => return None,
    };
    Some(pb::Answer { answer: Some(written) })
}

pub(super) fn from_answer(answer: pb::Answer) -> Result<Answer, Corrupt> {
    use pb::answer::Answer as Written;
    Ok(match answer.answer.ok_or_else(|| Corrupt::missing("answer"))? {
        Written::Done(_) => Answer::Done,
        Written::Joined(node) => Answer::Joined(NodeId(node)),
        Written::Committed(it) => Answer::Committed(
            it.list
                .into_iter()
                .map(|it| Committed {
                    group: it.group.into(),
                    revision: Revision(it.revision),
                    replaced: it.replaced.map(Revision),
                    unchanged: it.unchanged,
                })
                .collect(),
        ),
        Written::Refused(it) => Answer::Refused(from_refusal(it)?),
    })
}

fn refusal(refusal: &Refusal) -> pb::Refusal {
    use pb::refusal::Refusal as Written;
    pb::Refusal {
        refusal: Some(match refusal {
            Refusal::NotFound { group } => Written::NotFound(group.to_string()),
            Refusal::Conflict { group, stored, expected } => Written::Conflict(pb::Conflict {
                group: group.to_string(),
                stored: stored.0,
                expected: expected.0,
            }),
            Refusal::BeingDestroyed { group } => Written::BeingDestroyed(group.to_string()),
            Refusal::OtherAllocation { group } => Written::OtherAllocation(group.to_string()),
            Refusal::NoManager { node } => Written::NoManager(node.0),
            Refusal::LastVoter => Written::LastVoter(pb::Blank {}),
            Refusal::Removed { node } => Written::Removed(node.0),
            Refusal::Token(why) => Written::Token(bad_token(why)),
            Refusal::NoToken { id } => Written::NoToken(id.as_str().to_owned()),
            Refusal::TooManyTokens { most } => Written::TooManyTokens(*most as u32),
            Refusal::IsRotating => Written::IsRotating(pb::Blank {}),
            Refusal::TooOld { level } => Written::TooOld(*level),
            Refusal::NoSecret { name } => Written::NoSecret(name.as_str().to_owned()),
            Refusal::NoVariable { key } => Written::NoVariable(key.clone()),
            Refusal::Rollout { group, why } => {
                Written::NoSteer(pb::NoSteer { group: group.to_string(), why: why.code().to_owned() })
            }
            Refusal::SecretInUse { name, group } => Written::SecretInUse(pb::SecretInUse {
                name: name.as_str().to_owned(),
                group: group.to_string(),
            }),
            Refusal::TooManySecrets { most } => Written::TooManySecrets(*most as u32),
            Refusal::NameTaken { name } => Written::NameTaken(name.clone()),
            Refusal::AddressTaken { address, name } => {
                Written::AddressTaken(pb::AddressTaken { address: address.clone(), name: name.clone() })
            }
            Refusal::AlreadyBootstrapped => Written::AlreadyBootstrapped(pb::Blank {}),
            Refusal::NotInDoubt { group, intent } => Written::NotInDoubt(pb::NotInDoubt {
                group: group.to_string(),
                intent: Some(intent_id(*intent)),
            }),
            Refusal::NotActedOn { group } => Written::NotActedOn(group.to_string()),
            Refusal::NotAStray { group, instance } => {
                Written::NotAStray(pb::NotAStray { group: group.to_string(), instance: instance.to_string() })
            }
            Refusal::BadSetting { key, message } => {
                Written::BadSetting(pb::BadSetting { key: key.clone(), message: message.clone() })
            }
        }),
    }
}

fn from_refusal(refusal: pb::Refusal) -> Result<Refusal, Corrupt> {
    use pb::refusal::Refusal as Written;
    Ok(match refusal.refusal.ok_or_else(|| Corrupt::missing("refusal"))? {
        Written::NotFound(group) => Refusal::NotFound { group: group.into() },
        Written::Conflict(it) => Refusal::Conflict {
            group: it.group.into(),
            stored: Revision(it.stored),
            expected: Revision(it.expected),
        },
        Written::BeingDestroyed(group) => Refusal::BeingDestroyed { group: group.into() },
        Written::OtherAllocation(group) => Refusal::OtherAllocation { group: group.into() },
        Written::NoManager(node) => Refusal::NoManager { node: NodeId(node) },
        Written::LastVoter(_) => Refusal::LastVoter,
        Written::Removed(node) => Refusal::Removed { node: NodeId(node) },
        Written::Token(it) => Refusal::Token(from_bad_token(it)?),
        Written::NoToken(id) => Refusal::NoToken { id: TokenId::new(id) },
        Written::TooManyTokens(most) => Refusal::TooManyTokens { most: most as usize },
        Written::IsRotating(_) => Refusal::IsRotating,
        Written::TooOld(level) => Refusal::TooOld { level },
        Written::NoSecret(name) => Refusal::NoSecret { name: SecretName::new(name) },
        Written::NoVariable(key) => Refusal::NoVariable { key },
        Written::NoSteer(it) => {
            let why = NoSteer::ALL.into_iter().find(|why| why.code() == it.why);
            let why = why.ok_or_else(|| Corrupt(format!("`{}` is no reason", it.why)))?;
            Refusal::Rollout { group: it.group.into(), why }
        }
        Written::SecretInUse(it) => {
            Refusal::SecretInUse { name: SecretName::new(it.name), group: it.group.into() }
        }
        Written::TooManySecrets(most) => Refusal::TooManySecrets { most: most as usize },
        Written::NameTaken(name) => Refusal::NameTaken { name },
        Written::AddressTaken(it) => Refusal::AddressTaken { address: it.address, name: it.name },
        Written::AlreadyBootstrapped(_) => Refusal::AlreadyBootstrapped,
        Written::NotInDoubt(it) => {
            Refusal::NotInDoubt { group: it.group.into(), intent: from_intent_id(it.intent)? }
        }
        Written::NotActedOn(group) => Refusal::NotActedOn { group: group.into() },
        Written::NotAStray(it) => Refusal::NotAStray { group: it.group.into(), instance: it.instance.into() },
        Written::BadSetting(it) => Refusal::BadSetting { key: it.key, message: it.message },
    })
}
