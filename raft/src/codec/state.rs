//! `model::State` to protobuf and back: what a snapshot holds.

use std::sync::Arc;

use model::access::Secret;
use model::event::{Event, Kind};
use model::ids::ObjectKind;
use model::intent::{Intent, Task};
use model::lineage::{Era, Lineages};
use model::rollout::{Cause, Rollout};
use model::secret::SecretName;
use model::state::{
    Accepted, Incarnation, Lifecycle, Member, Occupied, Paused, Roster, StoredSecret, TemplateRecord,
    Variable, Verdict,
};
use model::{
    Actor, ClusterId, Generation, GroupId, GroupState, InstanceId, InstanceRef, LogIndex, NodeId, ObjectKey,
    Phase, Revision, Slot, State, Term, Timestamp,
};
use prost::Message;

use super::access::{authorities, from_authorities, from_token, token};
use super::answer::{answer, from_answer};
use super::command::{from_manager, manager, request_id};
use super::report::{
    destruction, from_destruction, from_generation, from_intent_id, from_slot, generation, intent_id, slot,
};
use super::roster;
use super::spec::{from_spec, from_template, spec, template, unknown_kind};
use super::{Corrupt, FORMAT, format_at};
use crate::proto as pb;

pub(crate) fn encode_state(state: &State) -> Vec<u8> {
    let mut written = Vec::with_capacity(guess_of_state(state));
    write_state(state, &mut written);
    written
}

/// A state with the latest events, as a snapshot and a backup hold it. Programs before feature level 2 know no events.
pub(crate) fn encode_snapshot<'a>(state: &State, events: impl IntoIterator<Item = &'a Event>) -> Vec<u8> {
    let mut written = encode_state(state);
    write_events(state, events, &mut written);
    written
}

/// Appends events to the state before them, as one message would have them.
pub(crate) fn write_events<'a>(
    state: &State,
    events: impl IntoIterator<Item = &'a Event>,
    written: &mut Vec<u8>,
) {
    if state.level < 2 {
        return;
    }
    let events = events.into_iter().map(|it| pb::Told {
        index: it.index.0,
        at: it.at.0,
        group: it.group.as_ref().map(GroupId::to_string),
        by: it.by.clone(),
        kind: it.kind.as_str().to_owned(),
        message: it.message.clone(),
    });
    let last = pb::State { events: events.collect(), ..pb::State::default() };
    last.encode(written).expect("a vector grows");
}

/// The events beside a state. Those of a kind that only newer programs know are passed over.
pub(crate) fn decode_events(bytes: &[u8]) -> Result<Vec<Event>, Corrupt> {
    let read = pb::State::decode(bytes)?;
    let event = |it: pb::Told| {
        Some(Event {
            index: LogIndex(it.index),
            at: Timestamp(it.at),
            group: it.group.map(GroupId::from),
            by: it.by,
            kind: Kind::named(&it.kind)?,
            message: it.message,
        })
    };
    Ok(read.events.into_iter().filter_map(event).collect())
}

/// About how long a state is when it is written: with room for it, nothing is copied while it grows.
pub(crate) fn guess_of_state(state: &State) -> usize {
    4096 + 64 * state.answers.len() + state.groups.values().map(|it| guess_of_group(it)).sum::<usize>()
}

fn guess_of_group(group: &GroupState) -> usize {
    let member = group.roster.iter().next().map_or(0, |(slot, it)| {
        let mut one = Vec::new();
        roster::member(&mut one, ROSTER, slot, it);
        one.len() + 4
    });
    1024 + member * group.roster.len() + 64 * group.intents.len()
}

/// Appends a state to what is written already.
pub(crate) fn write_state(state: &State, written: &mut Vec<u8>) {
    // The fields in the order of their numbers, as one message would have them.
    let before = pb::State {
        format: format_at(state.level),
        cluster: state.cluster.as_ref().map(ClusterId::to_string),
        lineage: state.lineages.now,
        time: state.time.0,
        ..pb::State::default()
    };
    before.encode(written).expect("a vector grows");
    for it in state.groups.values() {
        roster::message(written, GROUPS, guess_of_group(it), |written| {
            write_group(it, state.level, written);
        });
    }
    let after = pb::State {
        revisions: state
            .revisions
            .iter()
            .map(|(key, revision)| {
                let object = match key.kind {
                    ObjectKind::Group => pb::revision_of::Object::Group(key.name.to_string()),
                };
                pb::RevisionOf { object: Some(object), revision: revision.0 }
            })
            .collect(),
        managers: state
            .managers
            .iter()
            .map(|(id, it)| pb::ManagerOf { id: id.0, manager: Some(manager(it)) })
            .collect(),
        variables: state
            .variables
            .iter()
            .map(|(key, it)| pb::VariableOf {
                key: key.clone(),
                value: it.value.to_string(),
                index: it.index.0,
            })
            .collect(),
        answers: state
            .answers
            .iter()
            .map(|(id, it)| pb::Kept { id: id.0.to_be_bytes().to_vec().into(), answer: answer(it) })
            .collect(),
        answers_dropped: state.answers_dropped,
        learners: state.learners.iter().map(|id| id.0).collect(),
        removed: state
            .removed
            .iter()
            .map(|(id, storage)| pb::RemovedOf { id: id.0, storage: storage.clone() })
            .collect(),
        authorities: state.authorities.as_ref().map(authorities),
        tokens: state.tokens.iter().map(|(id, it)| token(id, it)).collect(),
        earlier: state
            .lineages
            .earlier
            .iter()
            .map(|era| pb::Era { lineage: era.lineage, until: era.until.0 })
            .collect(),
        secrets: state.secrets.iter().map(|(name, it)| secret(name, it)).collect(),
        level: state.level,
        ..pb::State::default()
    };
    after.encode(written).expect("a vector grows");
}

/// The numbers of the fields that are written apart from their messages (raft/proto/log.proto).
const GROUPS: u64 = 5;
const ROSTER: u64 = 10;

pub(crate) fn decode_state(bytes: &[u8]) -> Result<State, Corrupt> {
    let read = pb::State::decode(bytes)?;
    if read.format > FORMAT {
        return Err(Corrupt(format!(
            "the snapshot has format {}, and this program reads up to {FORMAT}: use the newer program",
            read.format
        )));
    }
    let mut state = State {
        cluster: read.cluster.map(ClusterId::from),
        lineages: Lineages {
            now: read.lineage,
            earlier: read
                .earlier
                .iter()
                .map(|it| Era { lineage: it.lineage, until: LogIndex(it.until) })
                .collect(),
        },
        level: read.level,
        time: Timestamp(read.time),
        answers_dropped: read.answers_dropped,
        ..State::default()
    };
    for it in read.groups {
        let group = from_group(it)?;
        state.groups.insert(group.spec.id.clone(), Arc::new(group));
    }
    for it in read.revisions {
        let key = match it.object.ok_or_else(unknown_kind)? {
            pb::revision_of::Object::Group(name) => ObjectKey::group(&name.into()),
        };
        state.revisions.insert(key, Revision(it.revision));
    }
    for it in read.managers {
        state.managers.insert(NodeId(it.id), from_manager(it.manager)?);
    }
    state.learners = read.learners.into_iter().map(NodeId).collect();
    state.removed = read.removed.into_iter().map(|it| (NodeId(it.id), it.storage)).collect();
    state.authorities = read.authorities.map(from_authorities).transpose()?;
    state.tokens = read.tokens.into_iter().map(from_token).collect::<Result<_, Corrupt>>()?;
    state.secrets = read.secrets.into_iter().map(from_secret).collect();
    for it in read.variables {
        let variable = Variable { value: Arc::from(it.value), index: LogIndex(it.index) };
        state.variables.insert(it.key, variable);
    }
    for kept in read.answers {
        let id = request_id(&kept.id)?;
        let answer = from_answer(kept.answer.ok_or_else(|| Corrupt::missing("answer"))?)?;
        state.answered.insert(id, state.answers_dropped + state.answers.len() as u64);
        state.answers.push_back((id, answer));
    }
    Ok(state)
}

fn secret(name: &SecretName, it: &StoredSecret) -> pb::StoredSecret {
    pb::StoredSecret {
        name: name.as_str().to_owned(),
        value: it.value.expose().to_vec().into(),
        at: it.at.0,
        by: it.by.clone(),
    }
}

fn from_secret(it: pb::StoredSecret) -> (SecretName, StoredSecret) {
    let value = Secret::new(&it.value[..]);
    (SecretName::new(it.name), StoredSecret { value, at: Timestamp(it.at), by: it.by })
}

fn write_group(group: &GroupState, level: u32, written: &mut Vec<u8>) {
    let before = pb::Group {
        spec: Some(spec(&group.spec)),
        revision: group.revision.0,
        committed_at: group.committed_at.0,
        committed_by: group.committed_by.0.clone(),
        lifecycle: match group.lifecycle {
            Lifecycle::Managed => pb::Lifecycle::Managed,
            Lifecycle::PendingValidation => pb::Lifecycle::PendingValidation,
            Lifecycle::Destroying => pb::Lifecycle::Destroying,
            Lifecycle::Releasing => pb::Lifecycle::Releasing,
        }
        .into(),
        target: group.target.0,
        templates: group
            .templates
            .iter()
            .map(|(at, known)| pb::TemplateOf {
                revision: at.0,
                template: Some(template(&known.template)),
                hash: known.hash.clone(),
            })
            .collect(),
        phase: Some(match group.phase {
            Phase::Running { to } => pb::group::Phase::RunningTo(to.0),
            Phase::Succeeded { at } => pb::group::Phase::SucceededAt(at.0),
            Phase::Baking { to } => pb::group::Phase::BakingTo(to.0),
            Phase::Paused { to } => pb::group::Phase::PausedTo(to.0),
            Phase::RollingBack { to } => pb::group::Phase::RollingBackTo(to.0),
            Phase::RolledBack { at } => pb::group::Phase::RolledBackAt(at.0),
            Phase::Failed { to } => pb::group::Phase::FailedTo(to.0),
        }),
        ..pb::Group::default()
    };
    before.encode(written).expect("a vector grows");
    roster::members(written, ROSTER, group.roster.iter());
    let after = pb::Group {
        intents: group.intents.values().map(|it| intent(it, level)).collect(),
        terminating_strays: group.terminating_strays.iter().map(InstanceRef::to_string).collect(),
        changed: group.changed.0,
        list_from: group.list_from.0,
        destroyed: group.destroyed.iter().map(|(it, at)| destroyed(it, *at)).collect(),
        given_up: group.given_up.iter().map(|(it, at)| destroyed(it, *at)).collect(),
        repeated: group
            .repeated
            .iter()
            .map(|(id, kept)| pb::Repeated {
                intent: Some(intent_id(*id)),
                kept: kept.as_ref().map(InstanceId::to_string),
            })
            .collect(),
        paid_until: group.paid_until.0,
        declared_again: group.declared_again.map(|at| at.0),
        revisions: group.revisions.iter().map(|(at, it)| accepted(*at, it)).collect(),
        paused: group.paused.as_ref().map(|it| pb::Paused { since: it.since.0, by: it.by.0.clone() }),
        rollout: (group.rollout != Rollout::default()).then(|| rollout(&group.rollout)),
        ..pb::Group::default()
    };
    after.encode(written).expect("a vector grows");
}

fn rollout(it: &Rollout) -> pb::Rollout {
    pb::Rollout {
        began: it.began.0,
        since: it.since.0,
        progressed: it.progressed.0,
        promoted: it.promoted,
        failed: it.failed.iter().map(|(slot, of)| generation(slot, *of)).collect(),
        cause: it.cause.as_ref().map(|cause| match cause {
            Cause::Failures(failed) => pb::rollout::Cause::Failures(*failed),
            Cause::NoProgress => pb::rollout::Cause::NoProgress(pb::Blank {}),
            Cause::Operator(by) => pb::rollout::Cause::Operator(by.0.clone()),
        }),
        stable: it.stable.map(|it| it.0),
        back: it.back,
    }
}

fn from_rollout(read: Option<pb::Rollout>) -> Result<Rollout, Corrupt> {
    let read = read.unwrap_or_default();
    Ok(Rollout {
        began: Timestamp(read.began),
        since: Timestamp(read.since),
        progressed: Timestamp(read.progressed),
        promoted: read.promoted,
        failed: read.failed.into_iter().map(from_generation).collect::<Result<_, Corrupt>>()?,
        cause: read.cause.map(|cause| match cause {
            pb::rollout::Cause::Failures(failed) => Cause::Failures(failed),
            pb::rollout::Cause::NoProgress(_) => Cause::NoProgress,
            pb::rollout::Cause::Operator(by) => Cause::Operator(Actor(by)),
        }),
        stable: read.stable.map(Revision),
        back: read.back,
    })
}

fn from_group(read: pb::Group) -> Result<GroupState, Corrupt> {
    let lifecycle = match read.lifecycle() {
        pb::Lifecycle::Managed => Lifecycle::Managed,
        pb::Lifecycle::PendingValidation => Lifecycle::PendingValidation,
        pb::Lifecycle::Destroying => Lifecycle::Destroying,
        pb::Lifecycle::Releasing => Lifecycle::Releasing,
    };
    let mut group = GroupState {
        spec: Arc::new(from_spec(read.spec)?),
        revision: Revision(read.revision),
        committed_at: Timestamp(read.committed_at),
        committed_by: Actor(read.committed_by),
        lifecycle,
        target: Revision(read.target),
        templates: Default::default(),
        phase: match read.phase.ok_or_else(|| Corrupt::missing("phase"))? {
            pb::group::Phase::RunningTo(to) => Phase::Running { to: Revision(to) },
            pb::group::Phase::SucceededAt(at) => Phase::Succeeded { at: Revision(at) },
            pb::group::Phase::BakingTo(to) => Phase::Baking { to: Revision(to) },
            pb::group::Phase::PausedTo(to) => Phase::Paused { to: Revision(to) },
            pb::group::Phase::RollingBackTo(to) => Phase::RollingBack { to: Revision(to) },
            pb::group::Phase::RolledBackAt(at) => Phase::RolledBack { at: Revision(at) },
            pb::group::Phase::FailedTo(to) => Phase::Failed { to: Revision(to) },
        },
        rollout: from_rollout(read.rollout)?,
        roster: Roster::default(),
        revisions: read.revisions.into_iter().map(from_accepted).collect::<Result<_, Corrupt>>()?,
        paused: read.paused.map(|it| Paused { since: Timestamp(it.since), by: Actor(it.by) }),
        intents: Default::default(),
        terminating_strays: Default::default(),
        changed: LogIndex(read.changed),
        list_from: LogIndex(read.list_from),
        destroyed: read.destroyed.into_iter().map(from_destroyed).collect(),
        given_up: read.given_up.into_iter().map(from_destroyed).collect(),
        repeated: read
            .repeated
            .into_iter()
            .map(|it| Ok((from_intent_id(it.intent)?, it.kept.map(InstanceId::from))))
            .collect::<Result<_, Corrupt>>()?,
        paid_until: Timestamp(read.paid_until),
        declared_again: read.declared_again.map(Timestamp),
    };
    for it in read.templates {
        let known = TemplateRecord { template: from_template(it.template)?, hash: it.hash };
        group.templates.insert(Revision(it.revision), Arc::new(known));
    }
    if !group.templates.contains_key(&group.target) {
        return Err(Corrupt(format!("group `{}` has no template for its target", group.spec.id)));
    }
    let members = read.roster.into_iter().map(|it| from_member(it, &group));
    group.roster = members.collect::<Result<_, Corrupt>>()?;
    for it in read.intents {
        let intent = from_intent(it, &group)?;
        // `terminating_strays` says the same of them, without their plugins.
        if let Task::Destroy { instance, slot: None, .. } = &intent.task {
            group.terminating_strays.insert(instance.clone());
        }
        group.intents.insert(intent.id, intent);
    }
    Ok(group)
}

fn destroyed(it: &InstanceRef, at: Timestamp) -> pb::Destroyed {
    pb::Destroyed { instance: it.id.to_string(), at: at.0, plugin: it.plugin.to_string() }
}

fn from_destroyed(it: pb::Destroyed) -> (InstanceRef, Timestamp) {
    (InstanceRef { id: it.instance.into(), plugin: it.plugin.into() }, Timestamp(it.at))
}

fn accepted(at: Revision, it: &Accepted) -> pb::AcceptedSpec {
    pb::AcceptedSpec { revision: at.0, spec: Some(spec(&it.spec)), at: it.at.0, by: it.by.0.clone() }
}

fn from_accepted(it: pb::AcceptedSpec) -> Result<(Revision, Accepted), Corrupt> {
    let spec = Arc::new(from_spec(it.spec)?);
    Ok((Revision(it.revision), Accepted { spec, at: Timestamp(it.at), by: Actor(it.by) }))
}

/// As a message: what `roster` writes is held against it.
#[cfg(test)]
pub(super) fn member(at: &Slot, it: &Member) -> pb::Member {
    pb::Member {
        slot: Some(slot(at)),
        generation: it.generation.0,
        holder: Some(match &it.current {
            None => pb::member::Holder::Empty(pb::Blank {}),
            Some(Incarnation::Pending(id)) => pb::member::Holder::Pending(intent_id(*id)),
            Some(Incarnation::Occupied(held)) => pb::member::Holder::Occupied(occupied(held, it.generation)),
        }),
        incoming: it.incoming.as_deref().map(|next| match next {
            Incarnation::Pending(id) => pb::member::Incoming::IncomingPending(intent_id(*id)),
            Incarnation::Occupied(next) => {
                pb::member::Incoming::IncomingOccupied(occupied(next, it.generation))
            }
        }),
    }
}

fn from_member(read: pb::Member, group: &GroupState) -> Result<(Slot, Member), Corrupt> {
    let generation = Generation(read.generation);
    let pending = |id| Ok::<_, Corrupt>(Incarnation::Pending(from_intent_id(Some(id))?));
    let held = |it| Ok::<_, Corrupt>(Incarnation::Occupied(from_occupied(it, generation, group)?));
    let current = match read.holder.ok_or_else(|| Corrupt::missing("holder"))? {
        pb::member::Holder::Empty(_) => None,
        pb::member::Holder::Pending(id) => Some(pending(id)?),
        pb::member::Holder::Occupied(it) => Some(held(it)?),
    };
    let incoming = match read.incoming {
        None => None,
        Some(pb::member::Incoming::IncomingPending(id)) => Some(pending(id)?),
        Some(pb::member::Incoming::IncomingOccupied(it)) => Some(held(it)?),
    };
    Ok((from_slot(read.slot)?, Member { generation, current, incoming: incoming.map(Box::new) }))
}

/// `latest` is the generation of its slot: what most have is not written again.
#[cfg(test)]
fn occupied(it: &Occupied, latest: Generation) -> pb::Occupied {
    pb::Occupied {
        instance: it.instance.id.to_string(),
        template: it.template.0,
        since: it.since.0,
        recorded: it.recorded.0,
        ready: it.health != Verdict::Booting,
        terminating: it.terminating.map(intent_id),
        generation: (it.generation != latest).then_some(it.generation.0),
        unhealthy_since: match it.health {
            Verdict::Unhealthy { since } => Some(since.0),
            Verdict::Booting | Verdict::Ready => None,
        },
    }
}

fn from_occupied(it: pb::Occupied, latest: Generation, group: &GroupState) -> Result<Occupied, Corrupt> {
    let plugin = group.plugin_of(Revision(it.template)).clone();
    Ok(Occupied {
        instance: InstanceRef { id: it.instance.into(), plugin },
        generation: it.generation.map_or(latest, Generation),
        template: Revision(it.template),
        since: Timestamp(it.since),
        recorded: LogIndex(it.recorded),
        health: match (it.ready, it.unhealthy_since) {
            (_, Some(since)) => Verdict::Unhealthy { since: Timestamp(since) },
            (true, None) => Verdict::Ready,
            (false, None) => Verdict::Booting,
        },
        terminating: it.terminating.map(|id| from_intent_id(Some(id))).transpose()?,
    })
}

fn intent(intent: &Intent, level: u32) -> pb::Intent {
    pb::Intent {
        id: Some(intent_id(intent.id)),
        task: Some(match &intent.task {
            Task::Provision { slot: at, generation, template } => pb::intent::Task::Provision(pb::Making {
                slot: Some(slot(at)),
                generation: generation.0,
                template: template.0,
            }),
            Task::Destroy { instance, slot, template, reason } => {
                let written = destruction(&instance.id, slot.as_ref(), *template, *reason);
                let plugin = if level < 2 { String::new() } else { instance.plugin.to_string() };
                pb::intent::Task::Destroy(pb::Destruction { plugin, ..written })
            }
            Task::Label { instance, template } => pb::intent::Task::Label(pb::Labelling {
                instance: instance.to_string(),
                template: template.0,
            }),
        }),
        attempt: intent.attempt,
        admitted: intent.admitted.0,
        term: intent.term.0,
        since: intent.since.0,
    }
}

fn from_intent(read: pb::Intent, group: &GroupState) -> Result<Intent, Corrupt> {
    Ok(Intent {
        id: from_intent_id(read.id)?,
        task: match read.task.ok_or_else(|| Corrupt::missing("task"))? {
            pb::intent::Task::Provision(it) => Task::Provision {
                slot: from_slot(it.slot)?,
                generation: Generation(it.generation),
                template: Revision(it.template),
            },
            pb::intent::Task::Destroy(it) => {
                let said = it.plugin.clone();
                let (id, slot, template, reason) = from_destruction(it)?;
                let of_template = || group.plugin_of(template).clone();
                let plugin = if said.is_empty() { of_template() } else { said.into() };
                let instance = InstanceRef { id, plugin };
                Task::Destroy { instance, slot, template, reason }
            }
            pb::intent::Task::Label(it) => {
                Task::Label { instance: it.instance.into(), template: Revision(it.template) }
            }
        },
        attempt: read.attempt,
        admitted: LogIndex(read.admitted),
        term: Term(read.term),
        since: Timestamp(read.since),
    })
}
