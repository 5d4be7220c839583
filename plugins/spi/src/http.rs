//! One GET of an HTTP or HTTPS URL, for probes, scripts and files.

use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// Which servers are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Those with a certificate that the authorities of this machine vouch for.
    System,
    /// All: a probe asks whether somebody answers at the address of an instance, for which seldom anybody
    /// issues a certificate. Nothing secret is sent.
    Anybody,
}

/// What is read of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status, such as 200. Redirects are not followed.
    pub status: u16,
    /// The body; empty unless it was asked for.
    pub body: Vec<u8>,
}

/// Whether a text is a URL that [`get`] takes.
///
/// ```
/// assert!(spi::http::is_url("https://example.com/group.yaml"));
/// assert!(!spi::http::is_url("group.yaml"));
/// ```
pub fn is_url(text: &str) -> bool {
    let after = |scheme: &str| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty());
    after("http://") || after("https://")
}

/// Sends a GET over a connection of its own and returns the status, with at most `most` bytes of the body; with
/// 0 the body is not waited for. A larger body, no response within `timeout`, and a response that is not HTTP/1
/// are errors.
pub async fn get(url: &str, trust: Trust, most: usize, timeout: Duration) -> Result<Response, String> {
    let exchange = exchange(url, trust, most);
    tokio::time::timeout(timeout, exchange)
        .await
        .unwrap_or_else(|_| Err(format!("no response within {timeout:?}")))
}

async fn exchange(url: &str, trust: Trust, most: usize) -> Result<Response, String> {
    let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
    if !is_url(url) || uri.host().is_none() {
        return Err("not an http:// or https:// URL".to_owned());
    }
    let request = Request::get(uri)
        .header("accept", "*/*")
        .header("user-agent", concat!("infrakit/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    // A machine without authorities can read what is not encrypted.
    let trust = if url.starts_with("http://") { Trust::Anybody } else { trust };
    let response = client(trust)?.request(request).await.map_err(|error| causes(&error))?;
    let status = response.status().as_u16();
    let body = match most {
        0 => Vec::new(),
        most => {
            let body = Limited::new(response.into_body(), most).collect().await;
            body.map_err(|error| format!("the body cannot be read: {error}"))?.to_bytes().to_vec()
        }
    };
    Ok(Response { status, body })
}

/// An error with its causes: hyper's own sentence says only what it was about to do.
fn causes(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    text
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

fn client(trust: Trust) -> Result<&'static HttpClient, String> {
    static SYSTEM: OnceLock<HttpClient> = OnceLock::new();
    static ANYBODY: OnceLock<HttpClient> = OnceLock::new();
    let made = match trust {
        Trust::System => &SYSTEM,
        Trust::Anybody => &ANYBODY,
    };
    if let Some(made) = made.get() {
        return Ok(made);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = match trust {
        Trust::System => config.with_native_roots().map_err(|error| error.to_string())?.with_no_client_auth(),
        Trust::Anybody => {
            let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)));
            config.with_no_client_auth()
        }
    };
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    // A kept connection would hide that nobody listens any more.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    Ok(made.get_or_init(|| client))
}

/// Takes every certificate.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
