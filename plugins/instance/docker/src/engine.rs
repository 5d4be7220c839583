//! The way to the engine, and single calls to it, with classified errors.

use std::sync::Mutex;
use std::time::Duration;

use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt;
use spi::{Class, Error};

use crate::archive::{self, File, Tail};

pub(crate) type Fault = bollard::errors::Error;

/// The usual socket of an engine.
const SOCKET: &str = "unix:///var/run/docker.sock";
/// How long a call waits for the engine to say its version: it answers within milliseconds, or is not there.
const GREETING: Duration = Duration::from_secs(5);
/// How long the client waits for the first bytes of an answer.
const CLIENT_SECONDS: u64 = 120;

/// The engine, which need not be there yet.
pub(crate) struct Engine {
    host: String,
    connected: Mutex<Option<Docker>>,
}

impl Engine {
    pub(crate) fn at(host: Option<&str>) -> Self {
        Self { host: host.unwrap_or(SOCKET).to_owned(), connected: Mutex::new(None) }
    }

    /// The client, once the engine has said which version it speaks.
    pub(crate) async fn docker(&self) -> Result<Docker, Error> {
        let known = self.connected.lock().expect("nobody panics while holding this").clone();
        if let Some(docker) = known {
            return Ok(docker);
        }
        let absent = |why: String| {
            let what = format!("docker: no engine answers at {}: {why}; it is asked again", self.host);
            Error::new(Class::Unavailable, what)
        };
        let greeting = async { self.connect()?.negotiate_version().await };
        let docker = match tokio::time::timeout(GREETING, greeting).await {
            Ok(Ok(docker)) => docker,
            Ok(Err(fault)) => return Err(absent(message(&fault))),
            Err(_) => return Err(absent(format!("no answer within {GREETING:?}"))),
        };
        *self.connected.lock().expect("nobody panics while holding this") = Some(docker.clone());
        Ok(docker)
    }

    /// Asks for the version again at the next call: another engine may be there.
    pub(crate) fn forget(&self) {
        *self.connected.lock().expect("nobody panics while holding this") = None;
    }

    fn connect(&self) -> Result<Docker, Fault> {
        let version = bollard::API_DEFAULT_VERSION;
        let docker = match self.host.strip_prefix("unix://") {
            Some(path) => Docker::connect_with_unix(path, CLIENT_SECONDS, version)?,
            None => Docker::connect_with_http(&self.host, CLIENT_SECONDS, version)?,
        };
        // The engine reads the URL's alphabet of base64 and takes credentials in the other one for none at
        // all; the client writes the other one.
        Ok(docker.with_request_modifier(|mut request| {
            let headers = request.headers_mut();
            let text = headers.get("X-Registry-Auth").and_then(|value| value.to_str().ok());
            let url_safe = text.and_then(|text| text.replace('+', "-").replace('/', "_").parse().ok());
            if let Some(url_safe) = url_safe {
                headers.insert("X-Registry-Auth", url_safe);
            }
            request
        }))
    }
}

/// The HTTP status of the engine, if there is one.
pub(crate) fn status(error: &Fault) -> Option<u16> {
    match error {
        Fault::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine said, or what kept it from saying something, down to the first cause.
pub(crate) fn message(error: &Fault) -> String {
    match error {
        Fault::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Fault::DockerStreamError { error } => error.clone(),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(inner) = cause {
                let more = inner.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                cause = inner.source();
            }
            text
        }
    }
}

/// Whether the engine refused to start a container because its fixed address is taken.
pub(crate) fn is_address_taken(error: &Fault) -> bool {
    status(error) == Some(403) && message(error).contains("Address already in use")
}

/// An error of a call that changed nothing.
pub(crate) fn failed(error: Fault) -> Error {
    let class = match status(&error) {
        Some(400) => Class::InvalidSpec,
        Some(404) => Class::NotFound,
        Some(409) => Class::Conflict,
        Some(403) if is_address_taken(&error) => Class::Conflict,
        Some(503) | None => Class::Unavailable,
        Some(_) => Class::Internal,
    };
    Error::new(class, format!("docker: {}", message(&error)))
}

/// As [`failed`], for a call that may have taken effect without a reply.
pub(crate) fn unsure(error: Fault) -> Error {
    match status(&error) {
        Some(_) => failed(error),
        None => Error::unsure(format!("docker: {}", message(&error))),
    }
}

/// A container, unless it is gone.
pub(crate) async fn inspect(docker: &Docker, id: &str) -> Result<Option<ContainerInspectResponse>, Error> {
    match docker.inspect_container(id, None).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// How long a removal that another call has begun may take before this call says so.
const REMOVAL: Duration = Duration::from_secs(5);

/// Kills and removes a container with its anonymous volumes; one that is gone counts as removed.
pub(crate) async fn remove(docker: &Docker, id: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let Err(error) = docker.remove_container(id, Some(options)).await else { return Ok(()) };
    match status(&error) {
        Some(404) => Ok(()),
        // Another call removes it. Its name and its address are free only when that has ended.
        Some(409) => {
            let deadline = tokio::time::Instant::now() + REMOVAL;
            while inspect(docker, id).await?.is_some() {
                if tokio::time::Instant::now() > deadline {
                    return Err(Error::internal(format!("docker: {}", message(&error))));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }
        Some(_) | None => Err(unsure(error)),
    }
}

/// Writes files into a container, running or not.
pub(crate) async fn put(docker: &Docker, id: &str, files: &[File<'_>]) -> Result<(), Error> {
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    let body = bollard::body_full(Bytes::from(archive::pack(files)));
    docker.upload_to_container(id, Some(options), body).await.map_err(failed)
}

/// The last bytes of a file in a container, running or not; none if there is no such file.
pub(crate) async fn tail(
    docker: &Docker,
    id: &str,
    path: &str,
    most: usize,
) -> Result<Option<Vec<u8>>, Error> {
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let mut pieces = std::pin::pin!(docker.download_from_container(id, Some(options)));
    let mut tail = Tail::of(most);
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => tail.push(&piece),
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(Some(tail.take()))
}
