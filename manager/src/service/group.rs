//! The groups of instances.

use std::pin::Pin;
use std::time::Duration;

use api::proto::groups_server::Groups;
use api::{Code, Error, proto as pb};
use futures_util::Stream;
use model::command::{Settle, Verb};
use model::plan::{Unasked, operators_word};
use model::status::GroupStatus;
use model::{Allocation, Change, GroupId, InstanceId, ObjectKey, Revision, State, tags};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::answers::{is_done, no_group};
use super::{Answered, Service, principal, role};
use crate::access::may_name_secrets;
use crate::leadership::leads;

/// How often a scale is retried if another commit came in between.
const RETRIES: usize = 5;

/// The shortest time between two messages of a watched group.
const WATCH_EVERY: Duration = Duration::from_millis(50);

#[tonic::async_trait]
impl Groups for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::Group, Status>> + Send>>;

    async fn commit(&self, request: Request<pb::CommitRequest>) -> Answered<pb::CommitReply> {
        let by = principal(&request);
        Ok(Response::new(self.commit_now(request.into_inner(), &by).await?))
    }

    async fn plan(&self, request: Request<pb::CommitRequest>) -> Answered<pb::PlanReply> {
        let role = role(&request);
        let request = request.into_inner();
        may_name_secrets(role, &request)?;
        let published = self.read().await?;
        let (items, _) = self.commits(request.items, request.allow_missing_plugins).await?;
        let mut planned = Vec::new();
        for item in &items {
            let observed = self.seen(&published, item).await;
            planned.push(self.forecast(&published, item, observed).await);
        }
        Ok(Response::new(pb::PlanReply { planned }))
    }

    async fn scale(&self, request: Request<pb::ScaleRequest>) -> Answered<pb::CommitReply> {
        let by = principal(&request);
        let request = request.into_inner();
        for attempt in 0..RETRIES {
            let state = self.read().await?.state;
            let group =
                state.group(&request.group.as_str().into()).ok_or_else(|| no_group(&request.group))?;
            if let Allocation::LogicalIds(_) = group.spec.allocation {
                return Err(Error::new(
                    Code::Conflict,
                    format!("group `{}` has logical ids and no size", request.group),
                )
                .remedy("commit it with other LogicalIDs; nothing was changed")
                .into());
            }
            let mut spec = (*group.spec).clone();
            spec.allocation = Allocation::Size(request.size);
            let stored = group.revision.0;
            let commit = pb::CommitRequest {
                // Each attempt is a new request: the one before was refused and changed nothing.
                request_id: if attempt == 0 { request.request_id.clone() } else { Vec::new() },
                items: vec![pb::CommitItem {
                    spec: Some(api::spec(&spec, Revision(0))),
                    if_revision: Some(request.if_revision.unwrap_or(stored)),
                }],
                allow_missing_plugins: false,
            };
            match self.commit_now(commit, &by).await {
                Err(Error { code: Code::Conflict, .. }) if request.if_revision.is_none() => {}
                result => return Ok(Response::new(result?)),
            }
        }
        Err(Error::new(Code::Conflict, format!("group `{}` is being changed concurrently", request.group))
            .remedy("try again; nothing was changed")
            .into())
    }

    async fn resolve(&self, request: Request<pb::ResolveRequest>) -> Answered<pb::Done> {
        let by = principal(&request);
        let request = request.into_inner();
        let id = api::request_id(&request.request_id)?;
        let state = self.read().await?.state;
        // A repeated request is not checked again.
        if !is_done(&state, id)? {
            let settle = self.in_doubt(&state, &request)?;
            self.propose(id, &by, Change::Settle(settle)).await?;
        }
        Ok(Response::new(pb::Done {}))
    }

    async fn settle_strays(&self, request: Request<pb::StraysRequest>) -> Answered<pb::StraysReply> {
        let by = principal(&request);
        Ok(Response::new(self.settle_strays_now(request.into_inner(), &by).await?))
    }

    async fn free(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        self.object(request, Verb::Release).await
    }

    async fn destroy(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        self.object(request, Verb::Destroy).await
    }

    async fn pause(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        self.object(request, Verb::Pause).await
    }

    async fn resume(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        self.object(request, Verb::Resume).await
    }

    async fn list(&self, _: Request<pb::ListRequest>) -> Answered<pb::GroupList> {
        let state = self.read().await?.state;
        Ok(Response::new(pb::GroupList { groups: self.groups(&state) }))
    }

    async fn describe(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Group> {
        let request = request.into_inner();
        let state = self.read().await?.state;
        let group = self.group(&state, &request.group.as_str().into(), true);
        Ok(Response::new(group.ok_or_else(|| no_group(&request.group))?))
    }

    async fn inspect(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Spec> {
        let request = request.into_inner();
        let state = self.read().await?.state;
        let group = state.group(&request.group.as_str().into()).ok_or_else(|| no_group(&request.group))?;
        Ok(Response::new(api::spec(&group.spec, group.revision)))
    }

    async fn watch(&self, request: Request<pb::GroupRequest>) -> Answered<Self::WatchStream> {
        self.read().await?;
        Ok(Response::new(Box::pin(self.watched(request.into_inner()))))
    }
}

impl Service {
    /// Does this to the group that a request is about.
    pub(super) async fn object(&self, request: Request<pb::GroupRequest>, verb: Verb) -> Answered<pb::Done> {
        let by = principal(&request);
        let request = request.into_inner();
        let id = api::request_id(&request.request_id)?;
        let key = ObjectKey::group(&request.group.as_str().into());
        self.propose(id, &by, Change::Object { key, verb }).await?;
        Ok(Response::new(pb::Done {}))
    }

    /// The change for the resolution of an in-doubt slot.
    fn in_doubt(&self, state: &State, request: &pb::ResolveRequest) -> Result<Settle, Error> {
        let id = GroupId::new(&request.group);
        let group = state.group(&id).ok_or_else(|| no_group(&request.group))?;
        let assessment = self.assessments.of(&id);
        let made = request.instance.as_deref().map(InstanceId::new);
        let word = assessment.as_ref().map_or(Err(Unasked::Slot), |assessment| {
            operators_word(&id, group, &assessment.observed, &assessment.plan, &request.slot, made)
        });
        let (slot, made) = (&request.slot, request.instance.as_deref().unwrap_or_default());
        let conflict = |what: String| Error::new(Code::Conflict, what);
        word.map_err(|why| match why {
            Unasked::Slot => conflict(format!("slot {slot} of group `{id}` does not wait for an operator"))
                .cause("it is not in doubt, or its open call may still take effect")
                .remedy("`infrakit group describe` shows what it waits for; nothing was changed"),
            Unasked::BelongsElsewhere => conflict(format!("`{made}` was not created for this slot"))
                .cause("it holds or was created for another slot, or belongs to another cluster")
                .remedy("name the instance that was created for this slot, or --absent; nothing was changed"),
            Unasked::NotShown => conflict(format!("`{made}` is not an instance of group `{id}`"))
                .cause("its plugin lists no such instance with the tag of the group")
                .remedy(format!(
                    "set the tag {}={id} on it at the provider; nothing was changed",
                    tags::GROUP
                )),
        })
    }

    fn status_of(&self, state: &State, id: &GroupId) -> Option<GroupStatus> {
        let group = state.group(id)?;
        let assessment =
            self.assessments.of(id).filter(|_| leads(&self.role) && self.outages.borrow().is_none());
        let seen = assessment.as_ref().map(|assessment| (&assessment.observed, &assessment.plan));
        Some(model::status::status(id, group, seen, self.clock.now()))
    }

    pub(super) fn group(&self, state: &State, id: &GroupId, with_slots: bool) -> Option<pb::Group> {
        let group = state.group(id)?;
        let status = self.status_of(state, id)?;
        Some(api::group(&status, &group.spec.template, with_slots))
    }

    pub(super) fn groups(&self, state: &State) -> Vec<pb::Group> {
        state.groups.keys().filter_map(|id| self.group(state, id, false)).collect()
    }

    /// A group's status now and at every change, as long as this manager leads.
    fn watched(&self, request: pb::GroupRequest) -> ReceiverStream<Result<pb::Group, Status>> {
        let (id, with_slots) = (GroupId::new(&request.group), !request.brief);
        let (groups, stream) = mpsc::channel(4);
        let service = self.clone();
        tokio::spawn(async move {
            let (mut states, mut assessments) =
                (service.replica.watch_declared(), service.assessments.watch());
            let mut last = None;
            loop {
                let state = states.borrow_and_update().state.clone();
                assessments.mark_unchanged();
                let began = tokio::time::Instant::now();
                let message = if leads(&service.role) {
                    service.group(&state, &id, with_slots).ok_or_else(|| Status::from(no_group(id.as_str())))
                } else {
                    Err(Status::unavailable("this manager does not lead; watch again to reach the leader"))
                };
                let ends = message.is_err();
                if message.as_ref().ok() != last.as_ref() || ends {
                    last = message.as_ref().ok().cloned();
                    if groups.send(message).await.is_err() || ends {
                        return;
                    }
                }
                // A status of ten thousand members takes milliseconds to compute.
                tokio::time::sleep(WATCH_EVERY.max(began.elapsed() * 20)).await;
                tokio::select! {
                    _ = states.changed() => {}
                    _ = assessments.changed() => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = groups.closed() => return,
                }
            }
        });
        ReceiverStream::new(stream)
    }
}
