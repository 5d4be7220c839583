//! The public API of one manager. Calls that need the leader are forwarded to it.

mod answers;
mod forecast;
mod forward;
mod identity;
mod membership;
mod secrets;
mod status;
mod strays;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use answers::{is_done, no_group, refused, unavailable};
use api::proto::manager_server::{Manager as ManagerRpc, ManagerServer};
use api::{Code, Error, proto as pb};
use forward::Forward;
use futures_util::Stream;
use futures_util::future::join_all;
use model::command::{Declaration, Settle, Verb};
use model::plan::{Unasked, operators_word};
use model::status::GroupStatus;
use model::{
    Actor, Allocation, Answer, Change, Command, GroupId, GroupSpec, InstanceId, ObjectKey, PluginName,
    RequestId, Revision, State, tags,
};
use raft::{Published, Replica, Role};
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Response, Status};

use crate::access::{Principal, may_name_secrets};
use crate::clock::Clock;
use crate::dial::Secure;
use crate::leadership::leads;
use crate::members::Members;
use crate::outage::Outage;
use crate::reconcile::Assessments;
use crate::telemetry;
use crate::world::{Plugins, Rejection, World};

/// Limit of pending proposals; further ones get `Busy`. A working majority commits that many in a fraction of
/// a second.
const WAITING: usize = 2048;
/// How long a proposal waits for a majority before the call fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a scale is retried if another commit came in between.
const RETRIES: usize = 5;
/// The largest request: a commit of several of the largest specs.
const LARGEST_REQUEST: usize = 16 << 20;
/// The size of one chunk of a backup.
const BACKUP_CHUNK: usize = 1 << 20;
/// Limit of the key and the value of a variable.
const LARGEST_VARIABLE: usize = 64 * 1024;

/// The service of one manager.
#[derive(Clone)]
pub(crate) struct Service {
    replica: Replica,
    role: watch::Receiver<Role>,
    world: Arc<Plugins>,
    assessments: Assessments,
    clock: Clock,
    members: Arc<Members>,
    forward: Forward,
    outages: watch::Receiver<Option<Outage>>,
    waiting: Arc<Semaphore>,
}

type Answered<T> = Result<Response<T>, Status>;

impl Service {
    pub(crate) fn new(
        replica: Replica,
        world: Arc<Plugins>,
        assessments: Assessments,
        clock: Clock,
        members: Arc<Members>,
        dial: Secure,
        outages: watch::Receiver<Option<Outage>>,
    ) -> Self {
        let role = replica.watch_role();
        let forward = Forward::new(replica.clone(), role.clone(), dial);
        Self {
            replica,
            role,
            world,
            assessments,
            clock,
            members,
            forward,
            outages,
            waiting: Arc::new(Semaphore::new(WAITING)),
        }
    }

    pub(crate) fn server(&self) -> ManagerServer<Self> {
        ManagerServer::new(self.clone())
            .max_decoding_message_size(LARGEST_REQUEST)
            .max_encoding_message_size(64 << 20)
    }

    async fn propose(&self, id: RequestId, by: &Actor, change: Change) -> Result<Answer, Error> {
        let level = self.replica.published().state.level;
        if change.level() > level {
            return Err(Error::new(Code::Conflict, "not supported by every manager yet")
                .cause(format!("cluster feature level {level}, needs {}", change.level()))
                .remedy("upgrade all managers (`infrakit node ls` shows versions); nothing was changed"));
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Error::new(Code::Busy, format!("{WAITING} changes are already pending"))
                .remedy("try again in a moment; nothing was changed"));
        };
        let at = self.clock.now();
        let command = Command { id, by: by.clone(), at, change };
        let proposed = tokio::time::timeout(PATIENCE, self.replica.propose(&command, None)).await;
        match proposed {
            Ok(Ok(Answer::Refused(refusal))) => Err(refused(&refusal)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(_) => Err(Error::new(Code::Unavailable, "no majority of the managers answered")
                .cause(format!("waited {PATIENCE:?}"))
                .remedy("repeat the command; it is applied at most once")),
        }
    }

    /// Does this to the group that a request is about.
    async fn object(&self, request: Request<pb::GroupRequest>, verb: Verb) -> Answered<pb::Done> {
        let by = principal(&request);
        let request = request.into_inner();
        let id = api::request_id(&request.request_id)?;
        let key = ObjectKey::group(&request.group.as_str().into());
        self.propose(id, &by, Change::Object { key, verb }).await?;
        Ok(Response::new(pb::Done {}))
    }

    /// The state after everything that was committed before the call.
    async fn read(&self) -> Result<Published, Error> {
        match tokio::time::timeout(PATIENCE, self.replica.read()).await {
            Ok(Ok(published)) => Ok(published),
            Ok(Err(error)) => Err(unavailable(&error)),
            Err(_) => Err(Error::new(Code::Unavailable, "no majority of the managers answered")),
        }
    }

    /// Validates the specs with their plugins: for each, why it waits for a missing plugin, if that is
    /// allowed. All objections are reported together.
    async fn accept(&self, specs: &[&GroupSpec], allow_missing: bool) -> Result<Vec<Option<String>>, Error> {
        let asked = join_all(specs.iter().map(|spec| self.world.validate(spec))).await;
        let mut waits: Vec<Vec<String>> = vec![Vec::new(); specs.len()];
        let mut objections = Vec::new();
        for (item, rejection) in
            asked.into_iter().enumerate().flat_map(|(item, all)| all.into_iter().map(move |it| (item, it)))
        {
            let Rejection { flavor, plugin, absent, message } = rejection;
            if absent && allow_missing {
                waits[item].push(format!("plugin `{plugin}` does not answer: {message}"));
                continue;
            }
            let (item, plugin) = (item as u32, plugin.to_string());
            objections.push(pb::Objection { item, flavor, plugin, absent, cause: message });
        }
        let Some(first) = objections.first() else {
            return Ok(waits.into_iter().map(|why| (!why.is_empty()).then(|| why.join("; "))).collect());
        };
        let group = &specs[first.item as usize].id;
        let error = if first.absent {
            Error::new(
                Code::PluginUnavailable,
                format!("group `{group}`: plugin `{}` does not answer", first.plugin),
            )
            .remedy(format!(
                "start `{}`, use a plugin that `infrakit plugin ls` lists, or commit with \
                 --allow-missing-plugins; nothing was changed",
                PluginName::new(&first.plugin).lookup()
            ))
        } else {
            Error::new(Code::PluginRefused, format!("group `{group}`: plugin `{}` rejects it", first.plugin))
                .remedy("fix the properties that it names; nothing was changed")
        };
        let error = error.cause(first.cause.clone());
        Err(Error { objections, ..error })
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
        Some(model::status::status(id, group, seen))
    }

    fn group(&self, state: &State, id: &GroupId, with_slots: bool) -> Option<pb::Group> {
        let group = state.group(id)?;
        let status = self.status_of(state, id)?;
        Some(api::group(&status, &group.spec.template, with_slots))
    }

    fn groups(&self, state: &State) -> Vec<pb::Group> {
        state.groups.keys().filter_map(|id| self.group(state, id, false)).collect()
    }

    /// The commits of a request, after validation by their plugins.
    async fn commits(
        &self,
        asked: Vec<pb::CommitItem>,
        allow_missing: bool,
    ) -> Result<(Vec<Declaration>, Vec<Option<String>>), Error> {
        let mut items: Vec<Declaration> = Vec::new();
        for item in asked {
            let spec = api::spec_from(item.spec)?;
            if items.iter().any(|other| other.spec.key() == ObjectKey::group(&spec.id)) {
                return Err(Error::new(Code::Invalid, format!("the group `{}` is declared twice", spec.id)));
            }
            let if_revision = item.if_revision.map(Revision);
            items.push(Declaration { spec: spec.into(), if_revision, unvalidated: false });
        }
        let specs: Vec<&GroupSpec> = items.iter().filter_map(|item| item.spec.as_group()).collect();
        let waits = self.accept(&specs, allow_missing).await?;
        Ok((items, waits))
    }

    async fn commit_now(&self, request: pb::CommitRequest, by: &Actor) -> Result<pb::CommitReply, Error> {
        let began = std::time::SystemTime::now();
        let id = api::request_id(&request.request_id)?;
        if request.items.is_empty() {
            return Err(Error::new(Code::Invalid, "the request has no group to commit"));
        }
        let (mut items, waits) = self.commits(request.items, request.allow_missing_plugins).await?;
        for (item, waits) in items.iter_mut().zip(&waits) {
            item.unvalidated = waits.is_some();
        }
        let before = self.replica.published();
        let plans: Vec<String> = items.iter().map(|item| self.summary(&before, item)).collect();
        let Answer::Committed(list) = self.propose(id, by, Change::Declare { items }).await? else {
            return Err(Error::new(Code::Internal, "unexpected response to a commit (a bug)"));
        };
        let cluster = &self.replica.identity().cluster;
        list.iter().for_each(|it| telemetry::committed(cluster, by, began, it));
        let committed = list.into_iter().zip(plans).zip(waits).map(|((it, plan), waits)| pb::Committed {
            group: it.group.to_string(),
            revision: it.revision.0,
            replaced: it.replaced.map(|revision| revision.0),
            unchanged: it.unchanged,
            plan,
            waits: waits.unwrap_or_default(),
        });
        Ok(pb::CommitReply { committed: committed.collect() })
    }
}

/// The authenticated caller.
fn principal<T>(request: &Request<T>) -> Actor {
    Actor(request.extensions().get::<Principal>().map_or("anonymous", |principal| &principal.name).to_owned())
}

/// The role of the caller.
fn role<T>(request: &Request<T>) -> model::Role {
    request.extensions().get::<Principal>().map_or(model::Role::Viewer, |principal| principal.role)
}

/// On the leader, continues; on any other manager, returns the reply of the leader.
macro_rules! at_leader {
    ($self:ident, $request:ident, $method:ident) => {
        if let Some(mut leader) = $self.forward.leader(&$request)? {
            return leader.$method(Forward::mark($request)).await;
        }
    };
}

#[tonic::async_trait]
impl ManagerRpc for Service {
    type WatchGroupStream = Pin<Box<dyn Stream<Item = Result<pb::Group, Status>> + Send>>;
    type EventsStream = Pin<Box<dyn Stream<Item = Result<pb::Event, Status>> + Send>>;
    type BackupStream = Pin<Box<dyn Stream<Item = Result<pb::BackupChunk, Status>> + Send>>;

    async fn commit(&self, request: Request<pb::CommitRequest>) -> Answered<pb::CommitReply> {
        at_leader!(self, request, commit);
        let by = principal(&request);
        Ok(Response::new(self.commit_now(request.into_inner(), &by).await?))
    }

    async fn plan(&self, request: Request<pb::CommitRequest>) -> Answered<pb::PlanReply> {
        at_leader!(self, request, plan);
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
        at_leader!(self, request, scale);
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
        at_leader!(self, request, resolve);
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
        at_leader!(self, request, settle_strays);
        let by = principal(&request);
        Ok(Response::new(self.settle_strays_now(request.into_inner(), &by).await?))
    }

    async fn free(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        at_leader!(self, request, free);
        self.object(request, Verb::Release).await
    }

    async fn destroy(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        at_leader!(self, request, destroy);
        self.object(request, Verb::Destroy).await
    }

    async fn pause_group(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        at_leader!(self, request, pause_group);
        self.object(request, Verb::Pause).await
    }

    async fn resume_group(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Done> {
        at_leader!(self, request, resume_group);
        self.object(request, Verb::Resume).await
    }

    async fn list_groups(&self, request: Request<pb::ListRequest>) -> Answered<pb::GroupList> {
        at_leader!(self, request, list_groups);
        let state = self.read().await?.state;
        Ok(Response::new(pb::GroupList { groups: self.groups(&state) }))
    }

    async fn describe_group(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Group> {
        at_leader!(self, request, describe_group);
        let request = request.into_inner();
        let state = self.read().await?.state;
        let group = self.group(&state, &request.group.as_str().into(), true);
        Ok(Response::new(group.ok_or_else(|| no_group(&request.group))?))
    }

    async fn inspect_group(&self, request: Request<pb::GroupRequest>) -> Answered<pb::Spec> {
        at_leader!(self, request, inspect_group);
        let request = request.into_inner();
        let state = self.read().await?.state;
        let group = state.group(&request.group.as_str().into()).ok_or_else(|| no_group(&request.group))?;
        Ok(Response::new(api::spec(&group.spec, group.revision)))
    }

    async fn watch_group(&self, request: Request<pb::GroupRequest>) -> Answered<Self::WatchGroupStream> {
        if let Some(mut leader) = self.forward.leader(&request)? {
            let stream = leader.watch_group(Forward::mark(request)).await?.into_inner();
            return Ok(Response::new(Box::pin(stream)));
        }
        self.read().await?;
        Ok(Response::new(Box::pin(self.watched(request.into_inner()))))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Answered<pb::ClusterStatus> {
        let or_stale = request.get_ref().or_stale;
        let of_leader = async {
            at_leader!(self, request, status);
            Ok(Response::new(self.cluster_status().await?))
        };
        if or_stale { self.or_stale(of_leader).await } else { of_leader.await }
    }

    async fn events(&self, request: Request<pb::EventsRequest>) -> Answered<Self::EventsStream> {
        Ok(Response::new(Box::pin(self.told(request.into_inner()))))
    }

    async fn set_member_role(
        &self,
        request: Request<pb::SetMemberRoleRequest>,
    ) -> Answered<pb::SetMemberRoleReply> {
        at_leader!(self, request, set_member_role);
        let by = principal(&request);
        Ok(Response::new(self.set_member_role_now(request.into_inner(), &by).await?))
    }

    async fn transfer_leadership(
        &self,
        request: Request<pb::TransferLeadershipRequest>,
    ) -> Answered<pb::TransferLeadershipReply> {
        at_leader!(self, request, transfer_leadership);
        Ok(Response::new(self.transfer_now(request.get_ref()).await?))
    }

    async fn create_token(&self, request: Request<pb::CreateTokenRequest>) -> Answered<pb::CreateTokenReply> {
        at_leader!(self, request, create_token);
        let by = principal(&request);
        Ok(Response::new(self.create_token_now(request.into_inner(), &by).await?))
    }

    async fn list_tokens(&self, request: Request<pb::ListTokensRequest>) -> Answered<pb::TokenList> {
        at_leader!(self, request, list_tokens);
        Ok(Response::new(self.tokens().await?))
    }

    async fn revoke_token(&self, request: Request<pb::RevokeTokenRequest>) -> Answered<pb::Done> {
        at_leader!(self, request, revoke_token);
        let by = principal(&request);
        self.revoke_token_now(request.into_inner(), &by).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Answered<pb::LoginReply> {
        at_leader!(self, request, login);
        Ok(Response::new(self.log_in(request.into_inner()).await?))
    }

    async fn rotate_authority(&self, request: Request<pb::RotateAuthorityRequest>) -> Answered<pb::Done> {
        at_leader!(self, request, rotate_authority);
        let by = principal(&request);
        self.rotate_now(request.into_inner(), &by).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn get_authority(&self, request: Request<pb::GetAuthorityRequest>) -> Answered<pb::Authority> {
        at_leader!(self, request, get_authority);
        Ok(Response::new(self.authority().await?))
    }

    async fn backup(&self, request: Request<pb::BackupRequest>) -> Answered<Self::BackupStream> {
        if let Some(mut leader) = self.forward.leader(&request)? {
            let stream = leader.backup(Forward::mark(request)).await?.into_inner();
            return Ok(Response::new(Box::pin(stream)));
        }
        // It contains everything that was acknowledged before.
        self.read().await?;
        let bytes = crate::backup::take(&self.replica, &self.clock).encode();
        let from = (0..bytes.len()).step_by(BACKUP_CHUNK);
        let chunks = from.map(move |from| bytes.slice(from..bytes.len().min(from + BACKUP_CHUNK)));
        let chunks = chunks.map(|data| Ok(pb::BackupChunk { data: data.to_vec() }));
        Ok(Response::new(Box::pin(futures_util::stream::iter(chunks))))
    }

    async fn set_secret(&self, request: Request<pb::SetSecretRequest>) -> Answered<pb::Done> {
        at_leader!(self, request, set_secret);
        let by = principal(&request);
        self.set_secret_now(request.into_inner(), &by).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn remove_secret(&self, request: Request<pb::RemoveSecretRequest>) -> Answered<pb::Done> {
        at_leader!(self, request, remove_secret);
        let by = principal(&request);
        self.remove_secret_now(request.into_inner(), &by).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn list_secrets(&self, request: Request<pb::ListSecretsRequest>) -> Answered<pb::SecretList> {
        at_leader!(self, request, list_secrets);
        Ok(Response::new(self.secrets().await?))
    }

    async fn set_variable(&self, request: Request<pb::SetVariableRequest>) -> Answered<pb::Done> {
        at_leader!(self, request, set_variable);
        let (by, role) = (principal(&request), role(&request));
        let request = request.into_inner();
        if request.key.is_empty() || request.key.len() + request.value.len() > LARGEST_VARIABLE {
            return Err(Error::new(Code::Invalid, "a variable needs a name, and has at most 64 KiB").into());
        }
        if request.key.starts_with(model::state::RESERVED) && role < model::Role::Admin {
            return Err(Error::new(Code::Forbidden, format!("`{}` requires the role admin", request.key))
                .remedy("log in with a token of that role; nothing was changed")
                .into());
        }
        let id = api::request_id(&request.request_id)?;
        let change = Change::SetVariable { key: request.key, value: request.value };
        self.propose(id, &by, change).await?;
        Ok(Response::new(pb::Done {}))
    }

    async fn get_variable(&self, request: Request<pb::GetVariableRequest>) -> Answered<pb::Variable> {
        at_leader!(self, request, get_variable);
        let key = request.into_inner().key;
        let state = self.read().await?.state;
        match state.variables.get(&key) {
            Some(variable) => {
                Ok(Response::new(pb::Variable { value: variable.value.to_string(), index: variable.index.0 }))
            }
            None => Err(Error::new(Code::NotFound, format!("variable `{key}` not found")).into()),
        }
    }
}
