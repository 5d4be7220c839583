//! The service for peers. It accepts only members of this cluster.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use model::NodeId;
use model::access::Secret;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest};
use tokio::time::Instant;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::clocks::wall;
use crate::codec::{self, Corrupt};
use crate::identity::Identity;
use crate::machine::Raft;
use crate::proto::peers_server::{Peers, PeersServer};
use crate::replica::Replica;
use crate::types::{Snapshot, Types};
use crate::wire::{LARGEST_MESSAGE, PROGRAM, VERSION};
use crate::{Application, JoinHandler, PeerIdentity, proto as pb, snapshot};

/// The service of one replica.
#[derive(Clone)]
pub(crate) struct PeerService {
    replica: Replica,
    raft: Raft,
    joins: Arc<dyn JoinHandler>,
    /// It gives no vote before this: it may have followed a leader right before its restart, and the lease of
    /// that leader relies on it.
    votes_from: Instant,
}

impl Replica {
    /// The service for the peers of this replica.
    pub fn peer_server(&self, joins: Arc<dyn JoinHandler>) -> PeersServer<impl Peers> {
        PeerService::server(self.clone(), self.raft.clone(), joins, self.votes_from)
    }
}

impl PeerService {
    pub(crate) fn server(
        replica: Replica,
        raft: Raft,
        joins: Arc<dyn JoinHandler>,
        votes_from: Instant,
    ) -> PeersServer<impl Peers> {
        PeersServer::new(Self { replica, raft, joins, votes_from })
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE)
    }

    /// Checks the sender; gives it and its process.
    fn check(&self, header: Option<pb::Header>, extensions: &Extensions) -> Result<Speaker, Status> {
        let process = header.as_ref().and_then(|header| header.process);
        let from = NodeId(header.as_ref().map_or(0, |header| header.from));
        check(self.replica.identity(), header)?;
        match extensions.get::<PeerIdentity>() {
            Some(PeerIdentity::Manager(proven)) if *proven == from => {}
            None => {}
            Some(_) => {
                let why = format!("the certificate is not of manager {from}");
                return Err(Status::permission_denied(why));
            }
        }
        self.belongs(from)?;
        Ok(Speaker { node: from, process })
    }

    /// It has everything that it agreed to, so it is one of those that may run as this member: refused is the younger of
    /// two. It must stop with this reason.
    fn speaks(&self, speaker: &Speaker) -> Result<(), Status> {
        let heard = self.replica.peers.processes.hear(speaker.node, speaker.process.as_ref());
        heard.map_err(Status::permission_denied)
    }

    /// A removed member is accepted as long as its vote counts: the others may need it to complete the
    /// removal.
    fn belongs(&self, from: NodeId) -> Result<(), Status> {
        if self.replica.published().state.removed.contains_key(&from) && !self.replica.votes(from) {
            return Err(Status::permission_denied(format!("manager {from} was removed from the cluster")));
        }
        Ok(())
    }

    fn check_candidate(
        &self,
        request: &mut pb::VoteRequest,
        extensions: &Extensions,
    ) -> Result<Speaker, Status> {
        let speaker = self.check(request.header.take(), extensions)?;
        if !request.address.is_empty() && request.address.len() <= LONGEST {
            self.replica.peers.addresses.heard(&request.address);
        }
        self.replica.peers.agreed.hear(&request.agreed).map_err(Status::failed_precondition)?;
        self.may_vote(request.leadership_transfer)?;
        Ok(speaker)
    }

    fn vote_reply(&self, reply: &openraft::raft::VoteResponse<Types>) -> pb::VoteReply {
        pb::VoteReply {
            vote: Some(codec::vote(&reply.vote)),
            granted: reply.vote_granted,
            last_log_id: reply.last_log_id.as_ref().map(codec::log_id),
            agreed: self.replica.peers.agreed.tell(),
        }
    }

    /// Whether a candidate lacks what it agreed to: it gets no vote. Or its request is an old one, so it is told, and finds
    /// out for itself.
    fn lacks(&self, from: NodeId, request: &pb::VoteRequest) -> Option<pb::VoteReply> {
        let last = request.last_log_id.as_ref().map_or(0, |id| id.index);
        if last >= self.replica.peers.agreed.of(from) {
            return None;
        }
        let metrics = self.raft.server_metrics();
        let vote = Some(codec::vote(&metrics.borrow_watched().vote));
        Some(pb::VoteReply {
            vote,
            granted: false,
            last_log_id: None,
            agreed: self.replica.peers.agreed.tell(),
        })
    }

    /// A leader that transfers leadership has given up its lease first.
    fn may_vote(&self, is_transfer: bool) -> Result<(), Status> {
        if Instant::now() < self.votes_from && !is_transfer {
            return Err(Status::unavailable("it was just started, and a leader may still rely on its vote"));
        }
        Ok(())
    }
}

/// Who speaks, and by which of its processes.
struct Speaker {
    node: NodeId,
    process: Option<pb::Process>,
}

/// Checks sender and recipient: a request from another cluster or for another manager is rejected.
fn check(identity: &Identity, header: Option<pb::Header>) -> Result<(), Status> {
    let header = header.ok_or_else(|| Status::invalid_argument("the header is missing"))?;
    let why = if header.version != VERSION {
        format!("protocol version {} is not {VERSION}", header.version)
    } else if header.cluster != identity.cluster.as_str() {
        format!("this manager belongs to cluster {}, not {}", identity.cluster.short(), header.cluster)
    } else if header.lineage < identity.lineage {
        // It must stop with this reason: it is no longer part of this cluster.
        return Err(Status::permission_denied(format!(
            "the cluster went on without it: manager {} has lineage {}, the cluster now has lineage {}",
            header.from, header.lineage, identity.lineage
        )));
    } else if header.lineage != identity.lineage {
        format!("this manager belongs to lineage {}, not {}", identity.lineage, header.lineage)
    } else if header.to != identity.node.0 {
        format!("this is manager {}, not {}", identity.node, header.to)
    } else {
        return Ok(());
    };
    Err(Status::failed_precondition(why))
}

impl From<Corrupt> for Status {
    fn from(corrupt: Corrupt) -> Self {
        Status::invalid_argument(corrupt.to_string())
    }
}

/// The longest name, address, storage id or token of a request to join.
const LONGEST: usize = 256;
/// The longest certificate signing request.
const LONGEST_CSR: usize = 8 << 10;

/// Whether the fields of a request to join are short enough for the log.
fn fits(request: &pb::JoinRequest) -> Result<(), Status> {
    let manager = request.manager.as_ref();
    let fields = manager.iter().flat_map(|it| {
        [&it.name, &it.address, &it.storage].into_iter().chain(&it.instance).chain(&it.instance_plugin)
    });
    let long = fields.into_iter().any(|field| field.len() > LONGEST)
        || request.token.as_ref().is_some_and(|secret| secret.len() > LONGEST)
        || request.csr.len() > LONGEST_CSR;
    if long { Err(Status::invalid_argument("a name, an address or a token is too long")) } else { Ok(()) }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("the replica cannot respond: {error}"))
}

fn append_request(request: pb::AppendRequest) -> Result<AppendEntriesRequest<Types>, Corrupt> {
    Ok(AppendEntriesRequest {
        vote: codec::from_vote(request.vote.ok_or_else(|| Corrupt::missing("vote"))?),
        prev_log_id: request.prev.map(codec::from_log_id),
        entries: request.entries.into_iter().map(codec::from_entry).collect::<Result<_, _>>()?,
        leader_commit: request.commit.map(codec::from_log_id),
    })
}

fn vote_request(request: pb::VoteRequest) -> Result<VoteRequest<Types>, Corrupt> {
    let vote = codec::from_vote(request.vote.ok_or_else(|| Corrupt::missing("vote"))?);
    let mut asked = VoteRequest::new(vote, request.last_log_id.map(codec::from_log_id));
    asked.leadership_transfer = request.leadership_transfer;
    Ok(asked)
}

#[tonic::async_trait]
impl Peers for PeerService {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<pb::AppendReply, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (_, extensions, requests) = request.into_parts();
        if let Some(PeerIdentity::Manager(proven)) = extensions.get() {
            // Before the stream begins, so that the peer gets the reason.
            self.belongs(*proven)?;
        }
        let peers = self.clone();
        // An invalid request ends the stream; the peer reconnects.
        let requests = requests.map(move |request| {
            let mut request = request.ok()?;
            let speaker = peers.check(request.header.take(), &extensions).ok()?;
            // Otherwise the stream ends: it acknowledges nothing any more.
            peers.replica.peers.agreed.hear(&request.agreed).ok()?;
            // A leader has the votes of a majority: it is told of, and not refused.
            let _ = peers.speaks(&speaker);
            peers.replica.hears_leader();
            append_request(request).ok()
        });
        let requests = requests
            .take_while(|request| std::future::ready(request.is_some()))
            .filter_map(std::future::ready);
        let processes = self.replica.peers.processes.clone();
        let replies = self.raft.stream_append(requests).map(move |result| {
            let result = match result.map_err(stopped)? {
                Ok(matching) => pb::append_reply::Result::Matching(pb::Matching {
                    log_id: matching.as_ref().map(codec::log_id),
                }),
                Err(StreamAppendError::Conflict(id)) => {
                    pb::append_reply::Result::Conflict(codec::log_id(&id))
                }
                Err(StreamAppendError::HigherVote(vote)) => {
                    pb::append_reply::Result::HigherVote(codec::vote(&vote))
                }
            };
            Ok(pb::AppendReply {
                result: Some(result),
                clock: wall(),
                process: Some(processes.own()),
                duplicated: processes.duplicated().iter().map(|node| node.0).collect(),
            })
        });
        Ok(Response::new(Box::pin(replies)))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let (_, extensions, mut request) = request.into_parts();
        let speaker = self.check_candidate(&mut request, &extensions)?;
        if let Some(refused) = self.lacks(speaker.node, &request) {
            return Ok(Response::new(refused));
        }
        self.speaks(&speaker)?;
        let reply = self.raft.vote(vote_request(request)?).await.map_err(stopped)?;
        Ok(Response::new(self.vote_reply(&reply)))
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let (_, extensions, mut request) = request.into_parts();
        let speaker = self.check_candidate(&mut request, &extensions)?;
        if let Some(refused) = self.lacks(speaker.node, &request) {
            return Ok(Response::new(refused));
        }
        self.speaks(&speaker)?;
        let reply = self.raft.pre_vote(vote_request(request)?).await.map_err(stopped)?;
        Ok(Response::new(self.vote_reply(&reply)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferRequest>,
    ) -> Result<Response<pb::TransferReply>, Status> {
        let (_, extensions, mut request) = request.into_parts();
        self.check(request.header.take(), &extensions)?;
        let from = codec::from_vote(request.from.ok_or_else(|| Corrupt::missing("vote"))?);
        let last = request.last_log_id.map(codec::from_log_id);
        let asked = TransferLeaderRequest::new(from, request.to, last);
        let refused = match self.raft.handle_transfer_leader(asked).await.map_err(stopped)? {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        Ok(Response::new(pb::TransferReply { refused }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        let (_, extensions, mut chunks) = request.into_parts();
        let first = chunks.message().await?.ok_or_else(|| Status::invalid_argument("an empty snapshot"))?;
        let mut head = first.head.ok_or_else(|| Status::invalid_argument("the head is missing"))?;
        self.check(head.header.take(), &extensions)?;
        let vote = codec::from_vote(head.vote.ok_or_else(|| Corrupt::missing("vote"))?);
        let mut data = BytesMut::from(&first.data[..]);
        while let Some(chunk) = chunks.message().await? {
            if (data.len() + chunk.data.len()) as u64 > head.bytes {
                return Err(Status::invalid_argument("the snapshot is longer than announced"));
            }
            data.extend_from_slice(&chunk.data);
        }
        let data: Bytes = data.freeze();
        snapshot::check(&head, &data)?;
        let snapshot = Snapshot { meta: snapshot::meta(head)?, snapshot: data };
        let reply = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(Response::new(pb::SnapshotReply { vote: Some(codec::vote(&reply.vote)) }))
    }

    async fn digests(
        &self,
        request: Request<pb::DigestsRequest>,
    ) -> Result<Response<pb::DigestsReply>, Status> {
        let (_, extensions, request) = request.into_parts();
        self.check(request.header, &extensions)?;
        let digests = self.replica.digests().await;
        let digest =
            |(index, digest): (u64, [u8; 32])| pb::Digest { index, digest: Bytes::copy_from_slice(&digest) };
        Ok(Response::new(pb::DigestsReply {
            program: PROGRAM.to_owned(),
            digests: digests.into_iter().map(digest).collect(),
        }))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinReply>, Status> {
        let from = request.extensions().get().copied().unwrap_or(PeerIdentity::Unknown);
        let request = request.into_inner();
        if request.version != VERSION {
            let why = format!(
                "protocol version {} is not {VERSION}: use the same version of infrakit",
                request.version
            );
            return Err(Status::failed_precondition(why));
        }
        fits(&request)?;
        let application = Application {
            manager: codec::from_manager(request.manager)?,
            token: request.token.map(|secret| Secret::new(&secret[..])),
            csr: request.csr,
            vouched: request.vouched && matches!(from, PeerIdentity::Manager(_)),
            clock_ahead_ms: (request.clock > 0).then(|| request.clock as i64 - wall() as i64),
        };
        match self.joins.join(application, from).await {
            Ok(joined) => Ok(Response::new(pb::JoinReply {
                cluster: joined.cluster.to_string(),
                lineage: joined.lineage,
                node: joined.node.0,
                certificate: joined.certificate,
                trusted: joined.trusted,
            })),
            Err((why, true)) => Err(Status::failed_precondition(why)),
            Err((why, false)) => Err(Status::unavailable(why)),
        }
    }
}
