//! Joins a cluster: the request of a manager that is not a member yet.

use std::time::Duration;

use api::{BadCertificate, CertificateRequest, Credentials, JoinToken, tls};
use hyper_util::rt::TokioIo;
use model::command::Manager;
use raft::{Application, Identity};
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
    let no_key = |error: BadCertificate| Error::new("a certificate cannot be requested", error, "");
    let tls = token.map(|token| tls::newcomer(token.authority)).transpose().map_err(no_key)?;
    let request = CertificateRequest::new().map_err(no_key)?;
    let application = Application {
        manager: me.clone(),
        token: token.map(|token| token.secret.clone()),
        csr: request.der().to_vec().into(),
        vouched: false,
    };
    let deadline = Instant::now() + PATIENCE;
    let mut logged = Instant::now();
    loop {
        let mut last = String::new();
        for address in addresses {
            let (at, tls) = (address.clone(), tls.clone());
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
            let asked = match raft::line(address, connector) {
                Ok(line) => raft::join(line, &application, Duration::from_secs(10)).await,
                Err(why) => Err(Status::invalid_argument(why)),
            };
            match asked {
                Ok(joined) => {
                    let identity =
                        Identity { cluster: joined.cluster, lineage: joined.lineage, node: joined.node };
                    let trusted = joined.trusted.iter().map(|it| it.to_vec()).collect();
                    return Ok((identity, request.granted(joined.certificate.to_vec(), trusted)));
                }
                Err(status) if is_final(&status) => {
                    let remedy = if api::is_unauthenticated(&status) || status.message().contains("token") {
                        "give --token from `infrakit token create --role manager`; nothing was changed"
                    } else {
                        "choose another --name or address, or an empty --data-dir; nothing was changed"
                    };
                    return Err(Error::new(
                        format!("manager `{}` could not join", me.name),
                        format!("{address}: {}", status.message()),
                        remedy,
                    ));
                }
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
