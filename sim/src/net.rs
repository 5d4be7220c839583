//! A network between simulated managers: delays, cuts in either direction, and peers that die.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use raft::{Broken, Dial, Line, MemoryDisk};
use tonic::body::Body;
use tower::{Service, service_fn};

/// How long a sender believes in a line that carries nothing: the keep-alive of the real one.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers requests: what a manager serves to its peers.
pub(crate) type Answer = Arc<
    dyn Fn(http::Request<Body>) -> BoxFuture<'static, Result<http::Response<Body>, Broken>> + Send + Sync,
>;

/// Everybody's lines.
#[derive(Clone, Default)]
pub(crate) struct Net(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    servers: BTreeMap<String, Server>,
    /// Directions, from and to, that carry nothing.
    cut: BTreeSet<(usize, usize)>,
    /// The longest delay of one message, in milliseconds.
    slowest: u64,
    disks: Vec<MemoryDisk>,
    /// Whoever votes next loses its power as it answers.
    dooms_a_voter: bool,
    died: Vec<usize>,
}

#[derive(Clone)]
struct Server {
    node: usize,
    /// Which life of the manager this is: its lines die with it.
    lifecycle: u64,
    answer: Answer,
}

/// One end of the network: what a manager dials with.
pub(crate) struct Socket {
    net: Net,
    node: usize,
    lifecycle: u64,
}

impl Net {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while holding the network")
    }

    /// A network between the owners of these disks.
    pub(crate) fn of(disks: Vec<MemoryDisk>) -> Self {
        let net = Self::default();
        net.state().disks = disks;
        net
    }

    pub(crate) fn doom_a_voter(&self) {
        self.state().dooms_a_voter = true;
    }

    /// Whoever votes keeps its power from now on.
    pub(crate) fn spare_voters(&self) {
        self.state().dooms_a_voter = false;
    }

    /// Those whose power went as they voted.
    pub(crate) fn died(&self) -> Vec<usize> {
        std::mem::take(&mut self.state().died)
    }

    /// Takes the power from a voter that is to die, at the moment its answer leaves it. Soon after, it
    /// and its candidate cannot hear each other any more: whoever the voter elects next, in which term,
    /// is then between its disk and itself.
    fn voted(&self, voter: usize, candidate: usize) {
        let mut state = self.state();
        if std::mem::take(&mut state.dooms_a_voter) {
            state.disks[voter].cut_power(|_| 0);
            state.died.push(voter);
            let net = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                net.cut(voter, candidate);
                net.cut(candidate, voter);
            });
        }
    }

    pub(crate) fn serve(&self, address: &str, node: usize, lifecycle: u64, answer: Answer) {
        self.state().servers.insert(address.to_owned(), Server { node, lifecycle, answer });
    }

    pub(crate) fn dial_from(&self, node: usize, lifecycle: u64) -> Arc<dyn Dial> {
        Arc::new(Socket { net: self.clone(), node, lifecycle })
    }

    pub(crate) fn kill(&self, address: &str) {
        self.state().servers.remove(address);
    }

    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.state().cut.insert((from, to));
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.cut.clear();
        state.slowest = 0;
        state.dooms_a_voter = false;
    }

    pub(crate) fn slow(&self, slowest: u64) {
        self.state().slowest = slowest;
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.state().cut.contains(&(from, to))
    }

    fn lives(&self, node: usize, lifecycle: u64) -> bool {
        self.state().servers.values().any(|server| server.node == node && server.lifecycle == lifecycle)
    }

    /// Carries one message over, or tells that the line is broken.
    async fn carry(&self, from: (usize, u64), to: (usize, u64)) -> Result<(), Broken> {
        let slowest = self.state().slowest;
        tokio::time::sleep(Duration::from_micros(raft::between(50, 500 + slowest * 1000))).await;
        let began = tokio::time::Instant::now();
        loop {
            if !self.lives(from.0, from.1) || !self.lives(to.0, to.1) {
                return Err(Broken::new("the peer is gone"));
            }
            if !self.is_cut(from.0, to.0) {
                return Ok(());
            }
            if began.elapsed() >= PATIENCE {
                return Err(Broken::new("the line is cut"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A body whose every piece has to come over.
    fn over(&self, body: Body, from: (usize, u64), to: (usize, u64)) -> Body {
        let pieces = stream::unfold((self.clone(), body, false), move |(net, mut body, broken)| async move {
            if broken {
                return None;
            }
            let frame = body.frame().await?;
            match net.carry(from, to).await {
                Ok(()) => Some((frame, (net, body, false))),
                Err(broken) => Some((Err(tonic::Status::unavailable(broken.to_string())), (net, body, true))),
            }
        });
        Body::new(StreamBody::new(pieces.boxed()))
    }
}

impl Dial for Socket {
    fn dial(&self, address: &str) -> Result<Line, String> {
        let (net, address, from) = (self.net.clone(), address.to_owned(), (self.node, self.lifecycle));
        Ok(Line::new(service_fn(move |request: http::Request<Body>| {
            let (net, address) = (net.clone(), address.clone());
            async move {
                let server = net.state().servers.get(&address).cloned();
                let Some(server) = server else {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    return Err(Broken::new("nobody listens there"));
                };
                let to = (server.node, server.lifecycle);
                net.carry(from, to).await?;
                let request = request.map(|body| net.over(body, from, to));
                let is_vote = request.uri().path().ends_with("/Vote");
                let response = (server.answer)(request).await?;
                if is_vote {
                    net.voted(to.0, from.0);
                }
                net.carry(to, from).await?;
                Ok(response.map(|body| net.over(body, to, from)))
            }
        })))
    }
}

/// Makes an [`Answer`] of a gRPC server.
pub(crate) fn answer<S>(server: S) -> Answer
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = std::convert::Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    Arc::new(move |request| {
        let mut server = server.clone();
        Box::pin(async move {
            match server.call(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            }
        })
    })
}
