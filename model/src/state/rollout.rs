//! A rollout as the managers agree on it: what the leader found out, and what operators do to it.

use super::context::Context;
use super::group::{GroupState, Lifecycle};
use crate::command::Steer;
use crate::event::Kind;
use crate::ids::{Generation, GroupId, Revision, Slot};
use crate::report::Finding;
use crate::rollout::{Cause, NoSteer, Phase, Rollout};
use crate::spec::{GroupSpec, OnFailure};

impl GroupState {
    /// Every desired member is ready at this template.
    pub(super) fn all_replaced(&mut self, context: &mut Context<'_>, id: &GroupId, at: Revision) {
        let after = match self.phase.when_all_replaced(at) {
            after if after == self.phase => return,
            Phase::Succeeded { at } if self.rollout.back => Phase::RolledBack { at },
            after => after,
        };
        // Why it was taken back is still of interest.
        let cause = self.rollout.cause.take().filter(|_| self.rollout.back);
        self.enter(context, after, cause);
        if context.level >= 2 {
            self.rollout.stable = Some(self.revision);
            self.rollout.failed.clear();
        }
        let kind = match after {
            Phase::RolledBack { .. } => Kind::RolloutRolledBack,
            _ => Kind::RolloutSucceeded,
        };
        context.emit(Some(id), kind, format!("all members are ready at the template of revision {at}"));
    }

    /// Takes in what the leader found out about the rollout to `at`; a late word about another changes nothing.
    pub(super) fn found(&mut self, context: &mut Context<'_>, id: &GroupId, at: Revision, finding: &Finding) {
        if at != self.target || self.lifecycle != Lifecycle::Managed {
            return;
        }
        match (finding, self.phase) {
            (Finding::Failed { slot, generation }, Phase::Running { .. } | Phase::Baking { .. }) => {
                self.member_failed(context, id, slot, *generation);
            }
            (Finding::NoProgress, Phase::Running { .. } | Phase::Baking { .. }) => {
                match self.spec.updating.on_failure {
                    OnFailure::Pause => self.stop(context, id, Cause::NoProgress),
                    OnFailure::Continue => self.fail(context, id),
                    OnFailure::Rollback => self.roll_back(context, id, Cause::NoProgress),
                }
            }
            (Finding::NoProgress, Phase::RollingBack { .. }) => self.fail(context, id),
            (Finding::CanariesHealthy, Phase::Running { to }) if !self.rollout.promoted => {
                self.enter(context, Phase::Baking { to }, None);
                let what = format!("the canaries of revision {to} are healthy, and are watched");
                context.emit(Some(id), Kind::RolloutBaking, what);
            }
            (Finding::CanariesProven, Phase::Baking { to }) => {
                self.promote(context, to);
                let what = format!("the canaries of revision {to} have stayed healthy; the others follow");
                context.emit(Some(id), Kind::RolloutPromoted, what);
            }
            _ => {}
        }
    }

    /// What an operator does to it; the answer is what its event is to say.
    pub(super) fn steer(
        &mut self,
        context: &mut Context<'_>,
        id: &GroupId,
        steer: Steer,
    ) -> Result<(), NoSteer> {
        if self.lifecycle != Lifecycle::Managed {
            return Err(NoSteer::NotGoingOn);
        }
        let by = Cause::Operator(context.by.clone());
        match (steer, self.phase) {
            (Steer::Pause, Phase::Paused { .. }) => Ok(()),
            (Steer::Pause, Phase::Running { .. } | Phase::Baking { .. } | Phase::RollingBack { .. }) => {
                self.stop(context, id, by);
                Ok(())
            }
            (Steer::Pause, _) => Err(NoSteer::NotGoingOn),
            (Steer::Resume, Phase::Paused { to } | Phase::Failed { to }) => {
                let phase = if self.rollout.back { Phase::RollingBack { to } } else { Phase::Running { to } };
                self.enter(context, phase, None);
                self.rollout.failed.clear();
                context.emit(Some(id), Kind::RolloutResumed, format!("to the template of revision {to}"));
                Ok(())
            }
            (Steer::Resume, Phase::Running { .. } | Phase::Baking { .. } | Phase::RollingBack { .. }) => {
                Ok(())
            }
            (Steer::Resume, _) => Err(NoSteer::NotPaused),
            (Steer::Promote, Phase::Running { to } | Phase::Baking { to } | Phase::Paused { to })
                if self.spec.updating.canary.is_some() && !self.rollout.promoted =>
            {
                self.promote(context, to);
                context.emit(Some(id), Kind::RolloutPromoted, format!("by {}", context.by));
                Ok(())
            }
            (Steer::Promote, _) => Err(NoSteer::NoCanary),
            (Steer::Abort, Phase::RollingBack { .. }) => Ok(()),
            (Steer::Abort, phase) if phase.is_over() && !matches!(phase, Phase::Failed { .. }) => {
                Err(NoSteer::NotGoingOn)
            }
            (Steer::Abort, _) if self.stable_spec().is_none() => Err(NoSteer::NothingBefore),
            (Steer::Abort, _) => {
                self.roll_back(context, id, by);
                Ok(())
            }
        }
    }

    fn member_failed(
        &mut self,
        context: &mut Context<'_>,
        id: &GroupId,
        slot: &Slot,
        generation: Generation,
    ) {
        let member = self.roster.get(slot);
        let is_there = member.is_some_and(|it| it.instances().any(|it| it.generation == generation));
        if !is_there || self.rollout.failed.insert((slot.clone(), generation)).is_some() {
            return;
        }
        let failed = self.rollout.failed.len();
        let most = self.spec.updating.disruption(&self.spec.allocation).failures;
        let what =
            format!("the new member in slot {slot} (generation {generation}) failed: {failed} of {most}");
        context.emit(Some(id), Kind::RolloutMemberFailed, what);
        let cause = Cause::Failures(failed as u32);
        match self.spec.updating.on_failure {
            _ if failed < most => {}
            OnFailure::Continue => {}
            OnFailure::Pause => self.stop(context, id, cause),
            OnFailure::Rollback => self.roll_back(context, id, cause),
        }
    }

    fn stop(&mut self, context: &mut Context<'_>, id: &GroupId, cause: Cause) {
        let to = self.phase.target();
        context.emit(Some(id), Kind::RolloutPaused, format!("to the template of revision {to}: {cause}"));
        self.enter(context, Phase::Paused { to }, Some(cause));
    }

    fn fail(&mut self, context: &mut Context<'_>, id: &GroupId) {
        let to = self.phase.target();
        let what = format!("to the template of revision {to}: {}", Cause::NoProgress);
        context.emit(Some(id), Kind::RolloutFailed, what);
        self.enter(context, Phase::Failed { to }, Some(Cause::NoProgress));
    }

    fn promote(&mut self, context: &Context<'_>, to: Revision) {
        self.enter(context, Phase::Running { to }, None);
        self.rollout.promoted = true;
    }

    /// What a rollback declares: the template of the latest rollout that succeeded, and all else as it is now.
    fn stable_spec(&self) -> Option<GroupSpec> {
        let stable = self.revisions.get(&self.rollout.stable?)?;
        (stable.spec.template != self.spec.template)
            .then(|| GroupSpec { template: stable.spec.template.clone(), ..(*self.spec).clone() })
    }

    /// Declares the template of before as a revision of its own: what is declared stays what is wanted. When there is
    /// nothing to go back to, it pauses.
    fn roll_back(&mut self, context: &mut Context<'_>, id: &GroupId, cause: Cause) {
        let Some(spec) = self.stable_spec() else {
            self.stop(context, id, cause);
            return;
        };
        let (from, stable) = (self.revision, self.rollout.stable);
        let revision = Revision(self.revision.0 + 1);
        let mut after = GroupState::committed(Some(self), &spec, false, revision, context);
        after.keep_revision();
        after.phase = Phase::RollingBack { to: after.target };
        after.rollout = Rollout {
            began: context.at,
            since: context.at,
            progressed: context.at,
            cause: Some(cause.clone()),
            back: true,
            stable,
            ..Rollout::default()
        };
        let what = format!("revision {revision} has the template of before revision {from}: {cause}");
        context.emit(Some(id), Kind::RolloutRollingBack, what);
        *self = after;
    }

    /// Nothing could get on until now: whoever is on the way has its time once more.
    pub(super) fn begin_anew(&mut self, context: &Context<'_>) {
        if context.level >= 2 && !self.phase.is_over() {
            self.rollout.since = context.at;
            self.rollout.progressed = context.at;
        }
    }

    pub(super) fn enter(&mut self, context: &Context<'_>, phase: Phase, cause: Option<Cause>) {
        self.phase = phase;
        if context.level >= 2 {
            self.rollout.since = context.at;
            self.rollout.progressed = context.at;
            self.rollout.cause = cause;
        }
    }

    /// The template that a rollback would go back to, by the revision that declared it; none when there is none.
    pub fn goes_back_to(&self) -> Option<Revision> {
        self.stable_spec().and(self.rollout.stable)
    }
}
