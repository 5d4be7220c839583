//! Reports and what they are made of, to protobuf and back: as facts, and as they were until feature level 2.

use model::intent::Reason;
use model::report::Finding;
use model::report::{Adoption, Claim, Fact, Report};
use model::{
    Generation, InstanceId, InstanceRef, IntentId, LogIndex, ObjectKey, Outcome, Revision, Slot, Term,
    Timestamp,
};

use super::Corrupt;
use super::spec::{from_key, key};
use crate::proto as pb;

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
    pb::IntentId { index: id.index.0, offset: id.offset }
}

pub(super) fn from_intent_id(id: Option<pb::IntentId>) -> Result<IntentId, Corrupt> {
    let id = id.ok_or_else(|| Corrupt::missing("intent"))?;
    Ok(IntentId { index: LogIndex(id.index), offset: id.offset })
}

fn outcome(id: IntentId, outcome: &Outcome) -> pb::OutcomeOf {
    pb::OutcomeOf {
        intent: Some(intent_id(id)),
        outcome: Some(match outcome {
            Outcome::Done(instance) => pb::outcome_of::Outcome::Done(instance.to_string()),
            Outcome::Refused { message, retryable } => pb::outcome_of::Outcome::Refused(pb::Refused {
                message: message.clone(),
                retryable: *retryable,
            }),
            Outcome::Unsure { message } => pb::outcome_of::Outcome::Unsure(message.clone()),
        }),
    }
}

fn from_outcome(read: pb::OutcomeOf) -> Result<Fact, Corrupt> {
    let outcome = match read.outcome.ok_or_else(|| Corrupt::missing("outcome"))? {
        pb::outcome_of::Outcome::Done(instance) => Outcome::Done(instance.into()),
        pb::outcome_of::Outcome::Refused(it) => {
            Outcome::Refused { message: it.message, retryable: it.retryable }
        }
        pb::outcome_of::Outcome::Unsure(message) => Outcome::Unsure { message },
    };
    Ok(Fact::Outcome(from_intent_id(read.intent)?, outcome))
}

fn verdict(at: &Slot, who: &InstanceRef) -> pb::Verdict {
    pb::Verdict { slot: Some(slot(at)), instance: who.id.to_string(), plugin: who.plugin.to_string() }
}

/// As programs until feature level 2 read it, which tell instances by their ids alone.
fn old_verdict(at: &Slot, who: &InstanceRef) -> pb::Verdict {
    verdict(at, &InstanceRef::of_any_plugin(&who.id))
}

fn from_verdict(it: pb::Verdict) -> Result<(Slot, InstanceRef), Corrupt> {
    Ok((from_slot(it.slot)?, InstanceRef { id: it.instance.into(), plugin: it.plugin.into() }))
}

fn adoption(it: &Adoption) -> pb::Adoption {
    pb::Adoption { slot: Some(slot(&it.slot)), instance: it.instance.to_string(), template: it.template.0 }
}

fn from_adoption(it: pb::Adoption) -> Result<Fact, Corrupt> {
    Ok(Fact::Adopted(Adoption {
        slot: from_slot(it.slot)?,
        instance: it.instance.into(),
        template: Revision(it.template),
    }))
}

fn claim(claim: &Claim) -> pb::Claim {
    pb::Claim {
        claim: Some(match claim {
            Claim::Provision { slot: at } => pb::claim::Claim::Provision(slot(at)),
            Claim::Replace { slot: at } => pb::claim::Claim::Replace(slot(at)),
            Claim::Destroy { instance, slot, template, reason } => {
                pb::claim::Claim::Destroy(destruction(instance, slot.as_ref(), *template, *reason))
            }
            Claim::Label { instance } => pb::claim::Claim::Label(instance.to_string()),
        }),
    }
}

fn from_claim(read: pb::Claim) -> Result<Claim, Corrupt> {
    Ok(match read.claim.ok_or_else(|| Corrupt::missing("claim"))? {
        pb::claim::Claim::Provision(slot) => Claim::Provision { slot: from_slot(Some(slot))? },
        pb::claim::Claim::Replace(slot) => Claim::Replace { slot: from_slot(Some(slot))? },
        pb::claim::Claim::Destroy(it) => {
            let (instance, slot, template, reason) = from_destruction(it)?;
            Claim::Destroy { instance, slot, template, reason }
        }
        pb::claim::Claim::Label(instance) => Claim::Label { instance: instance.into() },
    })
}

fn fact(fact: &Fact) -> pb::Fact {
    use pb::fact::Fact as Written;
    pb::Fact {
        fact: Some(match fact {
            Fact::Outcome(id, it) => Written::Outcome(outcome(*id, it)),
            Fact::NotDrained { instance, message } => Written::NotDrained(pb::NotDrained {
                instance: instance.id.to_string(),
                plugin: instance.plugin.to_string(),
                message: message.clone(),
            }),
            Fact::Started { instance } => Written::Started(pb::Started {
                instance: instance.id.to_string(),
                plugin: instance.plugin.to_string(),
            }),
            Fact::Gone { slot, instance } => Written::Gone(verdict(slot, instance)),
            Fact::Ready { slot, instance } => Written::Ready(verdict(slot, instance)),
            Fact::Unhealthy { slot: at, instance, since } => Written::Unhealthy(pb::Unhealthy {
                slot: Some(slot(at)),
                instance: instance.id.to_string(),
                since: since.0,
                plugin: instance.plugin.to_string(),
            }),
            Fact::Adopted(it) => Written::Adopted(adoption(it)),
            Fact::AllReplaced(at) => Written::AllReplaced(at.0),
            Fact::Rollout { to, finding } => Written::Rollout(rollout(*to, finding)),
            Fact::MembersKnown => Written::MembersKnown(pb::Blank {}),
            Fact::Emptied => Written::Emptied(pb::Blank {}),
        }),
    }
}

fn from_fact(read: pb::Fact) -> Result<Fact, Corrupt> {
    use pb::fact::Fact as Written;
    let unknown = || Corrupt("a fact that this program does not know: use the newer program".into());
    Ok(match read.fact.ok_or_else(unknown)? {
        Written::Outcome(it) => from_outcome(it)?,
        Written::NotDrained(it) => Fact::NotDrained {
            instance: InstanceRef { id: it.instance.into(), plugin: it.plugin.into() },
            message: it.message,
        },
        Written::Started(it) => {
            Fact::Started { instance: InstanceRef { id: it.instance.into(), plugin: it.plugin.into() } }
        }
        Written::Gone(it) => from_verdict(it).map(|(slot, instance)| Fact::Gone { slot, instance })?,
        Written::Ready(it) => from_verdict(it).map(|(slot, instance)| Fact::Ready { slot, instance })?,
        Written::Unhealthy(it) => Fact::Unhealthy {
            slot: from_slot(it.slot)?,
            instance: InstanceRef { id: it.instance.into(), plugin: it.plugin.into() },
            since: Timestamp(it.since),
        },
        Written::Adopted(it) => from_adoption(it)?,
        Written::Rollout(it) => from_rollout(it)?,
        Written::MembersKnown(_) => Fact::MembersKnown,
        Written::AllReplaced(at) => Fact::AllReplaced(Revision(at)),
        Written::Emptied(_) => Fact::Emptied,
    })
}

fn rollout(to: Revision, finding: &Finding) -> pb::RolloutFinding {
    use pb::rollout_finding::Finding as Written;
    let written = match finding {
        Finding::Failed { slot, generation: of } => Written::Failed(generation(slot, *of)),
        Finding::NoProgress => Written::NoProgress(pb::Blank {}),
        Finding::CanariesHealthy => Written::CanariesHealthy(pb::Blank {}),
        Finding::CanariesProven => Written::CanariesProven(pb::Blank {}),
    };
    pb::RolloutFinding { to: to.0, finding: Some(written) }
}

fn from_rollout(read: pb::RolloutFinding) -> Result<Fact, Corrupt> {
    use pb::rollout_finding::Finding as Written;
    let finding = match read.finding.ok_or_else(|| Corrupt::missing("finding"))? {
        Written::Failed(it) => {
            let (slot, generation) = from_generation(it)?;
            Finding::Failed { slot, generation }
        }
        Written::NoProgress(_) => Finding::NoProgress,
        Written::CanariesHealthy(_) => Finding::CanariesHealthy,
        Written::CanariesProven(_) => Finding::CanariesProven,
    };
    Ok(Fact::Rollout { to: Revision(read.to), finding })
}

pub(super) fn generation(of: &Slot, generation: Generation) -> pb::Generation {
    pb::Generation { slot: Some(slot(of)), generation: generation.0 }
}

pub(super) fn from_generation(read: pb::Generation) -> Result<(Slot, Generation), Corrupt> {
    Ok((from_slot(read.slot)?, Generation(read.generation)))
}

pub(super) fn report(report: &Report) -> pb::Report {
    pb::Report {
        key: Some(key(&report.key)),
        term: report.term.0,
        revision: report.revision.0,
        facts: report.facts.iter().map(fact).collect(),
        claims: report.claims.iter().map(claim).collect(),
        repeats: report.repeats.iter().copied().map(intent_id).collect(),
    }
}

pub(super) fn from_report(read: pb::Report) -> Result<Report, Corrupt> {
    Ok(Report {
        key: from_key(read.key)?,
        term: Term(read.term),
        revision: Revision(read.revision),
        facts: read.facts.into_iter().map(from_fact).collect::<Result<_, _>>()?,
        claims: read.claims.into_iter().map(from_claim).collect::<Result<_, _>>()?,
        repeats: read.repeats.into_iter().map(|id| from_intent_id(Some(id))).collect::<Result<_, _>>()?,
    })
}

/// As programs until feature level 2 read it. What they do not know is not planned before all know it
/// (`Report::level`).
pub(super) fn round(report: &Report) -> pb::Round {
    let mut round = pb::Round {
        group: report.key.name.to_string(),
        term: report.term.0,
        revision: report.revision.0,
        claims: report.claims.iter().map(claim).collect(),
        repeats: report.repeats.iter().copied().map(intent_id).collect(),
        ..pb::Round::default()
    };
    for fact in &report.facts {
        match fact {
            Fact::Outcome(id, it) => round.outcomes.push(outcome(*id, it)),
            Fact::Gone { slot, instance } => round.gone.push(old_verdict(slot, instance)),
            Fact::Ready { slot, instance } => round.ready.push(old_verdict(slot, instance)),
            Fact::Adopted(it) => round.adopt.push(adoption(it)),
            Fact::AllReplaced(at) => round.replaced = Some(at.0),
            Fact::Emptied => round.finished = true,
            Fact::Unhealthy { .. }
            | Fact::NotDrained { .. }
            | Fact::Started { .. }
            | Fact::Rollout { .. }
            | Fact::MembersKnown => {
                debug_assert!(false, "it is of level 2")
            }
        }
    }
    round
}

/// In the order in which those programs apply it.
pub(super) fn from_round(read: pb::Round) -> Result<Report, Corrupt> {
    let mut facts = Vec::new();
    for it in read.outcomes {
        facts.push(from_outcome(it)?);
    }
    for it in read.gone {
        facts.push(from_verdict(it).map(|(slot, instance)| Fact::Gone { slot, instance })?);
    }
    for it in read.ready {
        facts.push(from_verdict(it).map(|(slot, instance)| Fact::Ready { slot, instance })?);
    }
    for it in read.adopt {
        facts.push(from_adoption(it)?);
    }
    facts.extend(read.replaced.map(|at| Fact::AllReplaced(Revision(at))));
    facts.extend(read.finished.then_some(Fact::Emptied));
    Ok(Report {
        key: ObjectKey::group(&read.group.into()),
        term: Term(read.term),
        revision: Revision(read.revision),
        facts,
        claims: read.claims.into_iter().map(from_claim).collect::<Result<_, _>>()?,
        repeats: read.repeats.into_iter().map(|id| from_intent_id(Some(id))).collect::<Result<_, _>>()?,
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
        plugin: String::new(),
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
