//! TLS 1.3 between managers and their clients. Credentials can be replaced at run time: a new connection uses
//! the current ones.

use std::io;
use std::sync::{Arc, RwLock};

use model::{ClusterId, NodeId};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::credentials::{BadCertificate, Credentials, Subject};
use crate::join_token::Fingerprint;

/// The DNS name in the certificate of every manager. An authority signs for one cluster only.
pub const SERVER_NAME: &str = "manager.infrakit";

/// HTTP/2.
const ALPN: &[u8] = b"h2";

/// The prefix of the name by which a manager says, before anything is encrypted, as which member of which cluster it
/// calls: among the protocols that it offers, where whoever does not know it passes it over.
const CALLS_AS: &str = "infrakit-manager/";

/// The current configurations for clients and servers, once there are credentials.
#[derive(Clone, Default)]
pub struct Tls(Arc<RwLock<Option<Ends>>>);

#[derive(Clone)]
struct Ends {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// Uses these credentials for new connections.
    pub fn set(&self, credentials: &Credentials) -> Result<(), BadCertificate> {
        let ends = Ends { client: client(credentials)?, server: server(credentials)? };
        *self.0.write().expect("nobody panics while holding it") = Some(ends);
        Ok(())
    }

    fn ends(&self) -> io::Result<Ends> {
        let known = self.0.read().expect("nobody panics while holding it").clone();
        known.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "there are no credentials yet"))
    }

    /// The configuration for an outgoing connection.
    pub fn client(&self) -> io::Result<Arc<ClientConfig>> {
        Ok(self.ends()?.client)
    }

    /// The configuration for an incoming connection.
    pub fn server(&self) -> io::Result<Arc<ServerConfig>> {
        Ok(self.ends()?.server)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn bad(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> BadCertificate {
    move |error| BadCertificate(format!("{what}: {error}"))
}

fn roots(trusted: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, BadCertificate> {
    let mut roots = RootCertStore::empty();
    for authority in trusted {
        roots.add(authority.clone()).map_err(|error| bad("invalid certificate authority")(&error))?;
    }
    Ok(Arc::new(roots))
}

/// The presented chain: the certificate, and the cross-signed authority during a rotation.
fn own(credentials: &Credentials) -> Vec<CertificateDer<'static>> {
    std::iter::once(&credentials.certificate).chain(&credentials.bridge).cloned().collect()
}

/// A client configuration with these credentials.
pub fn client(credentials: &Credentials) -> Result<Arc<ClientConfig>, BadCertificate> {
    let bad = bad("invalid credentials");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(&error))?
        .with_root_certificates(roots(&credentials.trusted)?)
        .with_client_auth_cert(own(credentials), credentials.key())
        .map_err(|error| bad(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    if let Ok(Subject::Manager { cluster, node, .. }) = Subject::of(&credentials.certificate) {
        config.alpn_protocols.push(format!("{CALLS_AS}{cluster}/{node}").into_bytes());
    }
    Ok(Arc::new(config))
}

/// The cluster and the member as which a manager calls, from the protocols that it offers. Nothing proves it.
pub fn calls_as<'a>(mut protocols: impl Iterator<Item = &'a [u8]>) -> Option<(ClusterId, NodeId)> {
    protocols.find_map(|it| {
        let (cluster, node) = std::str::from_utf8(it).ok()?.strip_prefix(CALLS_AS)?.split_once('/')?;
        Some((ClusterId::new(cluster), NodeId(node.parse().ok()?)))
    })
}

/// As what the manager at this address presents itself. Its certificate is not checked, so nothing may be entrusted
/// to it because of that.
pub async fn who_is(address: &str) -> io::Result<Subject> {
    let config = without_credentials(Trust::Anybody).map_err(io::Error::other)?;
    let certificate = shown(&connect(address, config).await?)?;
    Subject::of(&certificate).map_err(io::Error::other)
}

/// The certificate that the other side of a connection presents.
pub fn shown(stream: &BufReader<TlsStream<TcpStream>>) -> io::Result<CertificateDer<'static>> {
    let shown = stream.get_ref().get_ref().1.peer_certificates().and_then(|chain| chain.first());
    shown.map(|it| it.clone().into_owned()).ok_or_else(|| io::Error::other("it presents no certificate"))
}

/// A client configuration without credentials, for whoever has only a token: it pins the authority.
pub fn newcomer(authority: Fingerprint) -> Result<Arc<ClientConfig>, BadCertificate> {
    without_credentials(Trust::Pinned(authority))
}

fn without_credentials(trust: Trust) -> Result<Arc<ClientConfig>, BadCertificate> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad("TLS")(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { trust, provider, algorithms }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// A manager requests a client certificate; callers without one are unauthenticated.
fn server(credentials: &Credentials) -> Result<Arc<ServerConfig>, BadCertificate> {
    let bad = bad("invalid credentials");
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&credentials.trusted)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| bad(&error))?;
    // Clients with a token know only the fingerprint of the authority, so its certificate is presented too.
    let chain = own(credentials).into_iter().chain(credentials.trusted.iter().cloned()).collect();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, credentials.key())
        .map_err(|error| bad(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Whom somebody without credentials trusts.
#[derive(Debug)]
enum Trust {
    /// Managers whose authority has this fingerprint.
    Pinned(Fingerprint),
    /// Everybody, to hear who they say they are.
    Anybody,
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = match &self.trust {
            Trust::Pinned(authority) => authority,
            Trust::Anybody => return Ok(ServerCertVerified::assertion()),
        };
        let meant = chain.iter().find(|it| Fingerprint::of(it) == *authority).ok_or_else(|| {
            rustls::Error::General("the token is for another cluster, or the authority was rotated".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(meant.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(own, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not supported".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Connects to a manager with TLS, and waits until it has said something: that it accepts the connection, or an error
/// that is or contains a [`rustls::Error`].
pub async fn connect(
    address: &str,
    config: Arc<ClientConfig>,
) -> io::Result<BufReader<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    has_spoken(TlsConnector::from(config).connect(name, stream).await?).await
}

/// Waits for the first bytes of a server of HTTP/2, which speaks first. In TLS 1.3 a client has connected before the
/// server has looked at its certificate, and a refusal comes with the first read; whoever writes before that may lose it.
pub async fn has_spoken<S: AsyncRead>(stream: S) -> io::Result<BufReader<S>>
where
    BufReader<S>: AsyncBufRead + Unpin,
{
    let mut stream = BufReader::with_capacity(FIRST_READ, stream);
    if stream.fill_buf().await?.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the manager closed the connection"));
    }
    Ok(stream)
}

/// More than a server says by itself; larger reads go around the buffer.
const FIRST_READ: usize = 512;
