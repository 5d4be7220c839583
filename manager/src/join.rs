//! Joins a cluster: the request of a manager that is not a member yet.

use std::sync::Arc;
use std::time::Duration;

use api::{BadCertificate, CertificateRequest, Credentials, JoinToken, tls};
use hyper_util::rt::TokioIo;
use model::command::Manager;
use raft::{Application, Identity, Joined};
use rustls::ClientConfig;
use tokio::time::Instant;
use tonic::Status;
use tower::service_fn;

use crate::error::Error;

/// How long a new manager tries to join: a leader may be elected meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// Interval of the log messages meanwhile.
const LOG_EVERY: Duration = Duration::from_secs(3);

/// Joins the cluster through the managers at `addresses`, one after another.
pub(crate) async fn join(
    addresses: &[String],
    token: Option<&JoinToken>,
    me: &Manager,
) -> Result<(Identity, Credentials), Error> {
    let candidate = Candidate::new(token, me)?;
    let deadline = Instant::now() + PATIENCE;
    let mut logged = Instant::now();
    loop {
        let mut last = String::new();
        for address in addresses {
            match candidate.ask(address).await {
                Ok(joined) => return Ok(candidate.admitted(joined)),
                Err(status) if is_final(&status) => return Err(candidate.refused(address, &status)),
                Err(status) => last = format!("{address}: {}", status.message()),
            }
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                format!("manager `{}` could not join within {PATIENCE:?}", me.name),
                last,
                "give addresses of running managers with --join; a majority of the managers must be up",
            ));
        }
        if logged.elapsed() > LOG_EVERY {
            logged = Instant::now();
            tracing::warn!(message = last, "not joined yet; retrying for {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A manager that is not a member yet, with the same application for every address.
struct Candidate {
    application: Application,
    request: CertificateRequest,
    /// Trusts the cluster of the token.
    tls: Option<Arc<ClientConfig>>,
}

impl Candidate {
    fn new(token: Option<&JoinToken>, me: &Manager) -> Result<Self, Error> {
        let no_key = |error: BadCertificate| Error::new("a certificate cannot be requested", error, "");
        let tls = token.map(|token| tls::newcomer(token.authority)).transpose().map_err(no_key)?;
        let request = CertificateRequest::new().map_err(no_key)?;
        let application = Application {
            manager: me.clone(),
            token: token.map(|token| token.secret.clone()),
            csr: request.der().to_vec().into(),
            vouched: false,
            clock_ahead_ms: None,
        };
        Ok(Self { application, request, tls })
    }

    async fn ask(&self, address: &str) -> Result<Joined, Status> {
        let (at, tls) = (address.to_owned(), self.tls.clone());
        let connector = service_fn(move |_| {
            let (at, tls) = (at.clone(), tls.clone());
            async move {
                // A token pins the cluster; a local socket does not.
                let stream: Box<dyn api::Stream> = match tls {
                    Some(tls) => Box::new(tls::connect(&at, tls).await?),
                    None => api::reach(&at, None).await?,
                };
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let line = raft::line(address, connector).map_err(Status::invalid_argument)?;
        raft::join(line, &self.application, Duration::from_secs(10)).await
    }

    fn admitted(self, joined: Joined) -> (Identity, Credentials) {
        let identity = Identity { cluster: joined.cluster, lineage: joined.lineage, node: joined.node };
        let trusted = joined.trusted.iter().map(|it| it.to_vec()).collect();
        (identity, self.request.granted(joined.certificate.to_vec(), trusted))
    }

    fn refused(&self, address: &str, status: &Status) -> Error {
        let remedy = if api::is_unauthenticated(status) || status.message().contains("token") {
            "give --token from `infrakit token create --role manager`; nothing was changed"
        } else {
            "choose another --name or address, or an empty --data-dir; nothing was changed"
        };
        Error::new(
            format!("manager `{}` could not join", self.application.manager.name),
            format!("{address}: {}", status.message()),
            remedy,
        )
    }
}

/// Whether a retry is pointless.
pub(crate) fn is_final(status: &Status) -> bool {
    let refused = matches!(
        status.code(),
        tonic::Code::FailedPrecondition
            | tonic::Code::InvalidArgument
            | tonic::Code::AlreadyExists
            | tonic::Code::PermissionDenied
    );
    refused || api::is_unauthenticated(status)
}
