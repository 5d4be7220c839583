//! How a container is made: its image, its networks, itself, its files, its Init. What goes wrong before the
//! end leaves nothing.

use std::net::IpAddr;

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use model::InstanceId;
use model::tags::{self, Tags};
use spi::{Class, Error, InstanceSpec};
use tokio::time::Instant;

use crate::boot::{self, Boot};
use crate::engine;
use crate::labels::PLUGIN;
use crate::listing::short;
use crate::making::{ATTEMPT, Attempts};
use crate::network::{self, Networks};
use crate::properties::{Network, Properties};
use crate::pull::Pulls;

/// What the makings of containers share.
#[derive(Default)]
pub(crate) struct Maker {
    pub(crate) attempts: Attempts,
    pub(crate) pulls: Pulls,
    networks: Networks,
}

impl Maker {
    pub(crate) fn new(pulls: Pulls) -> Self {
        Self { pulls, ..Self::default() }
    }

    /// Makes a container with these tags. Its Init may still run afterwards.
    pub(crate) async fn make(
        &self,
        docker: &Docker,
        spec: &InstanceSpec,
        properties: Properties,
        mut tags: Tags,
        until: Instant,
    ) -> Result<InstanceId, Error> {
        let attempt = self.attempts.begin();
        tags.insert(PLUGIN.to_owned(), "docker".to_owned());
        tags.insert(ATTEMPT.to_owned(), attempt.name.clone());
        if !spec.init.is_empty() {
            tags.insert(boot::LABEL.to_owned(), "1".to_owned());
        }
        let (body, networks) = body_of(spec, properties, tags)?;
        let address = address_of(spec);
        self.fetch(docker, body.image.as_deref().unwrap_or_default(), until).await?;
        self.networks.prepare(docker, &networks, address).await?;
        let made = make_in(docker, spec, body, &networks, until).await;
        self.networks.done(docker, &networks, made.is_ok()).await;
        made
    }

    async fn fetch(&self, docker: &Docker, image: &str, until: Instant) -> Result<(), Error> {
        match docker.inspect_image(image).await {
            Ok(_) => Ok(()),
            Err(error) if engine::status(&error) == Some(404) => {
                self.pulls.ensure(docker, image, until).await
            }
            Err(error) => Err(engine::failed(error)),
        }
    }
}

/// The address that a logical id asks for, if it is one.
fn address_of(spec: &InstanceSpec) -> Option<IpAddr> {
    spec.logical_id.as_ref().and_then(|id| id.as_str().parse().ok())
}

fn body_of(
    spec: &InstanceSpec,
    properties: Properties,
    tags: Tags,
) -> Result<(ContainerCreateBody, Vec<Network>), Error> {
    let Properties { config: mut body, host_config: mut host, networks, .. } = properties;
    if !spec.init.is_empty() && host.readonly_rootfs == Some(true) {
        return Err(Error::invalid(
            "docker: Init is written into the container, so that HostConfig.ReadonlyRootfs leaves no place \
             for it; leave one of them away",
        ));
    }
    body.labels.get_or_insert_default().extend(tags);
    for attachment in &spec.attachments {
        host.binds.get_or_insert_default().push(mount_of(&attachment.id, &attachment.kind)?);
    }
    body.host_config = Some(host);
    Ok((body, networks))
}

async fn make_in(
    docker: &Docker,
    spec: &InstanceSpec,
    body: ContainerCreateBody,
    networks: &[Network],
    until: Instant,
) -> Result<InstanceId, Error> {
    let mut options = CreateContainerOptionsBuilder::default();
    if let Some(name) = name_of(spec) {
        options = options.name(&name);
    }
    let created = docker.create_container(Some(options.build()), body).await;
    let id = created.map_err(|error| match engine::status(&error) {
        // It was there a moment ago.
        Some(404) => Error::new(Class::Exhausted, format!("docker: {}", engine::message(&error))),
        Some(_) | None => engine::unsure(error),
    })?;
    let id = id.id;
    match finish(docker, &id, spec, networks, until).await {
        Ok(()) => Ok(short(&id)),
        // Its id was never returned, so it is not missed.
        Err(error) => match engine::remove(docker, &id).await {
            Ok(()) => Err(error),
            Err(left) => Err(Error::unsure(format!(
                "{error}; the half-made container `{}` cannot be removed: {left}",
                short(&id)
            ))),
        },
    }
}

async fn finish(
    docker: &Docker,
    id: &str,
    spec: &InstanceSpec,
    networks: &[Network],
    until: Instant,
) -> Result<(), Error> {
    let address = address_of(spec);
    for (n, network) in networks.iter().enumerate() {
        network::connect(docker, id, &network.name, address.filter(|_| n == 0)).await?;
    }
    if spec.init.is_empty() {
        return network::start(docker, id).await;
    }
    boot::put(docker, id, &spec.init).await?;
    network::start(docker, id).await?;
    boot::begin(docker, id).await?;
    match boot::wait(docker, id, until).await? {
        // It goes on, and its state is told by listings.
        Boot::Runs { .. } | Boot::Ended { code: 0, .. } => Ok(()),
        Boot::Ended { code, said } => Err(Error::internal(format!("docker: {}", boot::told(code, &said)))),
        Boot::Never | Boot::CutOff => {
            Err(Error::internal("docker: the container stopped before its Init ended"))
        }
    }
}

/// `<cluster>-<group>-<slot>-<generation>` if the tags have them, else the logical id.
fn name_of(spec: &InstanceSpec) -> Option<String> {
    let tag = |name: &str| spec.tags.get(name).map(String::as_str);
    let parts = (tag(tags::OWNER), tag(tags::GROUP), tag(tags::SLOT), tag(tags::GENERATION));
    let name = match parts {
        (Some(owner), Some(group), Some(slot), Some(generation)) => {
            format!("{}-{group}-{slot}-{generation}", owner.get(..8).unwrap_or(owner))
        }
        _ => spec.logical_id.as_ref()?.to_string(),
    };
    // The engine takes letters, digits, `_`, `.` and `-`, and one of the first two at the beginning.
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' };
    let name: String = name.chars().map(fits).collect();
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    Some(if begins_well { name } else { format!("i{name}") })
}

/// A volume by its name: type `volume` mounts it at `/mnt/<id>`, a path at that path.
fn mount_of(id: &str, kind: &str) -> Result<String, Error> {
    let target = match kind {
        "volume" => format!("/mnt/{id}"),
        path if path.starts_with('/') => path.to_owned(),
        other => {
            return Err(Error::invalid(format!(
                "docker: the attachment `{id}` has type `{other}`; it must be `volume` or an absolute path"
            )));
        }
    };
    Ok(format!("{id}:{target}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_is_a_volume_or_a_path() {
        assert_eq!(mount_of("v", "volume").expect("a mount"), "v:/mnt/v");
        assert_eq!(mount_of("v", "/data").expect("a mount"), "v:/data");
        assert!(mount_of("v", "ebs").is_err());
    }
}
