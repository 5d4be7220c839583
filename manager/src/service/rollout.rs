//! The rollouts of groups.

use api::proto::rollouts_server::Rollouts;
use api::{Code, Error, proto as pb};
use model::bounds::Bounds;
use model::command::Steer;
use model::command::Verb;
use model::state::Accepted;
use model::{GroupSpec, GroupState, Revision};
use tonic::{Request, Response};

use super::answers::no_group;
use super::{Answered, Service, principal};

#[tonic::async_trait]
impl Rollouts for Service {
    async fn status(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Rollout> {
        let name = request.into_inner().group;
        let state = self.read().await?.state;
        let id = name.as_str().into();
        let group = state.group(&id).ok_or_else(|| no_group(&name))?;
        let shown = self.group(&state, &id, false).ok_or_else(|| no_group(&name))?;
        Ok(Response::new(rollout(group, shown)))
    }

    async fn pause(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        self.object(request, Verb::Rollout(Steer::Pause)).await
    }

    async fn resume(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        self.object(request, Verb::Rollout(Steer::Resume)).await
    }

    async fn promote(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        self.object(request, Verb::Rollout(Steer::Promote)).await
    }

    async fn abort(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        self.object(request, Verb::Rollout(Steer::Abort)).await
    }

    async fn undo(&self, request: Request<pb::UndoRequest>) -> Answered<pb::CommitReply> {
        let by = principal(&request);
        let request = request.into_inner();
        let state = self.read().await?.state;
        let group = state.group(&request.group.as_str().into()).ok_or_else(|| no_group(&request.group))?;
        let earlier = match request.to_revision {
            Some(revision) => kept(group, revision)?,
            None => {
                let differs = |it: &&Accepted| it.spec.template != group.spec.template;
                group.revisions.values().rev().find(differs).ok_or_else(|| {
                    Error::new(
                        Code::Conflict,
                        format!("no revision of group `{}` that is kept has another template", request.group),
                    )
                    .remedy("`infrakit rollout history` lists the revisions; nothing was changed")
                })?
            }
        };
        // What a rollout rolled: the size and the rules of updates stay as they are now.
        let spec = GroupSpec { template: earlier.spec.template.clone(), ..(*group.spec).clone() };
        let commit = pb::CommitRequest {
            request_id: request.request_id,
            items: vec![pb::CommitItem {
                spec: Some(api::spec(&spec, Revision(0))),
                if_revision: Some(group.revision.0),
            }],
            allow_missing_plugins: false,
        };
        Ok(Response::new(self.commit_now(commit, &by).await?))
    }

    async fn history(&self, request: Request<pb::HistoryRequest>) -> Answered<pb::HistoryReply> {
        let request = request.into_inner();
        let state = self.read().await?.state;
        let group = state.group(&request.group.as_str().into()).ok_or_else(|| no_group(&request.group))?;
        let revisions = match request.revision {
            None => group.revisions.iter().map(|(at, it)| accepted(group, *at, it)).collect(),
            Some(revision) => {
                let it = kept(group, revision)?;
                let spec = api::spec(&it.spec, Revision(revision));
                vec![pb::Accepted { spec: Some(spec), ..accepted(group, Revision(revision), it) }]
            }
        };
        Ok(Response::new(pb::HistoryReply { revisions }))
    }
}

fn kept(group: &GroupState, revision: u64) -> Result<&Accepted, Error> {
    group.revisions.get(&Revision(revision)).ok_or_else(|| {
        let (first, last) = (group.revisions.keys().next(), group.revisions.keys().next_back());
        let range = match (first, last) {
            (Some(first), Some(last)) => format!("revisions {first} to {last} are kept"),
            _ => "none is kept".to_owned(),
        };
        Error::new(Code::NotFound, format!("revision {revision} of group `{}` is not kept", group.spec.id))
            .cause(range)
            .remedy("`infrakit rollout history` lists them; nothing was changed")
    })
}

fn accepted(group: &GroupState, at: Revision, it: &Accepted) -> pb::Accepted {
    pb::Accepted {
        revision: at.0,
        at_ms: it.at.0,
        by: it.by.to_string(),
        summary: it.spec.describe(),
        config_hash: it.spec.template.fingerprint(),
        stable: group.rollout.stable == Some(at),
        spec: None,
    }
}

fn rollout(group: &GroupState, shown: pb::Group) -> pb::Rollout {
    let may = group.disruption(&Bounds::default());
    let cause = group.rollout.cause.as_ref();
    pb::Rollout {
        group: shown.id,
        phase: shown.phase,
        reason: cause.map(|it| it.code().to_owned()).unwrap_or_default(),
        message: cause.map(ToString::to_string).unwrap_or_default(),
        revision: group.revision.0,
        target_revision: group.target.0,
        began_ms: group.rollout.began.0,
        since_ms: group.rollout.since.0,
        progressed_ms: group.rollout.progressed.0,
        progress_deadline_ms: group.spec.updating.progress_within().0,
        desired: shown.desired,
        updated: shown.updated,
        ready: shown.ready,
        failed: group.rollout.failed.len() as u64,
        failures_allowed: may.failures as u64,
        surge: may.surge as u64,
        unavailable: may.unavailable as u64,
        on_failure: group.spec.updating.on_failure.as_str().to_owned(),
        goes_back_to: group.goes_back_to().map(|it| it.0),
        waits: shown.waits,
    }
}
