//! The cluster as a whole: its status, its events, and backups.

use std::pin::Pin;

use api::proto::cluster_server::Cluster;
use api::{Error, Services, proto as pb};
use futures_util::Stream;
use model::{GroupId, Millis, NodeId};
use raft::{Published, Role};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::forward::marked;
use super::{Answered, Service};
use crate::members::is_fresh;
use crate::outage::{Outage, votes};

/// The size of one chunk of a backup.
const BACKUP_CHUNK: usize = 1 << 20;

#[tonic::async_trait]
impl Cluster for Service {
    type EventsStream = Pin<Box<dyn Stream<Item = Result<pb::Event, Status>> + Send>>;
    type BackupStream = Pin<Box<dyn Stream<Item = Result<pb::BackupChunk, Status>> + Send>>;

    async fn status(&self, request: Request<pb::StatusRequest>) -> Answered<pb::ClusterStatus> {
        let or_stale = request.get_ref().or_stale;
        let of_leader = async {
            match self.forward.leader(request.metadata().as_ref())? {
                None => Ok(Response::new(self.cluster_status().await?)),
                Some(leader) => Services::over(leader).cluster().status(marked(request)).await,
            }
        };
        if or_stale { self.or_stale(of_leader).await } else { of_leader.await }
    }

    async fn events(&self, request: Request<pb::EventsRequest>) -> Answered<Self::EventsStream> {
        Ok(Response::new(Box::pin(self.told(request.into_inner()))))
    }

    async fn backup(&self, _: Request<pb::BackupRequest>) -> Answered<Self::BackupStream> {
        // It contains everything that was acknowledged before.
        self.read().await?;
        let bytes = crate::backup::take(&self.replica, &self.clock).encode();
        let from = (0..bytes.len()).step_by(BACKUP_CHUNK);
        let chunks = from.map(move |from| bytes.slice(from..bytes.len().min(from + BACKUP_CHUNK)));
        let chunks = chunks.map(|data| Ok(pb::BackupChunk { data: data.to_vec() }));
        Ok(Response::new(Box::pin(futures_util::stream::iter(chunks))))
    }
}

impl Service {
    pub(super) async fn cluster_status(&self) -> Result<pb::ClusterStatus, Error> {
        let published = self.read().await?;
        Ok(self.status_at(&published, None))
    }

    /// The status from the leader, or what this manager knows if it has none for a while or cannot reach it.
    pub(super) async fn or_stale(
        &self,
        of_leader: impl Future<Output = Result<Response<pb::ClusterStatus>, Status>>,
    ) -> Result<Response<pb::ClusterStatus>, Status> {
        let mut outages = self.outages.clone();
        let outage = async {
            let found = outages.wait_for(Option::is_some).await.map(|outage| outage.clone());
            match found {
                Ok(outage) => outage,
                Err(_) => std::future::pending().await,
            }
        };
        let stale = |outage: Option<Outage>| {
            Ok(Response::new(self.status_at(&self.replica.published(), outage.as_ref())))
        };
        tokio::select! {
            biased;
            status = of_leader => match status {
                Err(error) if error.code() == Code::Unavailable => {
                    let outage = self.outages.borrow().clone();
                    if outage.is_some() { stale(outage) } else { Err(error) }
                }
                status => status,
            },
            outage = outage => stale(outage),
        }
    }

    fn status_at(&self, published: &Published, outage: Option<&Outage>) -> pb::ClusterStatus {
        let state = &published.state;
        let identity = self.replica.identity();
        let (leader, term) = match *self.role.borrow() {
            Role::Leader { term } => (identity.node, term),
            Role::Other { term, leader } => (leader.unwrap_or_default(), term),
        };
        let leader = if outage.is_some() { NodeId::default() } else { leader };
        let members = self.replica.members();
        let known = |member: &raft::MemberStatus| state.managers.get(&member.node);
        let machine = |member: &raft::MemberStatus| known(member)?.instance.as_ref();
        let node = |member: &raft::MemberStatus| {
            let is_leader = member.node == leader;
            let (is_reached, last_ack) = match outage {
                Some(outage) => {
                    let missing = outage.missing.get(&member.node);
                    (missing.is_none(), missing.map(|since| since.elapsed()))
                }
                None => (is_leader || is_fresh(member), member.last_ack),
            };
            pb::Node {
                id: member.node.0,
                name: known(member).map(|it| it.name.clone()).unwrap_or_default(),
                address: member.address.clone(),
                role: match (is_leader, member.voter) {
                    (true, _) => "Leader",
                    (false, true) => "Voter",
                    (false, false) => "Learner",
                }
                .to_owned(),
                status: if is_reached { "Reachable" } else { "Unreachable" }.to_owned(),
                lag: if is_leader { Some(0) } else { member.lag },
                last_ack_ms: last_ack.map(|age| age.as_millis() as u64),
                clock_ahead_ms: member.clock_ahead_ms.filter(|_| leader == identity.node && is_reached),
                conditions: conditions(member, leader == identity.node && is_reached),
                version: known(member).map(|it| it.program.version.clone()).unwrap_or_default(),
                instance: machine(member).map(|it| it.id.to_string()).unwrap_or_default(),
                instance_plugin: machine(member)
                    .and_then(|it| it.plugin.as_ref())
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            }
        };
        pb::ClusterStatus {
            cluster: identity.cluster.to_string(),
            lineage: identity.lineage,
            term: term.0,
            leader: leader.0,
            answered_by: identity.node.0,
            nodes: members.iter().map(node).collect(),
            groups: self.groups(state),
            applied_index: published.index.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            level: state.level,
            outage: outage.map(|outage| {
                let (voters, reached, needed) = votes(&members, outage);
                pb::Outage {
                    for_ms: outage.since.elapsed().as_millis() as u64,
                    voters: voters as u32,
                    reached: reached as u32,
                    needed: needed as u32,
                }
            }),
        }
    }

    /// The events that are kept, and new ones as they happen if the request asks to follow them.
    pub(super) fn told(&self, request: pb::EventsRequest) -> ReceiverStream<Result<pb::Event, Status>> {
        let (kept, mut live) = self.replica.events();
        let desired = move |event: &model::event::Event| {
            let of_group = |group: &GroupId| group.as_str() == request.group;
            event.index.0 > request.after
                && (request.group.is_empty() || event.group.as_ref().is_some_and(of_group))
        };
        let (events, stream) = mpsc::channel(64);
        tokio::spawn(async move {
            for event in kept.iter().filter(|event| desired(event)) {
                if events.send(Ok(api::event(event))).await.is_err() {
                    return;
                }
            }
            if !request.follow {
                return;
            }
            loop {
                let event = tokio::select! {
                    event = live.recv() => event,
                    () = events.closed() => return,
                };
                match event {
                    Ok(event) if desired(&event) => {
                        if events.send(Ok(api::event(&event))).await.is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(lost)) => {
                        let told = Status::data_loss(format!(
                            "{lost} events were lost, because they came faster than they were read; call again to \
                             follow new ones"
                        ));
                        let _ = events.send(Err(told)).await;
                        return;
                    }
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        ReceiverStream::new(stream)
    }
}

/// From this difference of its clock to the leader's on it is a condition of a manager.
const MOST_SKEW: Millis = Millis(1000);

/// What is unusual about a member.
fn conditions(member: &raft::MemberStatus, clock_is_known: bool) -> Vec<pb::Condition> {
    let condition = |kind: &str, reason: &str, message: String| pb::Condition {
        r#type: kind.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message,
        since_ms: None,
    };
    let ahead = member.clock_ahead_ms.filter(|_| clock_is_known);
    let skewed = ahead.filter(|it| it.unsigned_abs() > MOST_SKEW.0).map(|ahead| {
        let (reason, how) = if ahead > 0 { ("ClockAhead", "ahead of") } else { ("ClockBehind", "behind") };
        let by = Millis(ahead.unsigned_abs());
        condition("ClockSkewed", reason, format!("its clock is {by} {how} that of the leader"))
    });
    let duplicated = member.duplicated.then(|| {
        let message = "two processes run as this manager: one of them on a copy of its data directory";
        condition("Duplicated", "TwoProcesses", message.to_owned())
    });
    skewed.into_iter().chain(duplicated).collect()
}
