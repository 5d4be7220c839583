//! What a person is told about a group: desired beside observed, and why it does not move.

use crate::ids::{Generation, GroupId, InstanceId, Revision, Slot};
use crate::observed::{Health, Observed};
use crate::plan::{Condition, Plan, Waiting};
use crate::rollout::Phase;
use crate::spec::Allocation;
use crate::state::{GroupState, Holder, Lifecycle};
use crate::time::Timestamp;

/// A group at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupStatus {
    pub id: GroupId,
    pub revision: Revision,
    pub committed_at: Timestamp,
    pub committed_by: String,
    pub lifecycle: Lifecycle,
    pub phase: Phase,
    /// The template members should have: the revision that brought it, and its fingerprint.
    pub target: Revision,
    pub hash: String,
    pub desired: usize,
    /// Living and not doomed.
    pub running: usize,
    /// Living, and called healthy by the flavor once.
    pub ready: usize,
    /// Living, and made from the target's template.
    pub updated: usize,
    /// Everything is as declared, and nothing is under way.
    pub converged: bool,
    /// One sentence.
    pub summary: String,
    pub slots: Vec<SlotStatus>,
    /// Reasons for every wait, each a sentence.
    pub waiting: Vec<String>,
    /// Instances that carry the group's tag, hold no slot, and are left alone.
    pub strays: Vec<InstanceId>,
    /// What should not be, with its cause and what to do about it, each with a name for scripts.
    pub conditions: Vec<(&'static str, String)>,
    /// When the providers were last looked at; none before the first look of this leader.
    pub observed_at: Option<Timestamp>,
}

/// One slot of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotStatus {
    pub slot: Slot,
    pub generation: Generation,
    pub instance: Option<InstanceId>,
    pub state: SlotState,
    /// The template of its instance; 0 when it is none that is known.
    pub template: Revision,
    pub since: Option<Timestamp>,
    pub message: String,
}

/// States of a slot, as users know them (glossary).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    Pending,
    Creating,
    Booting,
    Ready,
    Unhealthy,
    Deleting,
    Gone,
    Unknown,
}

impl SlotState {
    pub const ALL: [SlotState; 8] = [
        SlotState::Pending,
        SlotState::Creating,
        SlotState::Booting,
        SlotState::Ready,
        SlotState::Unhealthy,
        SlotState::Deleting,
        SlotState::Gone,
        SlotState::Unknown,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            SlotState::Pending => "Pending",
            SlotState::Creating => "Creating",
            SlotState::Booting => "Booting",
            SlotState::Ready => "Ready",
            SlotState::Unhealthy => "Unhealthy",
            SlotState::Deleting => "Deleting",
            SlotState::Gone => "Gone",
            SlotState::Unknown => "Unknown",
        }
    }
}

/// The status of a group. A manager that does not lead knows no observation and no plan.
pub fn status(
    id: &GroupId,
    group: &GroupState,
    seen: Option<(&Observed, &Plan)>,
    now: Timestamp,
) -> GroupStatus {
    let mut slots: Vec<SlotStatus> =
        group.roster.iter().filter_map(|(slot, member)| slot_status(slot, member, group, seen)).collect();
    slots.extend(unfilled(group));
    let running: Vec<_> = slots
        .iter()
        .filter(|slot| matches!(slot.state, SlotState::Booting | SlotState::Ready | SlotState::Unhealthy))
        .collect();
    let ready = running.iter().filter(|slot| slot.state == SlotState::Ready).count();
    let updated = running.iter().filter(|slot| slot.template == group.target).count();
    let running = running.len();
    let desired = group.desired();
    let converged = group.lifecycle == Lifecycle::Managed
        && group.phase == (Phase::Succeeded { at: group.target })
        && (running, ready, updated) == (desired, desired, desired)
        && group.intents.is_empty()
        && seen.is_none_or(|(_, plan)| plan.is_at_rest());
    let waiting: Vec<String> = seen.map_or_else(Vec::new, |(_, plan)| {
        let told = plan.waiting.iter().take(MOST_REASONS).map(|waiting| explain(waiting, now));
        let more = plan.waiting.len().saturating_sub(MOST_REASONS);
        told.chain((more > 0).then(|| format!("and {more} more like these"))).collect()
    });
    let summary = summary(group, (running, ready, updated), converged);
    let observed_at = seen.and_then(|(observed, _)| observed.views.values().map(|view| view.taken_at).max());
    GroupStatus {
        id: id.clone(),
        revision: group.revision,
        committed_at: group.committed_at,
        committed_by: group.committed_by.to_string(),
        lifecycle: group.lifecycle,
        phase: group.phase,
        target: group.target,
        hash: group.template().hash.clone(),
        desired,
        running,
        ready,
        updated,
        converged,
        summary,
        slots,
        waiting,
        strays: seen.map_or_else(Vec::new, |(_, plan)| plan.strays.clone()),
        conditions: seen.map_or_else(Vec::new, |(_, plan)| {
            plan.conditions.iter().take(MOST_REASONS).map(describe).collect()
        }),
        observed_at,
    }
}

/// A screen holds about so many reasons; a group of thousands would have thousands.
const MOST_REASONS: usize = 10;

fn slot_status(
    slot: &Slot,
    member: &crate::state::Member,
    group: &GroupState,
    seen: Option<(&Observed, &Plan)>,
) -> Option<SlotStatus> {
    let base = SlotStatus {
        slot: slot.clone(),
        generation: member.generation,
        instance: None,
        state: SlotState::Pending,
        template: group.target,
        since: None,
        message: String::new(),
    };
    match &member.holder {
        // An empty slot is told only when somebody is wanted in it; see `unfilled`.
        Holder::Empty => None,
        Holder::Pending(id) => {
            let intent = group.intents.get(id);
            let unsure = seen.and_then(|(observed, _)| observed.unsure.get(id));
            let unknown = seen.is_some_and(|(observed, _)| !observed.in_flight.contains(id));
            Some(SlotStatus {
                state: if unknown { SlotState::Unknown } else { SlotState::Creating },
                template: intent.map_or(group.target, |intent| intent.task.template()),
                since: intent.map(|intent| intent.since),
                message: unsure.map_or_else(String::new, |unsure| unsure.message.clone()),
                ..base
            })
        }
        Holder::Occupied { instance, template, since, ready, terminating, .. } => {
            let sample = seen.and_then(|(observed, _)| observed.health.get(instance));
            let gone = seen.is_some_and(|(_, plan)| plan.gone.iter().any(|(_, lost)| lost == instance));
            let state = match sample.map(|sample| sample.health) {
                _ if terminating.is_some() => SlotState::Deleting,
                _ if gone => SlotState::Gone,
                Some(Health::Unhealthy) => SlotState::Unhealthy,
                Some(Health::Healthy | Health::Unknown) | None if *ready => SlotState::Ready,
                Some(Health::Healthy | Health::Unknown) | None => SlotState::Booting,
            };
            Some(SlotStatus {
                instance: Some(instance.clone()),
                state,
                template: *template,
                since: Some(*since),
                message: sample.map_or_else(String::new, |sample| sample.message.clone()),
                ..base
            })
        }
    }
}

/// Slots that are wanted and that nobody holds yet.
fn unfilled(group: &GroupState) -> Vec<SlotStatus> {
    let empty = |slot: &Slot| group.roster.get(slot).is_none_or(|member| member.holder == Holder::Empty);
    let slots: Vec<Slot> = match &group.spec.allocation {
        _ if group.lifecycle == Lifecycle::Destroying => Vec::new(),
        Allocation::LogicalIds(ids) => ids.iter().cloned().map(Slot::Logical).filter(empty).collect(),
        Allocation::Size(size) => {
            let present = group.roster.values().filter(|member| member.holder.counts()).count();
            let missing = (*size as usize).saturating_sub(present);
            (0..).map(Slot::Ordinal).filter(empty).take(missing).collect()
        }
    };
    let pending = |slot: Slot| SlotStatus {
        generation: group.roster.get(&slot).map_or(Generation(0), |member| member.generation),
        slot,
        instance: None,
        state: SlotState::Pending,
        template: group.target,
        since: None,
        message: String::new(),
    };
    slots.into_iter().map(pending).collect()
}

fn summary(group: &GroupState, (running, ready, updated): (usize, usize, usize), converged: bool) -> String {
    let desired = group.desired();
    match group.lifecycle {
        Lifecycle::PendingValidation => "waits until its plugins have accepted it".to_owned(),
        Lifecycle::Destroying => format!("is being destroyed: {running} left"),
        Lifecycle::Managed if converged => format!("{ready}/{desired} ready at revision {}", group.revision),
        Lifecycle::Managed if updated < running => {
            format!("{ready}/{desired} ready, {updated}/{desired} updated")
        }
        Lifecycle::Managed => format!("{ready}/{desired} ready"),
    }
}

fn describe(condition: &Condition) -> (&'static str, String) {
    match condition {
        Condition::UnknownIntent { instance, token } => {
            let token = if token.is_empty() { "no token".to_owned() } else { format!("the token {token}") };
            let told = format!(
                "{instance} carries this cluster's id and {token}, which this cluster never gave out: a copy of \
                 it may be at work, or one that was restored from an older disk, or somebody set the tag by \
                 hand. Nothing is destroyed because of it; stop the other managers, or correct the tags \
                 infrakit.owner and infrakit.intent"
            );
            ("UnknownIntent", told)
        }
        Condition::SharedToken { intent, instances: [one, other] } => {
            let told = format!(
                "{one} and {other} both carry the token of intent {intent}, which was used once: two clusters \
                 may act under one id. Nothing is destroyed because of it; stop the other managers, and destroy \
                 the instance that is not a member"
            );
            ("SharedToken", told)
        }
        Condition::SecondOfName { instance, name } => {
            let told = format!(
                "{instance} has the name {name} as its member has, and was made by what was lost when the cluster began \
                 anew: nobody knows which of the two is in use. Nothing is destroyed because of it; look at both, and \
                 destroy one with `infrakit instance destroy`"
            );
            ("SecondOfName", told)
        }
    }
}

fn explain(waiting: &Waiting, now: Timestamp) -> String {
    let ending = |message: &str| if message.is_empty() { String::new() } else { format!(": {message}") };
    match waiting {
        Waiting::ForValidation { message } => {
            format!("for its plugins, which have not accepted its spec yet{}", ending(message))
        }
        Waiting::ForPlugin { plugin, since, message } => {
            format!("for plugin `{plugin}`, out of reach for {}{}", now.since(*since), ending(message))
        }
        Waiting::ForListing { plugin } => format!("for plugin `{plugin}` to list its instances"),
        Waiting::ForCalls { open: 1 } => "for 1 call under way".to_owned(),
        Waiting::ForCalls { open } => format!("for {open} calls under way"),
        Waiting::ForSettling { intent, until, message } => {
            format!("{} until intent {intent} is looked at again{}", until.since(now), ending(message))
        }
        Waiting::ForBackoff { slot, until, message } => {
            format!("{} until slot {slot} is tried again{}", until.since(now), ending(message))
        }
        Waiting::ForSight { plugin, members: 1 } => {
            format!("for another look at plugin `{plugin}`, which no longer shows a member")
        }
        Waiting::ForSight { plugin, members } => {
            format!("for more looks at plugin `{plugin}`, which no longer shows {members} members")
        }
        Waiting::ForLabel { instance, until, message } => {
            format!(
                "{} until {instance} is labelled again, to be taken in{}",
                until.since(now),
                ending(message)
            )
        }
        Waiting::ForStray { instance, until, message } => {
            let until = until.since(now);
            format!("{until} until {instance}, which is too much, is destroyed again{}", ending(message))
        }
        Waiting::ForOperator { slot, message, .. } => format!(
            "for an operator: whether slot {slot} was filled cannot be seen{}; look at the provider, and say so \
             with `infrakit group settle`",
            ending(message)
        ),
        Waiting::ForOthers => "for the calls of other groups: too many are under way".to_owned(),
        Waiting::ForCeiling => {
            "for room: the cluster has as many instances as infrakit/max-instances allows".to_owned()
        }
        Waiting::ForRate { until } => format!(
            "{} until it makes more: it made so many in a short time that something may be destroying them; a \
             commit of a changed spec begins a new count",
            until.since(now)
        ),
        Waiting::ForManager { instance, manager } => {
            format!("for manager `{manager}` to leave {instance}, which is not destroyed under it")
        }
        Waiting::ForHealth { slot, instance, message } => {
            format!("for {instance} in slot {slot} to become healthy{}", ending(message))
        }
    }
}
