//! Replaces members of older templates within what the group allows, and tells how that goes.

use std::collections::BTreeSet;

use super::evidence;
use super::planner::{Planner, RunningMember};
use super::steps::Action;
use super::waiting::Wait;
use crate::ids::{Generation, Revision, Slot};
use crate::intent::{Reason, Task};
use crate::limits::HEALTH_EVERY;
use crate::observed::{Health, HealthSample};
use crate::report::Finding;
use crate::rollout::Phase;
use crate::spec::{Disruption, HealthGate, OnFailure};
use crate::state::{Occupied, Verdict};
use crate::time::Millis;

/// Where a rollout stands, as the members show it.
struct Standing<'a> {
    to: Revision,
    /// The members of other templates.
    outdated: Vec<RunningMember<'a>>,
    /// The slots whose new member has passed the gate.
    proven: BTreeSet<&'a Slot>,
    /// How many new members have still to prove themselves: there, coming, or held back.
    at_risk: usize,
    /// How many slots have no member that serves.
    unavailable: usize,
    /// How many this plan makes for empty slots.
    begun: usize,
    /// The slots whose new member failed to be made a moment ago.
    held_back: BTreeSet<&'a Slot>,
}

impl<'a> Planner<'a> {
    /// Takes the next steps towards the target's template.
    pub(super) fn roll(&mut self) {
        let (to, acts) = match self.group.phase {
            Phase::Running { to } | Phase::Baking { to } | Phase::RollingBack { to } => (to, true),
            Phase::Paused { to } | Phase::Failed { to } => (to, false),
            Phase::Succeeded { .. } | Phase::RolledBack { .. } => return,
        };
        let standing = self.standing(to);
        self.judge(&standing);
        if standing.outdated.is_empty() {
            self.conclude(&standing);
        }
        if !acts && self.plan.replaced.is_none() {
            let (phase, cause) = (self.group.phase, self.group.rollout.cause.clone());
            self.wait_once(Wait::Rollout { phase, cause });
        }
        if standing.outdated.is_empty() {
            return;
        }
        if acts {
            // The health of the old is asked too, so that the sick among them go first. The shell limits
            // how often it really asks; the planner only says what it wants to know.
            self.wake(self.now + HEALTH_EVERY);
            self.plan
                .ask
                .extend(standing.outdated.iter().map(|old| (old.slot.clone(), old.instance.clone())));
        }
        // Whoever may be gone, or is about to be taken in, is known first.
        let known = self.kept == 0 && self.plan.gone.is_empty() && self.plan.adopt.is_empty();
        if !known {
            return;
        }
        self.end_replacements(&standing);
        if acts && self.present <= self.group.desired() {
            self.begin_replacements(standing);
        }
    }

    /// Looks at every member once.
    fn standing(&mut self, to: Revision) -> Standing<'a> {
        let (new, outdated): (Vec<RunningMember<'a>>, Vec<RunningMember<'a>>) =
            self.running.iter().cloned().partition(|it| it.template == to);
        let proven: BTreeSet<&Slot> = new.iter().filter(|it| self.is_proven(it)).map(|it| it.slot).collect();
        let mut serving = proven.clone();
        serving.extend(outdated.iter().filter(|it| it.is_ready() && !self.is_sick(it)).map(|it| it.slot));
        let unavailable = self.group.desired().saturating_sub(serving.len());
        // Whoever was there before proves nothing about it, and neither does who has failed already.
        let unproven = new.iter().filter(|it| !proven.contains(it.slot) && self.is_tried(it)).count();
        let coming: BTreeSet<&Slot> = self
            .group
            .intents
            .values()
            .filter(|open| match &open.task {
                Task::Provision { .. } => true,
                // Its place is to be filled.
                Task::Destroy { reason: Reason::RollingUpdate, slot: Some(slot), .. } => {
                    self.group.roster.get(slot).is_none_or(|member| member.incoming.is_none())
                }
                Task::Destroy { .. } | Task::Label { .. } => false,
            })
            .filter_map(|open| open.task.slot())
            .collect();
        let filled = |action: &&Action| matches!(action, Action::Provision { .. });
        let begun = self.plan.actions.iter().filter(filled).count();
        // What failed at this template a moment ago is tried again first.
        let backoff = &self.observed.backoff;
        let held_back: BTreeSet<&Slot> = backoff
            .iter()
            .filter(|(slot, it)| it.template == to && self.now < it.until && !coming.contains(slot))
            .map(|(slot, _)| slot)
            .filter(|slot| self.group.wants(slot))
            .collect();
        let at_risk = unproven + coming.len() + begun + held_back.len();
        Standing { to, outdated, proven, at_risk, unavailable, begun, held_back }
    }

    /// Whether it was made by this rollout, and has not failed.
    fn is_tried(&self, member: &RunningMember<'_>) -> bool {
        let rollout = &self.group.rollout;
        self.group.occupied(member.instance).is_some_and(|it| {
            it.since >= rollout.began && !rollout.failed.contains(&(member.slot.clone(), it.generation))
        })
    }

    /// The old ones of slots whose new ones are proven go, and so do new ones of templates that nobody wants any more:
    /// those have replaced nobody.
    fn end_replacements(&mut self, standing: &Standing<'a>) {
        // Whoever goes because there are too many goes once.
        let going = |action: &Action| match action {
            Action::Destroy { slot, .. } => slot.clone(),
            _ => None,
        };
        let going: BTreeSet<Slot> = self.plan.actions.iter().filter_map(going).collect();
        for old in standing.outdated.iter().filter(|old| !going.contains(old.slot)) {
            let Some(member) = self.group.roster.get(old.slot) else { continue };
            let serves =
                |it: Option<&Occupied>| it.is_some_and(|it| it.is_ready() && it.terminating.is_none());
            let ends = if old.incoming {
                // One that serves alone takes the slot over first.
                let is_needed = serves(member.incoming_occupied()) && !serves(member.occupied());
                !is_needed && !self.observed.bounds.hosts.has(old.instance)
            } else {
                let next = member.incoming_occupied().filter(|it| it.terminating.is_none());
                let is_proven = standing.proven.contains(old.slot);
                let is_late = next.is_some_and(|it| it.template != standing.to);
                serves(next) && (is_proven || is_late && !old.is_ready())
            };
            if ends {
                self.destroy(old, Reason::RollingUpdate);
            }
        }
    }

    /// Replaces as many as may be replaced now: the new one first where there is room for it.
    fn begin_replacements(&mut self, standing: Standing<'a>) {
        let Disruption { surge, unavailable, at_risk, failures } =
            self.group.disruption(&self.observed.bounds);
        let rolls_back = matches!(self.group.phase, Phase::RollingBack { .. });
        let failed = self.group.rollout.failed.len();
        let updating = &self.group.spec.updating;
        // No more than may still fail, where the group says how many may and stops for it.
        let is_bound = updating.max_failures.is_some() && updating.on_failure != OnFailure::Continue;
        let most = match (rolls_back, is_bound) {
            (true, _) | (_, false) => surge + unavailable,
            (false, true) => at_risk.min(failures.saturating_sub(failed)),
        };
        let mut room = most.saturating_sub(standing.at_risk).min(self.canaries_left(&standing));
        let roster = &self.group.roster;
        let above = (roster.existing() + standing.begun).saturating_sub(self.group.desired());
        let mut surge_left = surge.saturating_sub(roster.pairs().max(above));
        let mut away = unavailable.saturating_sub(standing.unavailable);
        let named = self.group.spec.allocation.logical_ids().is_some();
        let may_surge = self.observed.bounds.level >= 2 && !named;
        let mut candidates = standing.outdated;
        candidates.retain(|it| !it.incoming && !self.is_being_replaced(it.slot));
        // They say themselves why they wait.
        candidates.retain(|it| !standing.held_back.contains(it.slot) || !self.is_held_back(it.slot));
        for old in self.by_turn(candidates) {
            if room == 0 {
                break;
            }
            if self.hosts_a_manager(old.instance) {
                // These come last, and none of them can go.
                break;
            }
            if may_surge && surge_left > 0 && self.ceiling > 0 {
                if !self.rate_allows() || !self.can_provision() {
                    break;
                }
                self.plan.actions.push(Action::Replace { slot: old.slot.clone() });
                self.rate -= 1;
                self.ceiling -= 1;
                (surge_left, room) = (surge_left - 1, room - 1);
                continue;
            }
            // Whoever does not serve leaves nothing that was there.
            let serves = old.is_ready() && !self.is_sick(&old);
            if unavailable == 0 || serves && away == 0 {
                if may_surge && surge_left > 0 && !self.ceiling_allows() {
                    break;
                }
                continue;
            }
            if !self.may_be_refilled() || !self.rate_allows() {
                break;
            }
            self.destroy(&old, Reason::RollingUpdate);
            (away, room) = (away - usize::from(serves), room - 1);
        }
    }

    /// How many more canaries may be made; no limit when there are none, or they are proven.
    fn canaries_left(&mut self, standing: &Standing<'_>) -> usize {
        let Some(canary) = self.group.spec.updating.canary else { return usize::MAX };
        let rollout = &self.group.rollout;
        let is_watched = matches!(self.group.phase, Phase::Running { .. } | Phase::Baking { .. });
        if rollout.promoted || !is_watched || rollout.stable.is_none() {
            return usize::MAX;
        }
        let count = canary.count as usize;
        if let Phase::Baking { .. } = self.group.phase {
            let until = rollout.since.max(self.observed.leading_since) + canary.bake;
            let is_over = evidence::age(self.observed, rollout.since, self.now) >= canary.bake;
            if !is_over {
                self.wake(until);
            } else if !canary.manual && standing.at_risk == 0 {
                self.plan.findings.push(Finding::CanariesProven);
            }
            self.plan
                .waits
                .push(Wait::Canary { canaries: count, until: (!is_over || !canary.manual).then_some(until) });
        } else if standing.proven.len() >= count.min(self.group.desired()) && standing.at_risk == 0 {
            self.plan.findings.push(Finding::CanariesHealthy);
        }
        count.saturating_sub(standing.proven.len() + standing.at_risk)
    }

    /// Tells which new members have failed, and whether nothing gets on.
    fn judge(&mut self, standing: &Standing<'a>) {
        let rollout = &self.group.rollout;
        let is_judged = match self.group.phase {
            Phase::Running { .. } | Phase::Baking { .. } => rollout.stable.is_some(),
            Phase::RollingBack { .. } => true,
            _ => false,
        };
        if !is_judged || self.observed.bounds.level < 2 {
            return;
        }
        let updating = &self.group.spec.updating;
        let within = updating.healthy_within();
        let rolls_back = matches!(self.group.phase, Phase::RollingBack { .. });
        let new = self.running.iter().filter(|it| it.template == standing.to && !rolls_back);
        // Whoever is watched fails at once when it turns ill; others have as long as they had to become ready.
        let is_watched = updating.monitor > Millis(0) || matches!(self.group.phase, Phase::Baking { .. });
        let mut findings = Vec::new();
        let mut wakes = Vec::new();
        for member in new {
            let Some(made) = self.group.occupied(member.instance) else { continue };
            let key: (Slot, Generation) = (member.slot.clone(), made.generation);
            if !self.is_tried(member) {
                continue;
            }
            // Whoever was there when it was resumed gets its time once more.
            let from = made.since.max(rollout.since);
            let (from, within) = match member.health {
                Verdict::Ready => continue,
                Verdict::Booting => (from, within),
                Verdict::Unhealthy { since } if is_watched && since >= rollout.since => (since, Millis(0)),
                Verdict::Unhealthy { since } => (since.max(rollout.since), within),
            };
            wakes.push(from.max(self.observed.leading_since) + within);
            let has_failed = evidence::age(self.observed, from, self.now) >= within;
            if has_failed {
                findings.push(Finding::Failed { slot: key.0, generation: key.1 });
            }
        }
        // Whoever bakes is not to get on before that is over, and where managers run nobody goes.
        let most: Option<Millis> = match (self.group.phase, updating.canary) {
            (Phase::Baking { .. }, Some(canary)) if canary.manual => None,
            (Phase::Baking { .. }, Some(canary)) => Some(canary.bake + updating.progress_within()),
            _ => Some(updating.progress_within()),
        };
        let hosts = &self.observed.bounds.hosts;
        let is_possible =
            standing.outdated.is_empty() || standing.outdated.iter().any(|it| !hosts.has(it.instance));
        if let Some(most) = most.filter(|_| findings.is_empty() && is_possible) {
            if evidence::age(self.observed, rollout.progressed, self.now) >= most {
                findings.push(Finding::NoProgress);
            }
            wakes.push(rollout.progressed.max(self.observed.leading_since) + most);
        }
        self.plan.findings.extend(findings);
        let now = self.now;
        for at in wakes.into_iter().filter(|at| *at > now) {
            self.wake(at);
        }
    }

    /// Nobody has another template: it is over when everybody is there, ready, and was watched for long enough.
    fn conclude(&mut self, standing: &Standing<'a>) {
        // A label changes nothing about who is there; whoever is about to be taken in does.
        let acts = |action: &Action| !matches!(action, Action::Label { .. });
        let quiet = self.open == 0
            && self.kept == 0
            && !self.plan.actions.iter().any(acts)
            && self.plan.gone.is_empty()
            && self.plan.adopt.is_empty();
        let all_ready = self.running.iter().all(RunningMember::is_ready);
        if !quiet || self.present != self.group.desired() || !all_ready {
            return;
        }
        // Canaries that are the whole group are watched, too.
        if self.canaries_left(standing) != usize::MAX {
            return;
        }
        let (rollout, watch) = (&self.group.rollout, self.group.spec.updating.monitor);
        if rollout.stable.is_some() && evidence::age(self.observed, rollout.progressed, self.now) < watch {
            let until = rollout.progressed.max(self.observed.leading_since) + watch;
            self.wake(until);
            self.plan.waits.push(Wait::Monitor { until });
            return;
        }
        self.plan.replaced = Some(standing.to);
    }

    /// The sick first, for they cost no availability; the machines of managers last; then the lowest slots.
    fn by_turn(&self, mut outdated: Vec<RunningMember<'a>>) -> Vec<RunningMember<'a>> {
        outdated.sort_by_cached_key(|it| {
            (self.observed.bounds.hosts.has(it.instance), !self.is_sick(it), it.slot)
        });
        outdated
    }

    /// Whether a new member has been well for as long as was asked; if not, it is asked.
    fn is_proven(&mut self, member: &RunningMember<'a>) -> bool {
        // Whoever was not ready yet is asked, and waited for, as every member is.
        if !member.health.is_settled() {
            return false;
        }
        let gate = self.group.spec.updating.gate;
        let sample = self.observed.health.get(member.instance);
        let well = member.is_ready()
            && !self.is_sick(member)
            && match (gate, sample.filter(|sample| sample.health == Health::Healthy)) {
                (HealthGate::Once, _) => true,
                (_, None) => false,
                (HealthGate::Count(count), Some(sample)) => sample.streak >= count,
                (HealthGate::Duration(span), Some(sample)) => self.now.since(sample.since) >= span,
            };
        if well {
            return true;
        }
        self.wake(self.now + HEALTH_EVERY);
        self.plan.ask.push((member.slot.clone(), member.instance.clone()));
        let message = match (sample, gate) {
            (Some(HealthSample { health: Health::Healthy, streak, .. }), HealthGate::Count(count)) => {
                format!("healthy {streak} of {count} times in a row")
            }
            (Some(HealthSample { health: Health::Healthy, since, .. }), HealthGate::Duration(span)) => {
                format!("healthy for {} of {span}", self.now.since(*since))
            }
            (Some(sample), _) => sample.message.clone(),
            (None, _) => String::new(),
        };
        self.plan.waits.push(Wait::Health {
            slot: member.slot.clone(),
            instance: member.instance.id.clone(),
            message,
        });
        false
    }
}
