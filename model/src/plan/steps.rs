//! The parts of a plan: verdicts, actions, and why nothing more is done.

use std::collections::BTreeSet;

use super::waiting::{Anomaly, Wait};
use crate::ObjectKey;
use crate::ids::{GroupId, InstanceId, InstanceRef, IntentId, Revision, Slot, Term};
use crate::intent::{Outcome, Reason};
use crate::limits::{HEAVIEST_PART, LARGEST_BATCH};
use crate::report::Finding;
use crate::report::{Adoption, Claim, Fact, Report};
use crate::time::Timestamp;

/// The next steps for a group. Advice for one moment, never a program to be resumed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Open intents that a listing has settled.
    pub outcomes: Vec<(IntentId, Outcome)>,
    /// Members that no longer exist.
    pub gone: Vec<(Slot, InstanceRef)>,
    /// Members that are healthy for the first time, or again.
    pub ready: Vec<(Slot, InstanceRef)>,
    /// Members that were ready and are unhealthy now, and since when.
    pub unhealthy: Vec<(Slot, InstanceRef, Timestamp)>,
    /// Instances of this group that are adopted into an empty slot.
    pub adopt: Vec<Adoption>,
    pub actions: Vec<Action>,
    /// Members whose health is to be checked now.
    pub ask: Vec<(Slot, InstanceRef)>,
    /// Members at rest whose health is to be checked in turn; the next turn begins after the last of them.
    pub patrol: Vec<(Slot, InstanceRef)>,
    /// Members that do not run and are to be started: that makes and destroys nothing, so it is no action.
    pub start: Vec<InstanceRef>,
    /// Members that did not become ready by the deadline of their group.
    pub overdue: BTreeSet<InstanceRef>,
    /// Why the plan does not proceed.
    pub waits: Vec<Wait>,
    /// Instances with this group's tag that hold no slot and are left alone.
    pub strays: Vec<InstanceRef>,
    /// Every desired member is ready at this template, for the first time.
    pub replaced: Option<Revision>,
    /// What was found out about the rollout.
    pub findings: Vec<Finding>,
    /// What a group of this name had before it was declared again is known now.
    pub known: bool,
    /// The group was being destroyed and nothing of it is left.
    pub finished: bool,
    /// When to plan again even if nothing has happened.
    pub wake_at: Option<Timestamp>,
    /// What this cluster cannot have done; it is reported, and left as it is.
    pub anomalies: Vec<Anomaly>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Provision {
        slot: Slot,
    },
    /// Create the replacement of the instance in a slot before that one is destroyed: start-first.
    Replace {
        slot: Slot,
    },
    /// Of the plugin of that template.
    Destroy {
        instance: InstanceId,
        slot: Option<Slot>,
        template: Revision,
        reason: Reason,
    },
    /// Attempt an open intent again, under its token.
    Repeat {
        intent: IntentId,
    },
    /// Tag an instance that was created by hand with its group's fingerprint, so that it can be adopted.
    Label {
        instance: InstanceId,
    },
}

/// Keeps the first of these, as many as a report may have and as many bytes.
fn fit<T>(list: &mut Vec<T>, bytes: impl Fn(&T) -> usize) {
    let mut left = HEAVIEST_PART;
    let fits = |it: &&T| {
        let needed = bytes(it);
        let fits = needed <= left;
        left = left.saturating_sub(needed);
        fits
    };
    let most = list.iter().take(LARGEST_BATCH).take_while(fits).count();
    list.truncate(most);
}

impl Plan {
    /// What this plan writes to the log, together with the outcomes of calls.
    pub fn report(
        &self,
        group: &GroupId,
        (revision, target): (Revision, Revision),
        term: Term,
        outcomes: impl IntoIterator<Item = (IntentId, Outcome)>,
    ) -> Report {
        let mut report = Report::new(ObjectKey::group(group), revision, term);
        let outcomes = self.outcomes.iter().cloned().chain(outcomes);
        report.facts.extend(outcomes.map(|(intent, outcome)| Fact::Outcome(intent, outcome)));
        let gone = self.gone.iter().cloned().map(|(slot, instance)| Fact::Gone { slot, instance });
        report.facts.extend(gone);
        let ready = self.ready.iter().cloned().map(|(slot, instance)| Fact::Ready { slot, instance });
        report.facts.extend(ready);
        let unhealthy = self.unhealthy.iter().cloned();
        report.facts.extend(unhealthy.map(|(slot, instance, since)| Fact::Unhealthy {
            slot,
            instance,
            since,
        }));
        report.facts.extend(self.adopt.iter().cloned().map(Fact::Adopted));
        report.facts.extend(self.replaced.map(Fact::AllReplaced));
        let to = target;
        report.facts.extend(self.findings.iter().cloned().map(|finding| Fact::Rollout { to, finding }));
        report.facts.extend(self.known.then_some(Fact::MembersKnown));
        report.facts.extend(self.finished.then_some(Fact::Emptied));
        for action in &self.actions {
            match action {
                Action::Provision { slot } => report.claims.push(Claim::Provision { slot: slot.clone() }),
                Action::Replace { slot } => report.claims.push(Claim::Replace { slot: slot.clone() }),
                Action::Destroy { instance, slot, template, reason } => report.claims.push(Claim::Destroy {
                    instance: instance.clone(),
                    slot: slot.clone(),
                    template: *template,
                    reason: *reason,
                }),
                Action::Repeat { intent } => report.repeats.push(*intent),
                Action::Label { instance } => {
                    report.claims.push(Claim::Label { instance: instance.clone() });
                }
            }
        }
        report
    }

    /// Keeps what one report may carry of the verdicts; the rest follows in the next.
    pub(super) fn bound(&mut self) {
        let named = |instance: &InstanceRef| instance.id.as_str().len();
        let said = |outcome: &Outcome| match outcome {
            Outcome::Done(instance) => instance.as_str().len(),
            Outcome::Refused { message, .. } | Outcome::Unsure { message } => message.len(),
        };
        fit(&mut self.outcomes, |(_, outcome)| said(outcome));
        fit(&mut self.gone, |(_, instance)| named(instance));
        fit(&mut self.ready, |(_, instance)| named(instance));
        fit(&mut self.unhealthy, |(_, instance, _)| named(instance));
        fit(&mut self.adopt, |it| it.instance.as_str().len());
    }

    /// Nothing is under way, and nothing is to be done.
    pub fn is_at_rest(&self) -> bool {
        self.actions.is_empty()
            && self.outcomes.is_empty()
            && self.gone.is_empty()
            && self.adopt.is_empty()
            && self.findings.is_empty()
            && self.waits.iter().all(Wait::is_at_rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every mixture of short and long ids: what is kept fits, nothing is skipped, and something always goes on.
    #[test]
    fn a_plan_is_bounded_in_bytes_however_long_the_ids_are() {
        for (count, short, long, every) in
            [(1, 1, 4096, 1), (400, 1, 4096, 2), (600, 3, 3, 1), (600, 4096, 4096, 1), (600, 100, 1 << 21, 7)]
        {
            let id = |n: usize| {
                let length = if n.is_multiple_of(every) { long } else { short };
                InstanceRef::from(format!("{n:04}{}", "x".repeat(length)).as_str())
            };
            let all: Vec<_> = (0..count).map(|n| (Slot::Ordinal(n as u32), id(n))).collect();
            let mut plan = Plan { gone: all.clone(), ready: all.clone(), ..Plan::default() };
            plan.bound();
            for part in [&plan.gone, &plan.ready] {
                let bytes: usize = part.iter().map(|(_, it)| it.id.as_str().len()).sum();
                assert!(
                    bytes <= HEAVIEST_PART && part.len() <= LARGEST_BATCH,
                    "{count} of {short} and {long}"
                );
                assert_eq!(part[..], all[..part.len()], "the first of them");
                let next = all.get(part.len()).map_or(usize::MAX, |(_, it)| it.id.as_str().len());
                let full = part.len() == LARGEST_BATCH || bytes.saturating_add(next) > HEAVIEST_PART;
                assert!(full, "{count} of {short} and {long}: no more than needed is put off");
                assert!(!part.is_empty() || next > HEAVIEST_PART);
            }
        }
    }
}
