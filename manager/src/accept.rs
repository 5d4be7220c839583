//! Accepts connections and identifies their peers.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use api::tls::{self, Tls};
use api::{BadCertificate, Subject};
use futures_util::Stream;
use model::{ClusterId, NodeId};
use rustls::pki_types::CertificateDer;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// Limit of concurrent handshakes; more wait in the queue of the listener.
const HANDSHAKES: usize = 1024;
/// Length of the queue of the listener.
const BACKLOG: u32 = 1024;
/// Pause after a failed accept, such as for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The peer of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The user who runs this manager, or root, on this machine.
    Local {
        user: String,
    },
    /// The subject of a certificate that the authority of the cluster has signed.
    Certified(PeerCertificate),
    Unknown,
}

/// The certificate that was presented when the connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerCertificate {
    pub(crate) subject: Subject,
    /// The authority that signed it, as an X.509 name.
    pub(crate) issuer: Arc<[u8]>,
    /// Its expiry, in seconds since the Unix epoch.
    pub(crate) until: i64,
}

/// A connection and its peer.
pub(crate) struct Connection<S> {
    stream: S,
    caller: Caller,
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Binds an address without listening yet: clients are refused and retry, and find the local socket then.
pub(crate) async fn reserve(address: &str) -> io::Result<TcpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it resolves to no address");
    for address in tokio::net::lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Connections in TIME_WAIT do not matter.
        socket.set_reuseaddr(true)?;
        match socket.bind(address) {
            Ok(()) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An address that is bound, and not yet served.
pub(crate) enum Bound {
    /// Whoever calls is refused.
    Reserved(TcpSocket),
    /// Whoever calls waits.
    Listening(TcpListener),
}

impl Bound {
    /// Lets whoever calls wait. Gives the listener.
    pub(crate) fn hold(self) -> io::Result<TcpListener> {
        match self {
            Bound::Reserved(socket) => socket.listen(BACKLOG),
            Bound::Listening(listener) => Ok(listener),
        }
    }

    /// Accepts connections from now on. On the runtime that serves them.
    pub(crate) fn listen(self) -> io::Result<TcpListener> {
        match self {
            Bound::Reserved(_) => self.hold(),
            Bound::Listening(listener) => {
                // It belongs to the runtime on which it was made.
                TcpListener::from_std(listener.into_std()?)
            }
        }
    }
}

/// Connections over the network, each after its TLS handshake. A failed or slow handshake delays no other.
/// The handshakes run on the runtime `work`.
pub(crate) fn remote(
    socket: Bound,
    tls: Tls,
    callers: ForeignCallers,
    work: Handle,
) -> io::Result<impl Stream<Item = io::Result<Connection<TlsStream<TcpStream>>>>> {
    let listener = socket.listen()?;
    let (ready, connections) = mpsc::channel(16);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let stream = match stream {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (tls, callers, ready) = (tls.clone(), callers.clone(), ready.clone());
            work.spawn(async move {
                let handshake = tokio::time::timeout(HANDSHAKE, handshake(stream, &tls, &callers)).await;
                drop(place);
                match handshake {
                    // If the server has stopped, the connection is dropped.
                    Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!("a TLS handshake timed out"),
                }
            });
        }
    });
    Ok(ReceiverStream::new(connections))
}

/// As which member of which cluster a manager says that it calls, and the handshake that it has begun.
pub(crate) async fn hello(
    stream: TcpStream,
) -> io::Result<(Option<(ClusterId, NodeId)>, StartHandshake<TcpStream>)> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let protocols = start.client_hello().alpn().map(tls::calls_as);
    Ok((protocols.flatten(), start))
}

async fn handshake(
    stream: TcpStream,
    tls: &Tls,
    callers: &ForeignCallers,
) -> io::Result<Connection<TlsStream<TcpStream>>> {
    // Without it, a response of several frames waits up to 40 ms for a delayed acknowledgement.
    stream.set_nodelay(true)?;
    let from = stream.peer_addr()?;
    let (calls_as, start) = hello(stream).await?;
    if let Some((cluster, node)) = calls_as {
        callers.heard(from, &cluster, node);
    }
    let stream = start.into_stream(tls.server()?).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let caller = match shown {
        Some(certificate) => Caller::Certified(read(certificate).map_err(io::Error::other)?),
        None => Caller::Unknown,
    };
    Ok(Connection { stream, caller })
}

/// Managers of other clusters that take this one for a member of theirs, each of whom is told once.
#[derive(Clone)]
pub(crate) struct ForeignCallers {
    own: ClusterId,
    told: Arc<Mutex<BTreeSet<(ClusterId, NodeId)>>>,
}

/// How many are told; whoever makes up clusters does not fill the memory.
const MOST_FOREIGN_CALLERS: usize = 100;

impl ForeignCallers {
    pub(crate) fn of(own: ClusterId) -> Self {
        Self { own, told: Arc::default() }
    }

    fn heard(&self, from: SocketAddr, cluster: &ClusterId, node: NodeId) {
        if *cluster == self.own {
            return;
        }
        let mut told = self.told.lock().expect("nobody panics while holding it");
        if told.len() < MOST_FOREIGN_CALLERS && told.insert((cluster.clone(), node)) {
            tracing::warn!(
                %from, %node, other = cluster.short(), own = self.own.short(),
                "a manager of another cluster takes this one for a member of its own: two clusters share an address; \
                 if this one was bootstrapped on an emptied disk, stop it, and join the other with --join"
            );
        }
    }
}

fn read(certificate: &CertificateDer<'_>) -> Result<PeerCertificate, BadCertificate> {
    let (issuer, until) = api::issued(certificate)?;
    Ok(PeerCertificate { subject: Subject::of(certificate)?, issuer: issuer.into(), until })
}

/// Connections through the local socket, authenticated by the user of the peer process.
pub(crate) fn local(listener: UnixListener) -> impl Stream<Item = io::Result<Connection<UnixStream>>> {
    use futures_util::StreamExt;
    tokio_stream::wrappers::UnixListenerStream::new(listener).filter_map(async |accepted| {
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tokio::time::sleep(PAUSE).await;
                return Some(Err(error));
            }
        };
        let caller = match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == rustix::process::geteuid().as_raw() => {
                Caller::Local { user: user(peer.uid()) }
            }
            _ => Caller::Unknown,
        };
        Some(Ok(Connection { stream, caller }))
    })
}

/// The name of a user, or its number if it has none.
fn user(uid: u32) -> String {
    let named = |passwd: String| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?);
            (id.parse() == Ok(uid)).then(|| name.to_owned())
        })
    };
    std::fs::read_to_string("/etc/passwd").ok().and_then(named).unwrap_or_else(|| uid.to_string())
}
