//! Single calls to the engine, with classified errors.

use std::io::Write;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkCreateRequest,
};
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt;
use spi::{Class, Error};

use crate::properties::Network;

type Fault = bollard::errors::Error;

/// The HTTP status of the engine, if there is one.
pub(crate) fn status(error: &Fault) -> Option<u16> {
    match error {
        Fault::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn message(error: &Fault) -> String {
    match error {
        Fault::DockerResponseServerError { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// An error of a call that changed nothing.
pub(crate) fn failed(error: Fault) -> Error {
    let class = match status(&error) {
        Some(400) => Class::InvalidSpec,
        Some(404) => Class::NotFound,
        Some(409) => Class::Conflict,
        Some(_) => Class::Internal,
        None => Class::Unavailable,
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

/// Creates a container; a missing image is pulled first.
pub(crate) async fn create(
    docker: &Docker,
    name: Option<&str>,
    body: ContainerCreateBody,
) -> Result<String, Error> {
    let mut options = CreateContainerOptionsBuilder::default();
    if let Some(name) = name {
        options = options.name(name);
    }
    let options = options.build();
    match docker.create_container(Some(options.clone()), body.clone()).await {
        Ok(created) => Ok(created.id),
        Err(error) if status(&error) == Some(404) && message(&error).contains("No such image") => {
            pull(docker, body.image.as_deref().unwrap_or_default()).await?;
            docker.create_container(Some(options), body).await.map(|created| created.id).map_err(unsure)
        }
        Err(error) => Err(unsure(error)),
    }
}

async fn pull(docker: &Docker, image: &str) -> Result<(), Error> {
    let options = CreateImageOptionsBuilder::default().from_image(image).build();
    let mut progress = docker.create_image(Some(options), None, None);
    while let Some(step) = progress.next().await {
        step.map_err(|error| {
            Error::new(
                Class::Exhausted,
                format!("docker: the image `{image}` is missing and cannot be pulled: {}", message(&error)),
            )
        })?;
    }
    Ok(())
}

pub(crate) async fn start(docker: &Docker, id: &str) -> Result<(), Error> {
    docker.start_container(id, None).await.map_err(failed)
}

/// Attaches a container to the network with exactly this name, which is created if it does not exist.
pub(crate) async fn connect(
    docker: &Docker,
    id: &str,
    network: &Network,
    address: Option<&str>,
) -> Result<(), Error> {
    // The engine's own filter matches parts of names, so the names are compared here.
    let networks = docker.list_networks(None).await.map_err(failed)?;
    let known = networks.iter().any(|it| it.name.as_deref() == Some(network.name.as_str()));
    if !known {
        let driver = Some(network.driver.clone()).filter(|driver| !driver.is_empty());
        let request = NetworkCreateRequest {
            name: network.name.clone(),
            driver,
            attachable: Some(true),
            ..NetworkCreateRequest::default()
        };
        match docker.create_network(request).await {
            Ok(_) => {}
            // It was created concurrently.
            Err(error) if status(&error) == Some(409) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let ipam = address.map(|address| EndpointIpamConfig {
        ipv4_address: Some(address.to_owned()),
        ..EndpointIpamConfig::default()
    });
    let request = NetworkConnectRequest {
        container: id.to_owned(),
        endpoint_config: Some(EndpointSettings { ipam_config: ipam, ..EndpointSettings::default() }),
    };
    docker.connect_network(&network.name, request).await.map_err(failed)
}

/// Writes a file into a container, running or not.
pub(crate) async fn put_file(docker: &Docker, id: &str, path: &str, content: &[u8]) -> Result<(), Error> {
    let tar = archive(path, content).map_err(Error::internal)?;
    let options = UploadToContainerOptionsBuilder::default().path("/").build();
    docker.upload_to_container(id, Some(options), bollard::body_full(Bytes::from(tar))).await.map_err(failed)
}

pub(crate) async fn has_file(docker: &Docker, id: &str, path: &str) -> Result<bool, Error> {
    let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
    match docker.get_container_archive_info(id, Some(options)).await {
        Ok(_) => Ok(true),
        Err(error) if status(&error) == Some(404) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Runs a command in a container and waits for it. An exit code other than 0 is an error with the last line
/// of its standard error, or else of its standard output.
pub(crate) async fn run(docker: &Docker, id: &str, command: &[&str]) -> Result<(), Error> {
    let options = CreateExecOptions {
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(id, options).await.map_err(failed)?.id;
    let mut said = [Vec::new(), Vec::new()];
    if let StartExecResults::Attached { mut output, .. } =
        docker.start_exec(&exec, None).await.map_err(failed)?
    {
        while let Some(piece) = output.next().await {
            let piece = piece.map_err(unsure)?;
            let said = &mut said[usize::from(!matches!(piece, LogOutput::StdErr { .. }))];
            said.extend_from_slice(&piece.into_bytes());
            // Only the last line is kept.
            if said.len() > 64 * 1024 {
                said.drain(..32 * 1024);
            }
        }
    }
    match docker.inspect_exec(&exec).await.map_err(failed)?.exit_code {
        Some(0) => Ok(()),
        code => {
            let said = said.iter().map(|said| said.trim_ascii()).find(|said| !said.is_empty());
            let said = String::from_utf8_lossy(said.unwrap_or_default());
            let last = said.lines().last().unwrap_or_default();
            let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
            Err(Error::internal(format!("docker: Init exited with {code}: {last}")))
        }
    }
}

/// A tar archive with one executable file and its parent directories (POSIX ustar).
fn archive(path: &str, content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = Vec::new();
    let mut above = String::new();
    for part in path.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev() {
        above.push_str(part);
        above.push('/');
        tar.write_all(&header(&above, 0, b'5'))?;
    }
    tar.write_all(&header(path, content.len(), b'0'))?;
    tar.write_all(content)?;
    let padding = content.len().next_multiple_of(512) - content.len();
    tar.write_all(&vec![0; padding + 1024])?;
    Ok(tar)
}

fn header(path: &str, size: usize, kind: u8) -> [u8; 512] {
    let mut header = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
