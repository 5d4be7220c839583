//! Connections to the other managers: TLS with the certificate of this one.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::Subject;
use api::tls::{self, Tls};
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use raft::{Dial, Line};
use rustls::pki_types::CertificateDer;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;

/// The pause after a handshake in which one side did not trust the other: the next one would end in the same way, and
/// costs both of them more than anything else that they do.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);

/// Connects with the current credentials of this manager.
#[derive(Clone)]
pub(crate) struct Secure {
    tls: Tls,
    refused: Refused,
}

/// Addresses where the last handshake was refused, when and why.
type Refused = Arc<Mutex<BTreeMap<String, (Instant, String)>>>;

type Stream = BufReader<TlsStream<TcpStream>>;
type Connecting = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

impl Secure {
    pub(crate) fn new(tls: Tls) -> Self {
        Self { tls, refused: Refused::default() }
    }

    /// A connector to this address, for an endpoint.
    pub(crate) fn connector(&self, address: &str) -> impl Fn(Uri) -> Connecting + Clone + use<> {
        let (dial, address) = (self.clone(), address.to_owned());
        move |_| {
            let (dial, address) = (dial.clone(), address.clone());
            Box::pin(async move { Ok(TokioIo::new(dial.connect(&address).await?)) })
        }
    }

    async fn connect(&self, address: &str) -> io::Result<Stream> {
        if let Some(why) = self.is_refused(address) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let connected = tls::connect(address, self.tls.client()?).await;
        let mut refused = self.refused.lock().expect("nobody panics while holding it");
        match &connected {
            Err(error) if error.get_ref().is_some_and(|it| it.is::<rustls::Error>()) => {
                refused.insert(address.to_owned(), (Instant::now(), error.to_string()));
            }
            Ok(_) | Err(_) => drop(refused.remove(address)),
        }
        connected
    }

    fn is_refused(&self, address: &str) -> Option<String> {
        let refused = self.refused.lock().expect("nobody panics while holding it");
        refused.get(address).filter(|(at, _)| at.elapsed() < REFUSED_PAUSE).map(|(_, why)| why.clone())
    }

    /// Who is at this address, by a certificate of this cluster.
    pub(crate) async fn who_is(&self, address: &str) -> io::Result<Subject> {
        Subject::of(&self.certificate(address).await?).map_err(io::Error::other)
    }

    /// The certificate of whoever is at this address, one of this cluster.
    pub(crate) async fn certificate(&self, address: &str) -> io::Result<CertificateDer<'static>> {
        tls::shown(&self.connect(address).await?)
    }
}

impl Dial for Secure {
    fn dial(&self, address: &str) -> Result<Line, String> {
        raft::line(address, tower::service_fn(self.connector(address)))
    }
}
