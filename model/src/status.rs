//! The status of a group for users: desired and observed state, and why the plan does not proceed.

use std::fmt;

use crate::ids::{Generation, GroupId, InstanceId, Revision, Slot};
use crate::limits::STALLED_AFTER;
use crate::observed::{Backoff, Health, HealthSample, InstanceState, Observed, RunStatus};
use crate::plan::{Anomaly, Plan, Wait, is_own_stray};
use crate::rollout::{Cause, Phase};
use crate::spec::Allocation;
use crate::state::{GroupState, Incarnation, Lifecycle, Member, Occupied, Paused, Verdict};
use crate::time::Timestamp;

/// The status of a group at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupStatus {
    pub id: GroupId,
    pub revision: Revision,
    pub committed_at: Timestamp,
    pub committed_by: String,
    pub lifecycle: Lifecycle,
    pub phase: Phase,
    /// The template that members should have: the revision that introduced it, and its fingerprint.
    pub target: Revision,
    pub hash: String,
    pub desired: usize,
    /// Slots whose instance exists and is not terminating.
    pub running: usize,
    /// Running, and healthy as far as is known.
    pub ready: usize,
    /// Running, and created from the target's template.
    pub updated: usize,
    /// The latest revision is observed, all slots are ready, and nothing is under way.
    pub converged: bool,
    /// One sentence.
    pub summary: String,
    pub slots: Vec<SlotStatus>,
    /// Why the plan does not proceed: the first waits, and how many more there are.
    pub waits: Vec<Wait>,
    pub more_waits: usize,
    /// Instances that carry the group's tag, hold no slot, and are left alone.
    pub strays: Vec<InstanceId>,
    /// Those of them that this cluster made.
    pub own_strays: Vec<InstanceId>,
    /// Typed facts about the group.
    pub conditions: Vec<Condition>,
    /// The state of the group in one word.
    pub state: GroupProgress,
    /// How old the observations are: when the plugin that was listed least recently was; none before the first listing
    /// of this leader.
    pub observed_at: Option<Timestamp>,
}

/// One slot of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotStatus {
    pub slot: Slot,
    pub generation: Generation,
    pub instance: Option<InstanceId>,
    pub state: SlotState,
    /// The revision of its instance's template; 0 when it is unknown.
    pub template: Revision,
    pub since: Option<Timestamp>,
    pub message: String,
    /// It replaces the current instance of the slot.
    pub incoming: bool,
}

/// The state of a group, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProgress {
    Converged,
    Converging,
    /// Members are being replaced by those of another template.
    RollingOut,
    /// It does not get on, and nothing shows that it will; see [`ConditionType::Stalled`].
    Stalled,
    Paused,
    PendingValidation,
    Destroying,
    Releasing,
}

impl GroupProgress {
    pub fn as_str(self) -> &'static str {
        match self {
            GroupProgress::Converged => "Converged",
            GroupProgress::Converging => "Converging",
            GroupProgress::RollingOut => "RollingOut",
            GroupProgress::Stalled => "Stalled",
            GroupProgress::Paused => "Paused",
            GroupProgress::PendingValidation => "PendingValidation",
            GroupProgress::Destroying => "Destroying",
            GroupProgress::Releasing => "Releasing",
        }
    }
}

fn progress(group: &GroupState, converged: bool, stalled: bool) -> GroupProgress {
    match (group.lifecycle, group.phase) {
        _ if group.paused.is_some() => GroupProgress::Paused,
        (Lifecycle::PendingValidation, _) => GroupProgress::PendingValidation,
        (Lifecycle::Destroying, _) => GroupProgress::Destroying,
        (Lifecycle::Releasing, _) => GroupProgress::Releasing,
        (Lifecycle::Managed, _) if converged => GroupProgress::Converged,
        (Lifecycle::Managed, _) if stalled => GroupProgress::Stalled,
        // The first members of a group replace nobody.
        (Lifecycle::Managed, phase) if !phase.is_over() && group.templates.len() > 1 => {
            GroupProgress::RollingOut
        }
        (Lifecycle::Managed, _) => GroupProgress::Converging,
    }
}

/// A typed fact about a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub kind: ConditionType,
    /// Whether it is true; none when it is unknown, as on a manager that does not lead.
    pub status: Option<bool>,
    pub reason: Reason,
    /// Since when, as far as is known.
    pub since: Option<Timestamp>,
}

/// The types of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionType {
    /// Everything is as declared, and nothing is under way.
    Converged,
    /// Every member is healthy.
    Healthy,
    /// No action of any kind is taken.
    Paused,
    /// An instance carries this cluster's tags, and this cluster cannot have created it.
    UnexpectedInstance,
    /// It does not get on, and nothing shows that it will: what failed fails again, a plugin stays away, or
    /// somebody has to act.
    Stalled,
}

/// Why a condition has its status.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    AsDeclared,
    /// The first of the waits.
    Waiting(Wait),
    /// Something is under way.
    InProgress,
    AllHealthy,
    Unhealthy {
        members: usize,
    },
    /// This manager does not lead, or has not observed the group yet.
    NotObserved,
    Paused {
        by: String,
    },
    Anomaly(Anomaly),
}

impl ConditionType {
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionType::Converged => "Converged",
            ConditionType::Healthy => "Healthy",
            ConditionType::Paused => "Paused",
            ConditionType::UnexpectedInstance => "UnexpectedInstance",
            ConditionType::Stalled => "Stalled",
        }
    }
}

impl Condition {
    /// Whether it needs the attention of an operator.
    pub fn is_trouble(&self) -> bool {
        match self.kind {
            ConditionType::UnexpectedInstance | ConditionType::Stalled => true,
            ConditionType::Healthy => self.status == Some(false),
            ConditionType::Converged | ConditionType::Paused => false,
        }
    }
}

impl Reason {
    /// The code, for scripts: it stays the same whatever the sentence says.
    pub fn code(&self) -> &'static str {
        match self {
            Reason::AsDeclared => "AsDeclared",
            Reason::Waiting(wait) => wait.reason(),
            Reason::InProgress => "InProgress",
            Reason::AllHealthy => "AllHealthy",
            Reason::Unhealthy { .. } => "MembersUnhealthy",
            Reason::NotObserved => "NotObserved",
            Reason::Paused { .. } => "PausedByOperator",
            Reason::Anomaly(anomaly) => anomaly.reason(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::AsDeclared => f.write_str("everything is as declared"),
            Reason::Waiting(wait) => wait.fmt(f),
            Reason::InProgress => f.write_str("changes are under way"),
            Reason::AllHealthy => f.write_str("every member is healthy"),
            Reason::Unhealthy { members: 1 } => f.write_str("1 member is unhealthy"),
            Reason::Unhealthy { members } => write!(f, "{members} members are unhealthy"),
            Reason::NotObserved => f.write_str(
                "this manager has not observed the group: it does not lead, or has just become the leader",
            ),
            Reason::Paused { by } => write!(f, "paused by {by}"),
            Reason::Anomaly(anomaly) => anomaly.fmt(f),
        }
    }
}

/// The states of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    Pending,
    Creating,
    Booting,
    Ready,
    Unhealthy,
    /// Its plugin lists it as stopped, paused or failed.
    Stopped,
    Paused,
    Failed,
    Deleting,
    Gone,
    Unknown,
}

impl SlotState {
    fn of(state: &InstanceState) -> Self {
        match state.status {
            RunStatus::Stopped => SlotState::Stopped,
            RunStatus::Paused => SlotState::Paused,
            RunStatus::Failed => SlotState::Failed,
            RunStatus::Starting => SlotState::Booting,
            RunStatus::Running | RunStatus::Unknown => SlotState::Unhealthy,
        }
    }

    pub const ALL: [SlotState; 11] = [
        SlotState::Pending,
        SlotState::Creating,
        SlotState::Booting,
        SlotState::Ready,
        SlotState::Unhealthy,
        SlotState::Stopped,
        SlotState::Paused,
        SlotState::Failed,
        SlotState::Deleting,
        SlotState::Gone,
        SlotState::Unknown,
    ];

    /// Its instance is there, and is of no use.
    fn is_sick(self) -> bool {
        use SlotState::{Failed, Paused, Stopped, Unhealthy};
        matches!(self, Unhealthy | Stopped | Paused | Failed)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            SlotState::Pending => "Pending",
            SlotState::Creating => "Creating",
            SlotState::Booting => "Booting",
            SlotState::Ready => "Ready",
            SlotState::Unhealthy => "Unhealthy",
            SlotState::Stopped => "Stopped",
            SlotState::Paused => "Paused",
            SlotState::Failed => "Failed",
            SlotState::Deleting => "Deleting",
            SlotState::Gone => "Gone",
            SlotState::Unknown => "Unknown",
        }
    }
}

/// The status of a group at `now`. A manager that does not lead has no observations and no plan: `seen` is none.
pub fn status(
    id: &GroupId,
    group: &GroupState,
    seen: Option<(&Observed, &Plan)>,
    now: Timestamp,
) -> GroupStatus {
    let mut slots: Vec<SlotStatus> = group
        .roster
        .iter()
        .flat_map(|(slot, member)| {
            let both = [(member.current.as_ref(), false), (member.incoming.as_deref(), true)];
            both.into_iter().filter_map(move |(it, incoming)| Some((slot, it?, incoming)))
        })
        .map(|(slot, it, incoming)| slot_status(slot, it, incoming, group, seen))
        .collect();
    slots.extend(unfilled(group, seen.map(|(observed, _)| observed)));
    // A slot counts by all that is there in it: while the old one goes, the new one serves already. It is updated when
    // nobody else stays.
    let (mut running, mut ready, mut updated) = (0, 0, 0);
    for both in slots.chunk_by(|one, other| one.slot == other.slot) {
        let is_there = |slot: &&SlotStatus| {
            matches!(slot.state, SlotState::Booting | SlotState::Ready | SlotState::Unhealthy)
        };
        let Some(first) = both.iter().find(is_there) else { continue };
        running += 1;
        ready += usize::from(both.iter().any(|slot| slot.state == SlotState::Ready));
        updated += usize::from(first.template == group.target);
    }
    let desired = group.desired();
    let converged = group.lifecycle == Lifecycle::Managed
        && matches!(group.phase, Phase::Succeeded { at } | Phase::RolledBack { at } if at == group.target)
        && (running, ready, updated) == (desired, desired, desired)
        && group.intents.is_empty()
        && seen.is_none_or(|(_, plan)| plan.is_at_rest());
    let all = seen.map_or(&[][..], |(_, plan)| &plan.waits[..]);
    let waits: Vec<Wait> = all.iter().take(MOST_REASONS).cloned().collect();
    let observed_at = seen.and_then(|(observed, _)| observed.views.values().map(|view| view.taken_at).min());
    let conditions = conditions(group, &slots, converged, seen, now);
    let is_stalled = conditions.iter().any(|it| it.kind == ConditionType::Stalled);
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
        summary: summary(group, (running, ready, updated), converged),
        conditions,
        slots,
        more_waits: all.len() - waits.len(),
        waits,
        strays: seen.map_or_else(Vec::new, |(_, plan)| plan.strays.iter().map(|it| it.id.clone()).collect()),
        own_strays: seen.map_or_else(Vec::new, |(observed, plan)| {
            let own = plan.strays.iter().filter(|it| is_own_stray(observed, it));
            own.map(|it| it.id.clone()).collect()
        }),
        state: progress(group, converged, is_stalled),
        observed_at,
    }
}

fn conditions(
    group: &GroupState,
    slots: &[SlotStatus],
    converged: bool,
    seen: Option<(&Observed, &Plan)>,
    now: Timestamp,
) -> Vec<Condition> {
    let first = seen.and_then(|(_, plan)| plan.waits.first().cloned());
    let why_not = if seen.is_none() { Reason::NotObserved } else { Reason::InProgress };
    let reason = if converged { Reason::AsDeclared } else { first.map_or(why_not, Reason::Waiting) };
    let mut all =
        vec![Condition { kind: ConditionType::Converged, status: Some(converged), reason, since: None }];
    let sick: Vec<&SlotStatus> = slots.iter().filter(|it| it.state.is_sick()).collect();
    let (status, reason) = match (sick.len(), seen) {
        (0, None) => (None, Reason::NotObserved),
        (0, Some(_)) if slots.iter().any(|it| it.state != SlotState::Ready) => (None, Reason::InProgress),
        (0, Some(_)) => (Some(true), Reason::AllHealthy),
        (members, _) => (Some(false), Reason::Unhealthy { members }),
    };
    let since = sick.iter().filter_map(|it| it.since).min();
    all.push(Condition { kind: ConditionType::Healthy, status, reason, since });
    if let Some(Paused { since, by }) = &group.paused {
        let reason = Reason::Paused { by: by.to_string() };
        let (kind, since) = (ConditionType::Paused, Some(*since));
        all.push(Condition { kind, status: Some(true), reason, since });
    }
    let anomalies = seen.map_or(&[][..], |(_, plan)| &plan.anomalies[..]);
    all.extend(anomalies.iter().take(MOST_REASONS).map(|anomaly| Condition {
        kind: ConditionType::UnexpectedInstance,
        status: Some(true),
        reason: Reason::Anomaly(anomaly.clone()),
        since: None,
    }));
    if let Some((observed, plan)) = seen
        && group.paused.is_none()
        && let Some((wait, since)) = stalled(group, slots, observed, plan, now)
    {
        let (kind, reason) = (ConditionType::Stalled, Reason::Waiting(wait));
        all.push(Condition { kind, status: Some(true), reason, since });
    }
    all
}

/// What the group does not get on for, and since when that is known.
fn stalled(
    group: &GroupState,
    slots: &[SlotStatus],
    observed: &Observed,
    plan: &Plan,
    now: Timestamp,
) -> Option<(Wait, Option<Timestamp>)> {
    let is_long = |since: &Timestamp| now.since(*since) >= STALLED_AFTER;
    let waits = plan.waits.iter().find_map(|wait| match wait {
        Wait::Ceiling | Wait::Operator { .. } => Some((wait.clone(), None)),
        Wait::Rollout { cause: Some(Cause::Failures(_) | Cause::NoProgress), .. } => {
            Some((wait.clone(), Some(group.rollout.since)))
        }
        Wait::Plugin { since, .. } | Wait::Start { since, .. } if is_long(since) => {
            Some((wait.clone(), Some(*since)))
        }
        Wait::Validation { .. } if is_long(&group.committed_at) => {
            Some((wait.clone(), Some(group.committed_at)))
        }
        _ => None,
    });
    // While the next attempt is under way, the plan waits for its call.
    let failing = || {
        let due = slots.iter().filter(|it| it.state != SlotState::Ready);
        due.filter_map(|it| Some((&it.slot, observed.backoff.get(&it.slot)?)))
            .find(|(_, it)| it.template == group.target && it.failures > 1 && is_long(&it.since))
    };
    waits.or_else(|| {
        let (slot, Backoff { since, until, message, .. }) = failing()?;
        Some((Wait::Backoff { slot: slot.clone(), until: *until, message: message.clone() }, Some(*since)))
    })
}

/// The maximal number of reasons: about a screenful; a group of thousands of members could have thousands.
const MOST_REASONS: usize = 10;

fn slot_status(
    slot: &Slot,
    incarnation: &Incarnation,
    incoming: bool,
    group: &GroupState,
    seen: Option<(&Observed, &Plan)>,
) -> SlotStatus {
    let generation = group.roster.get(slot).map_or(Generation(0), |member| member.generation);
    let base = SlotStatus {
        slot: slot.clone(),
        generation,
        instance: None,
        state: SlotState::Pending,
        template: group.target,
        since: None,
        message: String::new(),
        incoming,
    };
    match incarnation {
        Incarnation::Pending(id) => {
            let intent = group.intents.get(id);
            let unsure = seen.and_then(|(observed, _)| observed.unsure.get(id));
            let unknown = seen.is_some_and(|(observed, _)| !observed.in_flight.contains(id));
            SlotStatus {
                state: if unknown { SlotState::Unknown } else { SlotState::Creating },
                template: intent.map_or(group.target, |intent| intent.task.template()),
                since: intent.map(|intent| intent.since),
                message: unsure.map_or_else(String::new, |unsure| unsure.message.clone()),
                ..base
            }
        }
        Incarnation::Occupied(it) => {
            let plugin = &group.template_of(it.template).template.instance.plugin;
            let listed = seen.and_then(|(observed, _)| observed.views.get(plugin)?.seen.get(&it.instance.id));
            let not_running = listed.and_then(|listed| listed.not_running());
            let sample = seen.and_then(|(observed, _)| observed.health.get(&it.instance));
            let gone = seen.is_some_and(|(_, plan)| plan.gone.iter().any(|(_, lost)| *lost == it.instance));
            let overdue = seen.is_some_and(|(_, plan)| plan.overdue.contains(&it.instance));
            let (state, since) = match state_of(it, not_running, sample) {
                _ if gone => (SlotState::Gone, it.since),
                _ if overdue => (SlotState::Failed, it.since),
                told => told,
            };
            SlotStatus {
                generation: it.generation,
                instance: Some(it.instance.id.clone()),
                state,
                template: it.template,
                since: Some(since),
                message: match (not_running, sample) {
                    (Some(state), _) => state.to_string(),
                    (None, Some(sample)) => sample.message.clone(),
                    (None, None) => String::new(),
                },
                ..base
            }
        }
    }
}

/// The state of a member, and since when. Only one that runs, and whose latest health sample agrees with its verdict, is
/// called ready.
fn state_of(
    it: &Occupied,
    not_running: Option<&InstanceState>,
    sample: Option<&HealthSample>,
) -> (SlotState, Timestamp) {
    match (it.health, sample.map(|sample| sample.health)) {
        _ if it.terminating.is_some() => (SlotState::Deleting, it.since),
        (Verdict::Unhealthy { since }, _) => (not_running.map_or(SlotState::Unhealthy, SlotState::of), since),
        _ if not_running.is_some() => (not_running.map_or(SlotState::Unhealthy, SlotState::of), it.since),
        (Verdict::Booting | Verdict::Ready, Some(Health::Unhealthy)) => {
            (SlotState::Unhealthy, sample.map_or(it.since, |sample| sample.since))
        }
        (Verdict::Ready, _) => (SlotState::Ready, it.since),
        (Verdict::Booting, _) => (SlotState::Booting, it.since),
    }
}

/// Desired slots without an instance.
fn unfilled(group: &GroupState, observed: Option<&Observed>) -> Vec<SlotStatus> {
    let empty = |slot: &Slot| group.roster.get(slot).is_none_or(Member::is_free);
    let slots: Vec<Slot> = match &group.spec.allocation {
        _ if matches!(group.lifecycle, Lifecycle::Destroying | Lifecycle::Releasing) => Vec::new(),
        Allocation::LogicalIds(ids) => ids.iter().cloned().map(Slot::Logical).filter(empty).collect(),
        Allocation::Size(size) => {
            let missing = (*size as usize).saturating_sub(group.roster.present());
            (0..).map(Slot::Ordinal).filter(empty).take(missing).collect()
        }
    };
    let pending = |slot: Slot| {
        let failed = observed.and_then(|observed| observed.backoff.get(&slot));
        let failed = failed.filter(|it| it.template == group.target);
        SlotStatus {
            generation: group.roster.get(&slot).map_or(Generation(0), |member| member.generation),
            slot,
            instance: None,
            state: SlotState::Pending,
            template: group.target,
            since: failed.map(|it| it.since),
            message: failed.map_or_else(String::new, |it| it.message.clone()),
            incoming: false,
        }
    };
    slots.into_iter().map(pending).collect()
}

fn summary(group: &GroupState, (running, ready, updated): (usize, usize, usize), converged: bool) -> String {
    let desired = group.desired();
    match group.lifecycle {
        Lifecycle::PendingValidation => "waits until its plugins have accepted its spec".to_owned(),
        Lifecycle::Destroying => format!("is being destroyed: {running} still running"),
        Lifecycle::Releasing => {
            format!("is being released: {} calls are under way, and are settled first", group.intents.len())
        }
        Lifecycle::Managed if group.paused.is_some() => format!("is paused: {ready}/{desired} ready"),
        Lifecycle::Managed if converged => format!("{ready}/{desired} ready at revision {}", group.revision),
        Lifecycle::Managed if updated < running => {
            format!("{ready}/{desired} ready, {updated}/{desired} updated")
        }
        Lifecycle::Managed => format!("{ready}/{desired} ready"),
    }
}
