//! TLS 1.3 between managers and their clients. What is presented and trusted may change while it is in use: a
//! connection takes what holds when it is made.

use std::io;
use std::sync::{Arc, RwLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::credentials::{BadCertificate, Credentials};
use crate::join_token::Fingerprint;

/// The name in the certificate of every manager. A certificate authority signs for one cluster alone.
pub const SERVER_NAME: &str = "manager.infrakit";

/// The protocol that is spoken inside: HTTP/2.
const ALPN: &[u8] = b"h2";

/// The configurations for both ends, when it is known who this is.
#[derive(Clone, Default)]
pub struct Tls(Arc<RwLock<Option<Ends>>>);

#[derive(Clone)]
struct Ends {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// From now on, connections are made so.
    pub fn set(&self, credentials: &Credentials) -> Result<(), BadCertificate> {
        let ends = Ends { client: client(credentials)?, server: server(credentials)? };
        *self.0.write().expect("nobody panics while holding it") = Some(ends);
        Ok(())
    }

    fn ends(&self) -> io::Result<Ends> {
        let known = self.0.read().expect("nobody panics while holding it").clone();
        known.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "it is not known yet who this is"))
    }

    /// For a connection that is made.
    pub fn client(&self) -> io::Result<Arc<ClientConfig>> {
        Ok(self.ends()?.client)
    }

    /// For a connection that is accepted.
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
        roots.add(authority.clone()).map_err(|error| bad("a certificate authority")(&error))?;
    }
    Ok(Arc::new(roots))
}

/// What is shown: the certificate, and what leads from it to an authority that the other side may know alone.
fn own(credentials: &Credentials) -> Vec<CertificateDer<'static>> {
    std::iter::once(&credentials.certificate).chain(&credentials.bridge).cloned().collect()
}

/// For whoever has credentials.
pub fn client(credentials: &Credentials) -> Result<Arc<ClientConfig>, BadCertificate> {
    let bad = bad("the credentials");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad(&error))?
        .with_root_certificates(roots(&credentials.trusted)?)
        .with_client_auth_cert(own(credentials), credentials.key())
        .map_err(|error| bad(&error))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// For whoever has nothing but a token yet: it says by which authority the cluster is known.
pub fn newcomer(authority: Fingerprint) -> Result<Arc<ClientConfig>, BadCertificate> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad("TLS")(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { authority, provider, algorithms }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// A manager asks who calls, and takes those who have no certificate for strangers.
fn server(credentials: &Credentials) -> Result<Arc<ServerConfig>, BadCertificate> {
    let bad = bad("the credentials");
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&credentials.trusted)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| bad(&error))?;
    // Newcomers know the authority by its fingerprint alone, and must be shown the whole of it.
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

/// Trusts the managers of the cluster whose authority has this fingerprint.
#[derive(Debug)]
struct Pinned {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let meant = chain.iter().find(|it| Fingerprint::of(it) == self.authority).ok_or_else(|| {
            rustls::Error::General(
                "this is another cluster than the token's, or its authority changed".into(),
            )
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
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
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

/// Connects to a manager.
pub async fn connect(address: &str, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}
