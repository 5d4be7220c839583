//! Accepts connections and identifies their peers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::tls::Tls;
use api::{BadCertificate, Subject};
use futures_util::Stream;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
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

/// Connections over the network, each after its TLS handshake. A failed or slow handshake delays no other.
/// The handshakes run on the runtime `work`.
pub(crate) fn remote(
    socket: TcpSocket,
    tls: Tls,
    work: Handle,
) -> io::Result<impl Stream<Item = io::Result<Connection<TlsStream<TcpStream>>>>> {
    let listener = socket.listen(BACKLOG)?;
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
            let (tls, ready) = (tls.clone(), ready.clone());
            work.spawn(async move {
                let handshake = tokio::time::timeout(HANDSHAKE, handshake(stream, &tls)).await;
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

async fn handshake(stream: TcpStream, tls: &Tls) -> io::Result<Connection<TlsStream<TcpStream>>> {
    // Without it, a response of several frames waits up to 40 ms for a delayed acknowledgement.
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(tls.server()?).accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let caller = match shown {
        Some(certificate) => Caller::Certified(read(certificate).map_err(io::Error::other)?),
        None => Caller::Unknown,
    };
    Ok(Connection { stream, caller })
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
