//! `model::Command` and what it is made of, to protobuf and back.

use model::access::Secret;
use model::access::TokenId;
use model::command::{Adoption, Claim, Commit, Committed, Manager, MemberRole, Program, Report, Settle};
use model::intent::Reason;
use model::secret::SecretName;
use model::spec::HealthGate;
use model::{
    Actor, Allocation, Answer, Change, ClusterId, Command, GroupSpec, InstanceId, IntentId, LogicalId,
    Millis, NodeId, Opaque, Outcome, Part, Refusal, RequestId, Revision, Slot, Template, Term, Timestamp,
    Updating,
};
use prost::Message;

use super::access::{
    authority, bad_token, from_authority, from_bad_token, from_new_token, from_rotate, new_token, rotate,
};
use super::{Corrupt, FORMAT};
use crate::proto as pb;
use crate::types::Encoded;

pub(crate) fn encode_command(command: &Command) -> Encoded {
    let written = pb::Command {
        format: FORMAT,
        id: command.id.0.to_be_bytes().to_vec().into(),
        by: command.by.0.clone(),
        at: command.at.0,
        change: Some(change(&command.change)),
    };
    Encoded(written.encode_to_vec().into())
}

/// A form that is newer than this program stops it: to skip an entry would be to diverge.
pub(crate) fn decode_command(encoded: &Encoded) -> Result<Command, Corrupt> {
    let read = pb::Command::decode(&encoded.0[..])?;
    if read.format > FORMAT {
        return Err(Corrupt(format!(
            "the log holds a command of format {}, and this program reads up to {FORMAT}: use the newer program",
            read.format
        )));
    }
    Ok(Command {
        id: request_id(&read.id)?,
        by: Actor(read.by),
        at: Timestamp(read.at),
        change: from_change(read.change.ok_or_else(|| {
            Corrupt("the log holds a change that this program does not know: use the newer program".into())
        })?)?,
    })
}

fn change(change: &Change) -> pb::command::Change {
    use pb::command::Change as Written;
    match change {
        Change::Bootstrap { cluster, lineage, manager: bootstraps, authority: root } => {
            Written::Bootstrap(pb::Bootstrap {
                cluster: cluster.to_string(),
                lineage: *lineage,
                manager: Some(manager(bootstraps)),
                authority: root.as_ref().map(authority),
            })
        }
        Change::Join { manager: joiner, token } => Written::Join(pb::Join {
            manager: Some(manager(joiner)),
            token: token.as_ref().map(|id| id.as_str().to_owned()),
        }),
        Change::Commit { items } => {
            Written::Commit(pb::Commit { items: items.iter().map(commit_item).collect() })
        }
        Change::Validated { group, revision } => {
            Written::Validated(pb::Validated { group: group.to_string(), revision: revision.0 })
        }
        Change::Free { group } => Written::Free(group.to_string()),
        Change::Destroy { group } => Written::Destroy(group.to_string()),
        Change::Report(it) => Written::Report(report(it)),
        Change::SetVariable { key, value } => {
            Written::SetVariable(pb::SetVariable { key: key.clone(), value: value.clone() })
        }
        Change::Settle(it) => Written::Settle(pb::Settle {
            group: it.group.to_string(),
            intent: Some(intent_id(it.intent)),
            attempt: it.attempt,
            made: it.made.as_ref().map(InstanceId::to_string),
        }),
        Change::SetMemberRole { nodes, role } => Written::SetMemberRole(pb::SetMemberRole {
            nodes: nodes.iter().map(|node| node.0).collect(),
            role: match role {
                MemberRole::Voter => pb::MemberRole::Voter,
                MemberRole::Learner => pb::MemberRole::Learner,
                MemberRole::Removed => pb::MemberRole::Removed,
            }
            .into(),
        }),
        Change::CreateToken(it) => Written::CreateToken(new_token(it)),
        Change::RevokeToken { id } => Written::RevokeToken(id.as_str().to_owned()),
        Change::Login { token, name, key } => Written::Login(pb::Login {
            token: token.as_str().to_owned(),
            name: name.clone(),
            key: key.clone(),
        }),
        Change::Rotate { next, bridge } => Written::Rotate(rotate(next, bridge)),
        Change::StepRotation { after } => Written::StepRotation(*after),
        Change::SetSecret { name, value } => Written::SetSecret(pb::SetSecret {
            name: name.as_str().to_owned(),
            value: value.expose().to_vec().into(),
        }),
        Change::RemoveSecret { name } => Written::RemoveSecret(name.as_str().to_owned()),
    }
}

fn from_change(change: pb::command::Change) -> Result<Change, Corrupt> {
    use pb::command::Change as Written;
    Ok(match change {
        Written::Bootstrap(it) => Change::Bootstrap {
            cluster: ClusterId::new(it.cluster),
            lineage: it.lineage,
            manager: from_manager(it.manager)?,
            authority: it.authority.map(from_authority),
        },
        Written::Join(it) => {
            Change::Join { manager: from_manager(it.manager)?, token: it.token.map(TokenId::new) }
        }
        Written::Commit(it) => {
            Change::Commit { items: it.items.into_iter().map(from_commit_item).collect::<Result<_, _>>()? }
        }
        Written::Validated(it) => {
            Change::Validated { group: it.group.into(), revision: Revision(it.revision) }
        }
        Written::Free(group) => Change::Free { group: group.into() },
        Written::Destroy(group) => Change::Destroy { group: group.into() },
        Written::Report(it) => Change::Report(from_report(it)?),
        Written::SetVariable(it) => Change::SetVariable { key: it.key, value: it.value },
        Written::Settle(it) => Change::Settle(Settle {
            group: it.group.into(),
            intent: from_intent_id(it.intent)?,
            attempt: it.attempt,
            made: it.made.map(InstanceId::from),
        }),
        Written::SetMemberRole(it) => Change::SetMemberRole {
            role: match pb::MemberRole::try_from(it.role) {
                Ok(pb::MemberRole::Voter) => MemberRole::Voter,
                Ok(pb::MemberRole::Learner) => MemberRole::Learner,
                Ok(pb::MemberRole::Removed) => MemberRole::Removed,
                Err(odd) => return Err(Corrupt(odd.to_string())),
            },
            nodes: it.nodes.into_iter().map(NodeId).collect(),
        },
        Written::CreateToken(it) => Change::CreateToken(from_new_token(it)?),
        Written::RevokeToken(id) => Change::RevokeToken { id: TokenId::new(id) },
        Written::Login(it) => Change::Login { token: TokenId::new(it.token), name: it.name, key: it.key },
        Written::Rotate(it) => {
            let (next, bridge) = from_rotate(it)?;
            Change::Rotate { next, bridge }
        }
        Written::StepRotation(after) => Change::StepRotation { after },
        Written::SetSecret(it) => {
            Change::SetSecret { name: SecretName::new(it.name), value: Secret::new(&it.value[..]) }
        }
        Written::RemoveSecret(name) => Change::RemoveSecret { name: SecretName::new(name) },
    })
}

fn commit_item(item: &Commit) -> pb::CommitItem {
    pb::CommitItem {
        spec: Some(spec(&item.spec)),
        if_revision: item.if_revision.map(|revision| revision.0),
        unvalidated: item.unvalidated,
    }
}

fn from_commit_item(item: pb::CommitItem) -> Result<Commit, Corrupt> {
    Ok(Commit {
        spec: from_spec(item.spec)?,
        if_revision: item.if_revision.map(Revision),
        unvalidated: item.unvalidated,
    })
}

pub(crate) fn manager(manager: &Manager) -> pb::Manager {
    pb::Manager {
        name: manager.name.clone(),
        address: manager.address.clone(),
        storage: manager.storage.clone(),
        instance: manager.instance.as_ref().map(InstanceId::to_string),
        version: manager.program.version.clone(),
        level: manager.program.level,
    }
}

pub(crate) fn from_manager(manager: Option<pb::Manager>) -> Result<Manager, Corrupt> {
    let manager = manager.ok_or_else(|| Corrupt::missing("manager"))?;
    Ok(Manager {
        name: manager.name,
        address: manager.address,
        storage: manager.storage,
        instance: manager.instance.map(InstanceId::from),
        program: Program { version: manager.version, level: manager.level },
    })
}

fn part(part: &Part) -> pb::Part {
    pb::Part { plugin: part.plugin.to_string(), properties: part.properties.as_json().to_owned() }
}

fn from_part(part: Option<pb::Part>) -> Result<Part, Corrupt> {
    let part = part.ok_or_else(|| Corrupt::missing("part"))?;
    Ok(Part { plugin: part.plugin.into(), properties: Opaque::from_json(part.properties) })
}

pub(super) fn template(template: &Template) -> pb::Template {
    pb::Template { instance: Some(part(&template.instance)), flavor: Some(part(&template.flavor)) }
}

pub(super) fn from_template(template: Option<pb::Template>) -> Result<Template, Corrupt> {
    let template = template.ok_or_else(|| Corrupt::missing("template"))?;
    Ok(Template { instance: from_part(template.instance)?, flavor: from_part(template.flavor)? })
}

pub(super) fn spec(spec: &GroupSpec) -> pb::GroupSpec {
    pb::GroupSpec {
        id: spec.id.to_string(),
        allocation: Some(match &spec.allocation {
            Allocation::Size(size) => pb::group_spec::Allocation::Size(*size),
            Allocation::LogicalIds(ids) => pb::group_spec::Allocation::LogicalIds(pb::LogicalIds {
                ids: ids.iter().map(LogicalId::to_string).collect(),
            }),
        }),
        template: Some(template(&spec.template)),
        gate: match spec.updating.gate {
            HealthGate::Once => None,
            HealthGate::Count(count) => Some(pb::group_spec::Gate::Count(count)),
            HealthGate::Duration(span) => Some(pb::group_spec::Gate::DurationMs(span.0)),
        },
        skip_drain: spec.updating.skip_drain,
    }
}

pub(super) fn from_spec(spec: Option<pb::GroupSpec>) -> Result<GroupSpec, Corrupt> {
    let spec = spec.ok_or_else(|| Corrupt::missing("spec"))?;
    Ok(GroupSpec {
        id: spec.id.into(),
        allocation: match spec.allocation.ok_or_else(|| Corrupt::missing("allocation"))? {
            pb::group_spec::Allocation::Size(size) => Allocation::Size(size),
            pb::group_spec::Allocation::LogicalIds(ids) => {
                Allocation::LogicalIds(ids.ids.into_iter().map(LogicalId::from).collect())
            }
        },
        template: from_template(spec.template)?,
        updating: Updating {
            gate: match spec.gate {
                None => HealthGate::Once,
                Some(pb::group_spec::Gate::Count(count)) => HealthGate::Count(count),
                Some(pb::group_spec::Gate::DurationMs(ms)) => HealthGate::Duration(Millis(ms)),
            },
            skip_drain: spec.skip_drain,
        },
    })
}

pub(super) fn slot(slot: &Slot) -> pb::Slot {
    pb::Slot {
        slot: Some(match slot {
            Slot::Ordinal(n) => pb::slot::Slot::Ordinal(*n),
            Slot::Logical(id) => pb::slot::Slot::Logical(id.to_string()),
        }),
    }
}

pub(super) fn from_slot(slot: Option<pb::Slot>) -> Result<Slot, Corrupt> {
    Ok(match slot.and_then(|slot| slot.slot).ok_or_else(|| Corrupt::missing("slot"))? {
        pb::slot::Slot::Ordinal(n) => Slot::Ordinal(n),
        pb::slot::Slot::Logical(id) => Slot::Logical(id.into()),
    })
}

pub(super) fn intent_id(id: IntentId) -> pb::IntentId {
    pb::IntentId { index: id.index, offset: id.offset }
}

pub(super) fn from_intent_id(id: Option<pb::IntentId>) -> Result<IntentId, Corrupt> {
    let id = id.ok_or_else(|| Corrupt::missing("intent"))?;
    Ok(IntentId { index: id.index, offset: id.offset })
}

fn report(report: &Report) -> pb::Report {
    let verdict =
        |(at, who): &(Slot, InstanceId)| pb::Verdict { slot: Some(slot(at)), instance: who.to_string() };
    pb::Report {
        group: report.group.to_string(),
        term: report.term.0,
        revision: report.revision.0,
        outcomes: report
            .outcomes
            .iter()
            .map(|(id, outcome)| pb::OutcomeOf {
                intent: Some(intent_id(*id)),
                outcome: Some(match outcome {
                    Outcome::Done(instance) => pb::outcome_of::Outcome::Done(instance.to_string()),
                    Outcome::Refused { message, retryable } => {
                        pb::outcome_of::Outcome::Refused(pb::Refused {
                            message: message.clone(),
                            retryable: *retryable,
                        })
                    }
                    Outcome::Unsure { message } => pb::outcome_of::Outcome::Unsure(message.clone()),
                }),
            })
            .collect(),
        gone: report.gone.iter().map(verdict).collect(),
        ready: report.ready.iter().map(verdict).collect(),
        adopt: report
            .adopt
            .iter()
            .map(|adoption| pb::Adoption {
                slot: Some(slot(&adoption.slot)),
                instance: adoption.instance.to_string(),
                template: adoption.template.0,
            })
            .collect(),
        claims: report
            .claims
            .iter()
            .map(|claim| pb::Claim {
                claim: Some(match claim {
                    Claim::Provision { slot: at } => pb::claim::Claim::Provision(slot(at)),
                    Claim::Destroy { instance, slot, template, reason } => {
                        pb::claim::Claim::Destroy(destruction(instance, slot.as_ref(), *template, *reason))
                    }
                    Claim::Label { instance } => pb::claim::Claim::Label(instance.to_string()),
                }),
            })
            .collect(),
        repeats: report.repeats.iter().copied().map(intent_id).collect(),
        replaced: report.replaced.map(|revision| revision.0),
        finished: report.finished,
    }
}

fn from_report(report: pb::Report) -> Result<Report, Corrupt> {
    let verdicts = |list: Vec<pb::Verdict>| {
        list.into_iter()
            .map(|it| Ok((from_slot(it.slot)?, it.instance.into())))
            .collect::<Result<Vec<_>, Corrupt>>()
    };
    Ok(Report {
        group: report.group.into(),
        term: Term(report.term),
        revision: Revision(report.revision),
        outcomes: report
            .outcomes
            .into_iter()
            .map(|report| {
                let outcome = match report.outcome.ok_or_else(|| Corrupt::missing("outcome"))? {
                    pb::outcome_of::Outcome::Done(instance) => Outcome::Done(instance.into()),
                    pb::outcome_of::Outcome::Refused(it) => {
                        Outcome::Refused { message: it.message, retryable: it.retryable }
                    }
                    pb::outcome_of::Outcome::Unsure(message) => Outcome::Unsure { message },
                };
                Ok((from_intent_id(report.intent)?, outcome))
            })
            .collect::<Result<_, Corrupt>>()?,
        gone: verdicts(report.gone)?,
        ready: verdicts(report.ready)?,
        adopt: report
            .adopt
            .into_iter()
            .map(|it| {
                Ok(Adoption {
                    slot: from_slot(it.slot)?,
                    instance: it.instance.into(),
                    template: Revision(it.template),
                })
            })
            .collect::<Result<_, Corrupt>>()?,
        claims: report
            .claims
            .into_iter()
            .map(|it| match it.claim.ok_or_else(|| Corrupt::missing("claim"))? {
                pb::claim::Claim::Provision(slot) => Ok(Claim::Provision { slot: from_slot(Some(slot))? }),
                pb::claim::Claim::Destroy(destruction) => {
                    let (instance, slot, template, reason) = from_destruction(destruction)?;
                    Ok(Claim::Destroy { instance, slot, template, reason })
                }
                pb::claim::Claim::Label(instance) => Ok(Claim::Label { instance: instance.into() }),
            })
            .collect::<Result<_, Corrupt>>()?,
        repeats: report
            .repeats
            .into_iter()
            .map(|id| from_intent_id(Some(id)))
            .collect::<Result<_, Corrupt>>()?,
        replaced: report.replaced.map(Revision),
        finished: report.finished,
    })
}

pub(super) fn destruction(
    instance: &InstanceId,
    at: Option<&Slot>,
    template: Revision,
    reason: Reason,
) -> pb::Destruction {
    pb::Destruction {
        instance: instance.to_string(),
        slot: at.map(slot),
        template: template.0,
        reason: match reason {
            Reason::Terminate => pb::Reason::Terminate,
            Reason::RollingUpdate => pb::Reason::RollingUpdate,
        }
        .into(),
    }
}

pub(super) fn from_destruction(
    destruction: pb::Destruction,
) -> Result<(InstanceId, Option<Slot>, Revision, Reason), Corrupt> {
    let reason = match destruction.reason() {
        pb::Reason::Terminate => Reason::Terminate,
        pb::Reason::RollingUpdate => Reason::RollingUpdate,
    };
    let slot = destruction.slot.map(|slot| from_slot(Some(slot))).transpose()?;
    Ok((destruction.instance.into(), slot, Revision(destruction.template), reason))
}

pub(super) fn request_id(bytes: &[u8]) -> Result<RequestId, Corrupt> {
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| Corrupt("a request id has not 16 bytes".into()))?;
    Ok(RequestId(u128::from_be_bytes(bytes)))
}

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
        Written::BadSetting(it) => Refusal::BadSetting { key: it.key, message: it.message },
    })
}
