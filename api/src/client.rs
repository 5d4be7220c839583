//! A client of all managers: it tries the next address if one does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{self, FuturesUnordered, Stream as Answers, StreamExt};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, OnceCell};
use tonic::transport::{Channel, Endpoint};

use crate::credentials::{Credentials, Subject};
use crate::error::{Code, Error, is_unauthenticated};
use crate::proto as pb;
use crate::services::Services;
use crate::{local, tls};

/// Addresses of managers: `host:port` or paths of local sockets, one or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<String>);

/// How long all addresses may refuse connections before the call fails, once one has answered: a restart takes less.
const GONE: Duration = Duration::from_secs(4);
/// The same before: nothing may be there, or a manager that was started a moment ago.
const ABSENT: Duration = Duration::from_secs(1);

/// Pauses between rounds: a leadership transfer takes milliseconds, an election longer.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A running manager accepts a connection immediately; the next address is tried after this.
const CONNECT: Duration = Duration::from_secs(1);

/// When the next address is tried beside one that has not said anything.
const SIDE_BY_SIDE: Duration = Duration::from_millis(300);

impl Addresses {
    /// The addresses, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Parses `host:port[,host:port…]`; a part with a `/` is the path of a socket. Such an address may also be written
    /// as a URL: `https://`, `http://` and `tcp://` name the same host and port, `unix://` a path.
    ///
    /// ```
    /// let addresses = api::Addresses::parse("https://one:7701/, two:7701,unix:///run/infrakit.sock").unwrap();
    /// assert_eq!(addresses.to_string(), "one:7701,two:7701,/run/infrakit.sock");
    /// assert!(api::Addresses::parse("https://one:7701/api").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parts: Vec<String> =
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if parts.is_empty() {
            return Err(Error::new(Code::Invalid, "no manager address was given"));
        }
        let address = |part: &String| {
            Self::of_part(part).ok_or_else(|| {
                Error::new(Code::Invalid, format!("`{part}` is not a manager address"))
                    .remedy("write HOST:PORT[,HOST:PORT...], such as 127.0.0.1:7701")
            })
        };
        parts.iter().map(address).collect::<Result<_, _>>().map(Self)
    }

    fn of_part(part: &str) -> Option<String> {
        let address = match part.split_once("://") {
            Some(("unix", path)) => return path.starts_with('/').then(|| path.to_owned()),
            Some(("http" | "https" | "tcp", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(_) => return None,
            None if part.contains('/') => return Some(part.to_owned()),
            None => part,
        };
        let (host, port) = address.rsplit_once(':')?;
        let fits = !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0);
        fits.then(|| address.to_owned())
    }
}

impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Calls any manager that answers. A call with a request id is idempotent, so it can be retried at the next
/// one.
#[derive(Clone)]
pub struct Client {
    managers: Vec<Manager>,
    deadline: Duration,
    side_by_side: Duration,
    /// Whether all addresses were found to be of one cluster.
    is_one_cluster: Arc<OnceCell<()>>,
    /// Whether anybody has answered a call.
    has_answered: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Manager {
    address: String,
    services: Services,
    /// Whether it has said something on the present connection.
    is_connected: Arc<AtomicBool>,
}

impl Client {
    /// The default deadline of a call, over all managers. It outlasts an election, so that callers need not
    /// retry.
    pub const DEADLINE: Duration = Duration::from_secs(20);

    /// A client that connects on first use. Without credentials it can only reach managers on this machine.
    pub fn new(addresses: &Addresses, credentials: Option<&Credentials>) -> Result<Self, Error> {
        let unusable = |error| {
            Error::new(Code::Forbidden, "the saved credentials cannot be used").cause(format!("{error}"))
        };
        let config: Option<Arc<ClientConfig>> = credentials.map(tls::client).transpose().map_err(unusable)?;
        Self::with_tls(addresses, config)
    }

    /// As [`Client::new`], with this TLS configuration.
    pub fn with_tls(addresses: &Addresses, tls: Option<Arc<ClientConfig>>) -> Result<Self, Error> {
        let managers = addresses
            .0
            .iter()
            .map(|address| {
                let is_connected = Arc::new(AtomicBool::new(false));
                let services = Services::over(channel(address, tls.clone(), is_connected.clone())?);
                Ok(Manager { address: address.clone(), services, is_connected })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            managers,
            deadline: Self::DEADLINE,
            side_by_side: SIDE_BY_SIDE,
            is_one_cluster: Arc::default(),
            has_answered: Arc::default(),
        })
    }

    /// With another deadline for each call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Never asks two managers at a time: for calls without a request id.
    #[must_use]
    pub fn one_at_a_time(self) -> Self {
        Self { side_by_side: Duration::MAX, ..self }
    }

    /// Makes a call at one manager after another until one answers it, or the deadline passes.
    ///
    /// `call` may run several times, so it must be a read, or a write with a request id.
    pub async fn call<T>(
        &self,
        call: impl AsyncFn(Services) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, Error> {
        self.is_one_cluster.get_or_try_init(async || self.check_clusters().await).await?;
        let mut last = Error::new(Code::Unavailable, "no manager answers");
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let ask_all = async {
            loop {
                let mut all_are_gone = true;
                let mut unauthenticated = None;
                let mut reachable = false;
                let mut answers = pin!(in_turn(&self.managers, self.side_by_side, &call));
                while let Some((manager, answer)) = answers.next().await {
                    match answer {
                        Ok(response) => {
                            self.has_answered.store(true, Ordering::Relaxed);
                            return Ok(response.into_inner());
                        }
                        Err(status) => {
                            let gone = is_refused(&status);
                            // One of another version may be beside others that know the call.
                            let unknown = is_unauthenticated(&status) || is_not_supported(&status);
                            all_are_gone &= gone;
                            let mut error = Error::from(status);
                            if unknown {
                                // Another manager may accept the credentials.
                                error.cause = format!("{}: {}", manager.address, error.cause);
                                unauthenticated = Some(error);
                                continue;
                            }
                            reachable |= !gone;
                            if error.code != Code::Unavailable {
                                return Err(error);
                            }
                            last = Error { cause: format!("{}: {}", manager.address, error.cause), ..error };
                        }
                    }
                }
                if let Some(error) = unauthenticated.filter(|_| !reachable) {
                    return Err(error);
                }
                let patience = if self.has_answered.load(Ordering::Relaxed) { GONE } else { ABSENT };
                if all_are_gone && began.elapsed() > patience {
                    return Err(self.in_vain(patience, last.clone()));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        match tokio::time::timeout(self.deadline, ask_all).await {
            Ok(answer) => answer,
            Err(_) => Err(self.in_vain(self.deadline, last)),
        }
    }

    /// Fails if managers at these addresses say that they are of different clusters: a change could go to the wrong one.
    /// Whoever says nothing within [`SIDE_BY_SIDE`] is passed over.
    async fn check_clusters(&self) -> Result<(), Error> {
        let remote = self.managers.iter().filter(|it| !it.address.contains('/'));
        if remote.clone().count() < 2 {
            return Ok(());
        }
        let asked = remote.map(async |it| {
            let who = tokio::time::timeout(SIDE_BY_SIDE, tls::who_is(&it.address)).await;
            match who {
                Ok(Ok(Subject::Manager { cluster, .. })) => Some((&it.address, cluster)),
                _ => None,
            }
        });
        let told: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        if told.windows(2).all(|pair| pair[0].1 == pair[1].1) {
            return Ok(());
        }
        let each =
            told.iter().map(|(address, cluster)| format!("{address} is of cluster {}", cluster.short()));
        Err(Error::new(Code::Conflict, "these are addresses of different clusters")
            .cause(each.collect::<Vec<_>>().join(", "))
            .remedy("name the managers of one cluster with --host; nothing was changed"))
    }

    /// The status of the cluster: from its leader; or, if there has been none for longer than an election takes, the
    /// newest that a manager knows, which then says so in `outage`.
    pub async fn status(&self) -> Result<pb::ClusterStatus, Error> {
        let (known, is_out) = (Mutex::new(BTreeMap::new()), Notify::new());
        let from_leader = self.call(async |client| {
            let reply = client.cluster().status(pb::StatusRequest { or_stale: true }).await?;
            if reply.get_ref().outage.is_none() {
                return Ok(reply);
            }
            let status = reply.into_inner();
            let mut known = known.lock().expect("nobody panics while holding it");
            // Whoever says so twice has been asked in two rounds: meanwhile all others have been asked too.
            if known.insert(status.answered_by, status).is_some() {
                is_out.notify_one();
            }
            Err(tonic::Status::unavailable("there is no leader at the moment"))
        });
        let failed = tokio::select! {
            biased;
            status = from_leader => match status {
                Ok(status) => return Ok(status),
                Err(error) => error,
            },
            () = is_out.notified() => Error::new(Code::Unavailable, "there is no leader"),
        };
        let known = std::mem::take(&mut *known.lock().expect("nobody panics while holding it"));
        let newest = known.into_values().max_by_key(|status| status.applied_index);
        newest.filter(|_| failed.code == Code::Unavailable).ok_or(failed)
    }

    fn in_vain(&self, waited: Duration, last: Error) -> Error {
        let asked: Vec<&str> = self.managers.iter().map(|it| it.address.as_str()).collect();
        Error {
            what: format!("no manager answered within {waited:?}"),
            cause: format!("tried {}; last error: {}", asked.join(", "), last.cause),
            remedy: "start a majority of the managers, or name running ones with --host".into(),
            ..last
        }
    }
}

/// The answers of these managers, asked one after another: the next one when the one before has failed, or has not said
/// anything for `side_by_side`. Whoever has is waited for, for its answer may take its time.
fn in_turn<'a, T: 'a>(
    managers: &'a [Manager],
    side_by_side: Duration,
    call: &'a impl AsyncFn(Services) -> Result<tonic::Response<T>, tonic::Status>,
) -> impl Answers<Item = (&'a Manager, Result<tonic::Response<T>, tonic::Status>)> {
    let ask = move |at: usize| async move { (at, call(managers[at].services.clone()).await) };
    let begin = (0, BTreeSet::new(), FuturesUnordered::new());
    stream::unfold(begin, move |(mut next, mut open, mut asked)| async move {
        loop {
            if open.is_empty() && next == managers.len() {
                return None;
            }
            let late = async {
                loop {
                    tokio::time::sleep(side_by_side).await;
                    if !open.iter().any(|at: &usize| managers[*at].is_connected.load(Ordering::Relaxed)) {
                        return;
                    }
                }
            };
            tokio::select! {
                biased;
                Some((at, answer)) = asked.next() => {
                    open.remove(&at);
                    return Some(((&managers[at], answer), (next, open, asked)));
                }
                () = late, if next < managers.len() && !open.is_empty() => {}
                () = std::future::ready(()), if open.is_empty() => {}
            }
            asked.push(ask(next));
            open.insert(next);
            next += 1;
        }
    })
}

/// Whether the program of the manager, or of the leader that it asked, does not know the call.
fn is_not_supported(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::Unimplemented
}

/// Whether nothing listens at the address, or its name is not known.
fn is_refused(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            let is_gone = matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound);
            // The standard library has no kind for it.
            return is_gone || error.to_string().starts_with("failed to lookup address information");
        }
        cause = error.source();
    }
    false
}

/// A byte stream to a manager.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens a stream to the manager at `address`: through its local socket if it runs on this machine as the
/// same user, which authenticates the caller; otherwise with TLS.
pub async fn reach(address: &str, tls: Option<Arc<ClientConfig>>) -> io::Result<Box<dyn Stream>> {
    if address.contains('/') {
        return Ok(Box::new(tls::has_spoken(UnixStream::connect(address).await?).await?));
    }
    let mut absent = None;
    if let Some(socket) = local::socket_of(address) {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(Box::new(tls::has_spoken(stream).await?)),
            Err(error) => absent = Some(error),
        }
    }
    if let Some(tls) = tls {
        return Ok(Box::new(tls::connect(address, tls).await?));
    }
    match absent {
        Some(error) => Err(error),
        None => {
            // If nothing listens there, that error is the better one.
            drop(TcpStream::connect(address).await?);
            Err(io::Error::new(ErrorKind::PermissionDenied, format!("no credentials for {address}")))
        }
    }
}

fn channel(
    address: &str,
    tls: Option<Arc<ClientConfig>>,
    is_connected: Arc<AtomicBool>,
) -> Result<Channel, Error> {
    let wrong = |error: tonic::transport::Error| {
        Error::new(Code::Invalid, format!("`{address}` is not an address")).cause(error.to_string())
    };
    let endpoint = if address.contains('/') {
        Endpoint::from_static("http://local")
    } else {
        Endpoint::from_shared(format!("http://{address}")).map_err(wrong)?
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        // A manager that is frozen during a call must not block its callers forever.
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3));
    let address = address.to_owned();
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let (address, tls, is_connected) = (address.clone(), tls.clone(), is_connected.clone());
        async move {
            is_connected.store(false, Ordering::Relaxed);
            let stream = reach(&address, tls).await?;
            is_connected.store(true, Ordering::Relaxed);
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports_or_sockets() {
        let parse = |text: &str| Addresses::parse(text).map(|it| it.0);
        assert_eq!(parse("m1/manager.sock").expect("a path"), ["m1/manager.sock"], "also a relative one");
        assert_eq!(parse("a:1, b:2"), Ok(vec!["a:1".into(), "b:2".into()]));
        assert_eq!(parse("/run/x.sock"), Ok(vec!["/run/x.sock".into()]));
        for bad in ["", " , ", "host", "host:port", "a:1,b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn when_nobody_answers_the_error_says_what_was_tried() {
        let client = Client::new(&Addresses::parse("127.0.0.1:1,/no/such.sock").expect("addresses"), None)
            .expect("a client");
        let client = client.with_deadline(Duration::from_millis(300));
        let request = pb::StatusRequest::default();
        let error =
            client.call(async |c| c.cluster().status(request).await).await.expect_err("nobody is there");
        assert_eq!(error.code, Code::Unavailable);
        assert!(error.cause.contains("127.0.0.1:1, /no/such.sock"), "{error:?}");
    }
}
