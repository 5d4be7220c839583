//! Connections to the other managers: TLS with the certificate of this one.

use std::io;

use api::Subject;
use api::tls::{self, Tls};
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use raft::{Dial, Line};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::codegen::http::Uri;

/// Connects with the current credentials of this manager.
#[derive(Clone)]
pub(crate) struct Secure(pub(crate) Tls);

type Connecting = BoxFuture<'static, io::Result<TokioIo<BufReader<TlsStream<TcpStream>>>>>;

impl Secure {
    /// A connector to this address, for an endpoint.
    pub(crate) fn connector(&self, address: &str) -> impl Fn(Uri) -> Connecting + Clone + use<> {
        let (tls, address) = (self.0.clone(), address.to_owned());
        move |_| {
            let (tls, address) = (tls.clone(), address.clone());
            Box::pin(async move { Ok(TokioIo::new(tls::connect(&address, tls.client()?).await?)) })
        }
    }
}

impl Secure {
    /// Who is at this address, by a certificate of this cluster.
    pub(crate) async fn who_is(&self, address: &str) -> io::Result<Subject> {
        let stream = tls::connect(address, self.0.client()?).await?;
        tls::shown(&stream)
    }
}

impl Dial for Secure {
    fn dial(&self, address: &str) -> Result<Line, String> {
        raft::line(address, tower::service_fn(self.connector(address)))
    }
}
