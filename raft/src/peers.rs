//! The clients of the peers: three connections for each, so that a large snapshot or a long append never
//! delays a heartbeat.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use model::NodeId;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BasicNode;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use crate::acks::Acks;
use crate::addresses::Addresses;
use crate::agreed::{Agreed, went_back};
use crate::clocks::{Clocks, wall};
use crate::codec::{self, Corrupt};
use crate::divergence::Digest;
use crate::identity::Identity;
use crate::joining::{Application, Joined};
use crate::processes::Processes;
use crate::proto::peers_client::PeersClient;
use crate::published::Published;
use crate::reason::Reason;
use crate::rng::Source;
use crate::types::{Snapshot, Types, Vote};
use crate::wire::{LARGEST_MESSAGE, PROGRAM, VERSION};
use crate::{Dial, Line, proto as pb, snapshot};

/// Timeout for the digests of a peer.
const COMPARED_IN: Duration = Duration::from_secs(3);

/// The size of one chunk of a snapshot; the next is read only when the window opens.
const CHUNK: usize = 1 << 20;

/// How long a leader may delay the commit index; further entries carry it along.
const HELD: Duration = Duration::from_millis(2);

/// Creates clients for peers.
pub(crate) struct Peers {
    identity: Identity,
    dial: Arc<dyn Dial>,
    known: watch::Receiver<Published>,
    heard: Heard,
}

/// What this replica has heard from and of its peers; its service for them shares it.
#[derive(Clone)]
pub(crate) struct Heard {
    pub(crate) acks: Acks,
    /// Why this manager must end: it is no member any more, or another process runs as it.
    pub(crate) expelled: Reason,
    pub(crate) addresses: Addresses,
    pub(crate) agreed: Agreed,
    pub(crate) clocks: Clocks,
    pub(crate) processes: Processes,
}

impl Heard {
    pub(crate) fn nothing(agreed: Agreed) -> Self {
        Self {
            acks: Acks::default(),
            expelled: Reason::default(),
            addresses: Addresses::default(),
            agreed,
            clocks: Clocks::default(),
            processes: Processes::of(Source.random()),
        }
    }
}

impl Peers {
    /// `known` has the current addresses of peers, which may have changed since they became members.
    pub(crate) fn new(
        identity: Identity,
        dial: Arc<dyn Dial>,
        known: watch::Receiver<Published>,
        heard: Heard,
    ) -> Self {
        Self { identity, dial, known, heard }
    }

    fn peer(&self, target: u64, node: &BasicNode) -> Peer {
        let line = PeerLine {
            dial: self.dial.clone(),
            known: self.known.clone(),
            node: NodeId(target),
            first: node.addr.clone(),
            addresses: self.heard.addresses.clone(),
            now: Mutex::default(),
        };
        let header = header(&self.identity, target);
        Peer { header, line, heard: self.heard.clone() }
    }
}

/// Without the process, which is said with every request.
fn header(identity: &Identity, to: u64) -> pb::Header {
    pb::Header {
        cluster: identity.cluster.to_string(),
        lineage: identity.lineage,
        from: identity.node.0,
        to,
        version: VERSION,
        process: None,
    }
}

fn client(line: Line) -> PeersClient<Line> {
    PeersClient::new(line)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE)
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    // openraft asks for a client of its own for appends, heartbeats and snapshots; each gets a
    // connection of its own.
    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        self.peer(target, node)
    }
}

/// The responses to a stream of requests, in order.
type Answers<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

/// A peer, over one connection.
pub(crate) struct Peer {
    header: pb::Header,
    line: PeerLine,
    heard: Heard,
}

/// The connection to a peer, which follows its address.
struct PeerLine {
    dial: Arc<dyn Dial>,
    known: watch::Receiver<Published>,
    node: NodeId,
    /// Its address when it became a member.
    first: String,
    addresses: Addresses,
    now: Mutex<Option<(String, PeersClient<Line>)>>,
}

impl PeerLine {
    fn client(&self) -> Result<PeersClient<Line>, String> {
        let address = self.addresses.of(&self.known.borrow().state, self.node, &self.first);
        let mut now = self.now.lock().expect("nobody panics while holding the line");
        match &*now {
            Some((at, client)) if *at == address => Ok(client.clone()),
            _ => {
                let client = client(self.dial.dial(&address)?);
                *now = Some((address, client.clone()));
                Ok(client)
            }
        }
    }
}

impl Peer {
    fn vote_response(&self, reply: pb::VoteReply) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.heard.agreed.hear(&reply.agreed).map_err(|why| unreachable(&Corrupt(why)))?;
        let vote = reply.vote.ok_or_else(|| unreachable(&Corrupt::missing("vote")))?;
        let last = reply.last_log_id.map(codec::from_log_id);
        Ok(VoteResponse::new(codec::from_vote(vote), last, reply.granted))
    }

    fn vote_request(&self, request: &VoteRequest<Types>) -> pb::VoteRequest {
        pb::VoteRequest {
            header: Some(self.header()),
            vote: Some(codec::vote(&request.vote)),
            last_log_id: request.last_log_id.as_ref().map(codec::log_id),
            leadership_transfer: request.leadership_transfer,
            address: self.line.addresses.own(),
            agreed: self.heard.agreed.tell(),
        }
    }

    fn header(&self) -> pb::Header {
        pb::Header { process: Some(self.heard.processes.own()), ..self.header.clone() }
    }

    fn client(&self) -> Result<PeersClient<Line>, RPCError<Types>> {
        self.line.client().map_err(|error| unreachable(&Corrupt(error)))
    }
}

/// Unreachable, never "network error": openraft backs off from the one and spins on the other.
fn unreachable<E: StdError + 'static>(error: &E) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(error))
}

/// Waits for a response, within the timeout of openraft.
async fn within<T>(
    ttl: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, RPCError<Types>> {
    match tokio::time::timeout(ttl, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(unreachable(&status)),
        Err(late) => Err(unreachable(&late)),
    }
}

fn append_request(
    header: pb::Header,
    request: &AppendEntriesRequest<Types>,
    agreed: Vec<pb::Agreed>,
) -> pb::AppendRequest {
    pb::AppendRequest {
        agreed,
        header: Some(header),
        vote: Some(codec::vote(&request.vote)),
        prev: request.prev_log_id.as_ref().map(codec::log_id),
        entries: request.entries.iter().map(codec::entry).collect(),
        commit: request.leader_commit.as_ref().map(codec::log_id),
    }
}

fn append_result(reply: pb::AppendReply) -> Result<StreamAppendResult<Types>, Corrupt> {
    Ok(match reply.result.ok_or_else(|| Corrupt::missing("append result"))? {
        pb::append_reply::Result::Matching(it) => Ok(it.log_id.map(codec::from_log_id)),
        pb::append_reply::Result::Conflict(id) => Err(StreamAppendError::Conflict(codec::from_log_id(id))),
        pb::append_reply::Result::HigherVote(vote) => {
            Err(StreamAppendError::HigherVote(codec::from_vote(vote)))
        }
    })
}

/// Delays a request with nothing but a new commit index: usually the next one with entries carries it too,
/// which halves the messages for a single write.
fn hold_back<S>(requests: S) -> impl Stream<Item = AppendEntriesRequest<Types>>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    struct Held {
        request: AppendEntriesRequest<Types>,
        until: Instant,
    }
    // The first one of a stream finds the end of the peer's log.
    let begin = (requests.fuse(), None::<Held>, true);
    stream::unfold(begin, |(mut requests, mut held, first)| async move {
        let sent = loop {
            let next = match &held {
                None => requests.next().await,
                Some(Held { until, .. }) => tokio::select! {
                    biased;
                    next = requests.next() => next,
                    () = tokio::time::sleep_until(*until) => break held?.request,
                },
            };
            match next {
                Some(request) if request.entries.is_empty() && !first => {
                    let until = held.map_or_else(|| Instant::now() + HELD, |before| before.until);
                    held = Some(Held { request, until });
                }
                Some(request) => break request,
                None => break held?.request,
            }
        };
        Some((sent, (requests, None, false)))
    })
}

impl Peer {
    /// Sends requests as they come, and returns the responses in order.
    fn stream<'s>(
        &self,
        input: impl Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + 'static,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Answers<'s>, RPCError<Types>>> {
        let header = self.header.clone();
        let client = self.client();
        let unanswered = self.heard.acks.stream_to(header.to);
        let (known, peer) = (self.heard.agreed.clone(), NodeId(header.to));
        let (clocks, processes) = (self.heard.clocks.clone(), self.heard.processes.clone());
        let speaks = processes.clone();
        async move {
            // It is asked again after its end, when it has not even a first request.
            let mut input = Box::pin(input.fuse());
            // openraft's pause after a failure is in here: a line that cannot even be made would never come to
            // ask for a request, and would be made again at once, and again.
            let first = input.next().await;
            let (asked, agreed) = (unanswered.clone(), known.clone());
            // The highest commit index that this stream has told, and the highest entry that was acknowledged to it.
            let (told, matched) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (tells, matches) = (told.clone(), matched.clone());
            let requests = stream::iter(first).chain(input).map(move |request| {
                asked.asks(request.vote.leader_id.term);
                let commit = request.leader_commit.map_or(0, |id| id.index);
                tells.fetch_max(commit, Ordering::SeqCst);
                agreed.acknowledged(peer, matches.load(Ordering::SeqCst), commit);
                agreed.committed(commit);
                let header = pb::Header { process: Some(speaks.own()), ..header.clone() };
                append_request(header, &request, agreed.tell())
            });
            let mut client = client?;
            let replies = within(option.hard_ttl(), client.append(requests)).await?;
            let replies: Answers<'s> = Box::pin(replies.map(move |reply| {
                let reply = reply.map_err(|status| unreachable(&status))?;
                clocks.heard(peer, reply.clock, wall());
                processes.told(&reply.duplicated);
                // Refused is who asks for a vote. Whoever only follows does no harm, and is told of.
                let _ = processes.hear(peer, reply.process.as_ref());
                let result = append_result(reply).map_err(|corrupt| unreachable(&corrupt))?;
                unanswered.is_answered(!matches!(result, Err(StreamAppendError::HigherVote(_))));
                match &result {
                    Ok(Some(matching)) => {
                        matched.fetch_max(matching.index, Ordering::SeqCst);
                        known.acknowledged(peer, matching.index, told.load(Ordering::SeqCst));
                    }
                    // openraft would not bear it.
                    Err(StreamAppendError::Conflict(at)) if at.index <= known.of(peer) => {
                        let last = at.index.saturating_sub(1);
                        let why = went_back(peer, last, known.of(peer));
                        return Err(unreachable(&Corrupt(why)));
                    }
                    Ok(None) | Err(_) => {}
                }
                Ok(result)
            }));
            Ok(replies)
        }
        .boxed()
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let mut replies = self.stream(stream::iter([rpc]), option).await?;
        match replies.next().await {
            Some(reply) => Ok(reply?.into()),
            None => Err(unreachable(&Corrupt("the peer closed the stream without a response".into()))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Answers<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        self.stream(hold_back(input), option)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = self.vote_request(&rpc);
        let reply = within(option.hard_ttl(), self.client()?.vote(request)).await?;
        self.vote_response(reply)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let request = self.vote_request(&rpc);
        let mut client = self.client()?;
        let expelled = self.heard.expelled.clone();
        let asked = async move {
            // A rejected manager sooner or later requests votes.
            client.pre_vote(request).await.inspect_err(|status| expelled.note(status))
        };
        let reply = within(option.hard_ttl(), asked).await?;
        self.vote_response(reply)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let mut head = snapshot::head(&snapshot.meta, &snapshot.snapshot);
        head.header = Some(self.header());
        head.vote = Some(codec::vote(&vote));
        let first = pb::SnapshotChunk { head: Some(head), data: Bytes::new() };
        let data = snapshot.snapshot;
        let pieces = (0..data.len()).step_by(CHUNK).map(move |at| {
            let end = (at + CHUNK).min(data.len());
            pb::SnapshotChunk { head: None, data: data.slice(at..end) }
        });
        let chunks = stream::iter(std::iter::once(first).chain(pieces));
        let mut client = self.line.client().map_err(|error| Unreachable::new(&Corrupt(error)))?;
        let reply = tokio::select! {
            reply = tokio::time::timeout(option.hard_ttl(), client.install_snapshot(chunks)) => reply,
            closed = cancel => return Err(closed.into()),
        };
        let reply = match reply {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return Err(Unreachable::new(&status).into()),
            Err(late) => return Err(Unreachable::new(&late).into()),
        };
        let vote = reply.vote.ok_or_else(|| Unreachable::new(&Corrupt::missing("vote")))?;
        Ok(SnapshotResponse::new(codec::from_vote(vote)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let request = pb::TransferRequest {
            header: Some(self.header()),
            from: Some(codec::vote(request.from_leader())),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().map(codec::log_id),
        };
        let reply = within(option.hard_ttl(), self.client()?.transfer_leader(request)).await?;
        if reply.refused.is_empty() { Ok(Ok(())) } else { Err(unreachable(&Corrupt(reply.refused))) }
    }
}

/// The digests of a peer; none if it runs another version, whose encoding may differ.
pub(crate) async fn digests(
    dial: &dyn Dial,
    identity: &Identity,
    peer: model::NodeId,
    address: &str,
) -> Result<Option<BTreeMap<u64, Digest>>, Status> {
    let mut client = client(dial.dial(address).map_err(Status::unavailable)?);
    let request = pb::DigestsRequest { header: Some(header(identity, peer.0)) };
    let reply = tokio::time::timeout(COMPARED_IN, client.digests(request)).await;
    let reply = reply.map_err(|late| Status::deadline_exceeded(late.to_string()))??.into_inner();
    let digest = |it: pb::Digest| Some((it.index, Digest::try_from(&it.digest[..]).ok()?));
    Ok((reply.program == PROGRAM).then(|| reply.digests.into_iter().filter_map(digest).collect()))
}

/// Sends a request to join.
pub async fn join(line: Line, application: &Application, deadline: Duration) -> Result<Joined, Status> {
    let mut client = client(line);
    let request = pb::JoinRequest {
        version: VERSION,
        manager: Some(codec::manager(&application.manager)),
        token: application.token.as_ref().map(|secret| Bytes::copy_from_slice(secret.expose())),
        csr: application.csr.clone(),
        vouched: application.vouched,
        clock: wall(),
    };
    let reply = tokio::time::timeout(deadline, client.join(request)).await;
    let late = |_| Status::deadline_exceeded(format!("no response within {deadline:?}"));
    let reply = reply.map_err(late)??.into_inner();
    Ok(Joined {
        cluster: reply.cluster.into(),
        lineage: reply.lineage,
        node: model::NodeId(reply.node),
        certificate: reply.certificate,
        trusted: reply.trusted,
    })
}
