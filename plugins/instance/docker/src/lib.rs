//! Containers as instances, through the Docker Engine's API.
//!
//! Tags are labels, set when the container is created. The engine cannot change labels, so those that
//! [`Instances::label`] adds are kept as labels of small volumes. They last as long as the container, and
//! survive restarts of the container, the plugin and the engine, but not `docker volume prune`.

mod config;
mod engine;
mod labels;
mod properties;
mod strict;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use futures_util::StreamExt;
use model::tags::{self, Tags};
use model::{Description, InstanceId, Opaque};
use spi::{Call, Class, Error, Event, Events, InstanceSpec, Instances, Plugin};

pub use config::{Config, configure};
use properties::Properties;

/// The plugin, connected to the engine.
pub async fn plugin(config: &Config) -> Result<Plugin, String> {
    let docker = match &config.host {
        None => Docker::connect_with_defaults(),
        Some(host) => {
            let path = host.strip_prefix("unix://").unwrap_or(host);
            Docker::connect_with_unix(path, 120, bollard::API_DEFAULT_VERSION)
        }
    };
    let docker = docker.map_err(|error| format!("no Docker engine: {error}"))?;
    let docker = docker.negotiate_version().await.map_err(|error| format!("no Docker engine: {error}"))?;
    let events = Events::new(["found", "lost", "changed"]);
    tokio::spawn(follow(docker.clone(), events.clone()));
    let containers = Containers { docker, namespace: config.namespace.clone() };
    Ok(Plugin::default()
        .with_instances("", Arc::new(containers))
        .with_events(events)
        .knowing_tokens()
        .starting())
}

struct Containers {
    docker: Docker,
    /// Added to every container, and required of every container.
    namespace: Tags,
}

/// The prefix of a label that every managed container has.
const PREFIX: &str = "infrakit.";
/// The label of every container that this plugin creates.
const PLUGIN: &str = "infrakit.plugin";
/// Written into the container after its boot script.
const DONE: &str = "/var/lib/infrakit/done";

impl Containers {
    /// Every container, running or not, with the tags it has now.
    async fn all(&self) -> Result<Vec<(ContainerSummary, Tags)>, Error> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let containers = self.docker.list_containers(Some(options)).await.map_err(engine::failed)?;
        let added = labels::added(&self.docker).await?;
        let with_tags = |summary: ContainerSummary| {
            let mut tags: Tags = summary.labels.clone().unwrap_or_default().into_iter().collect();
            if let Some(added) = summary.id.as_ref().and_then(|id| added.get(id)) {
                tags.extend(added.clone());
            }
            (summary, tags)
        };
        let ours = |(summary, tags): &(ContainerSummary, Tags)| {
            tags.keys().any(|key| key.starts_with(PREFIX))
                && self.namespace.iter().all(|(key, value)| tags.get(key) == Some(value))
                && summary.state.as_ref().is_none_or(|state| state.to_string() != "dead")
        };
        Ok(containers.into_iter().map(with_tags).filter(ours).collect())
    }

    async fn find(&self, instance: &InstanceId) -> Result<Option<(ContainerSummary, Tags)>, Error> {
        let all = self.all().await?;
        Ok(all.into_iter().find(|(summary, _)| id_of(summary).as_ref() == Some(instance)))
    }

    async fn remove(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker.remove_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) => match engine::status(&error) {
                // It is being removed.
                Some(404 | 409) => Ok(()),
                _ => Err(engine::unsure(error)),
            },
        }
    }

    /// The container of an earlier attempt with this token: returned if it is complete, removed otherwise.
    async fn earlier(&self, token: &str, has_init: bool) -> Result<Option<InstanceId>, Error> {
        let all = self.all().await?;
        let Some((summary, _)) =
            all.iter().find(|(_, tags)| tags.get(tags::INTENT).is_some_and(|it| it == token))
        else {
            return Ok(None);
        };
        let (Some(id), Some(short)) = (&summary.id, id_of(summary)) else { return Ok(None) };
        let started = summary.state.as_ref().is_some_and(|state| state.to_string() != "created");
        let complete = started && (!has_init || engine::has_file(&self.docker, id, DONE).await?);
        if complete {
            return Ok(Some(short));
        }
        self.remove(id).await?;
        Ok(None)
    }

    async fn make(&self, spec: &InstanceSpec, properties: Properties) -> Result<InstanceId, Error> {
        let mut tags = properties.tags;
        tags.extend(self.namespace.clone());
        tags.extend(spec.tags.clone());
        tags.insert(PLUGIN.to_owned(), "docker".to_owned());
        if let Some(logical_id) = &spec.logical_id {
            tags.entry(tags::LOGICAL_ID.to_owned()).or_insert_with(|| logical_id.to_string());
        }
        let mut body = properties.config;
        body.labels.get_or_insert_default().extend(tags);
        let mut host = properties.host_config;
        for attachment in &spec.attachments {
            host.binds.get_or_insert_default().push(mount_of(&attachment.id, &attachment.kind)?);
        }
        body.host_config = Some(host);
        let id = engine::create(&self.docker, name_of(spec).as_deref(), body).await?;
        let finished = self.finish(&id, spec, &properties.networks).await;
        match finished {
            Ok(()) => Ok(short(&id)),
            Err(error) => {
                // Its id was never returned, so it is not missed.
                self.remove(&id).await?;
                Err(error)
            }
        }
    }

    async fn finish(
        &self,
        id: &str,
        spec: &InstanceSpec,
        networks: &[properties::Network],
    ) -> Result<(), Error> {
        let address = spec.logical_id.as_ref().filter(|id| id.as_str().parse::<std::net::IpAddr>().is_ok());
        for (n, network) in networks.iter().enumerate() {
            let address = address.filter(|_| n == 0).map(|id| id.as_str());
            engine::connect(&self.docker, id, network, address).await?;
        }
        if !spec.init.is_empty() {
            engine::put_file(&self.docker, id, "var/lib/infrakit/init", spec.init.as_bytes()).await?;
        }
        engine::start(&self.docker, id).await?;
        if !spec.init.is_empty() {
            engine::run(&self.docker, id, &["/bin/sh", "/var/lib/infrakit/init"]).await?;
            engine::put_file(&self.docker, id, DONE.trim_start_matches('/'), b"").await?;
        }
        Ok(())
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
    // The engine takes letters, digits, `_`, `.` and `-`.
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' };
    Some(name.chars().map(fits).collect())
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

fn short(id: &str) -> InstanceId {
    InstanceId::new(id.get(..12).unwrap_or(id))
}

fn id_of(summary: &ContainerSummary) -> Option<InstanceId> {
    summary.id.as_deref().map(short)
}

fn describe(summary: &ContainerSummary, tags: Tags) -> Option<Description> {
    let networks: BTreeMap<String, serde_json::Value> = summary
        .network_settings
        .iter()
        .flat_map(|settings| settings.networks.iter().flatten())
        .map(|(name, endpoint)| {
            let address = serde_json::json!({ "IPAddress": endpoint.ip_address.clone().unwrap_or_default() });
            (name.clone(), address)
        })
        .collect();
    let properties = serde_json::json!({
        "Id": summary.id,
        "Names": summary.names,
        "Image": summary.image,
        "State": summary.state.as_ref().map(|state| state.to_string()),
        "Status": summary.status,
        "Created": summary.created,
        "NetworkSettings": { "Networks": networks },
    });
    Some(Description {
        id: id_of(summary)?,
        logical_id: tags.get(tags::LOGICAL_ID).map(|id| id.as_str().into()),
        tags,
        properties: Some(Opaque::from_json(properties.to_string())),
        state: None,
    })
}

#[async_trait]
impl Instances for Containers {
    async fn validate(&self, properties: &Opaque) -> Result<(), Error> {
        properties::read(properties).map(drop)
    }

    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error> {
        let properties = properties::read(&spec.properties)?;
        if let Some(token) = call.token.as_ref().or_else(|| spec.tags.get(tags::INTENT))
            && let Some(known) = self.earlier(token, !spec.init.is_empty()).await?
        {
            return Ok(known);
        }
        self.make(spec, properties).await
    }

    async fn label(&self, instance: &InstanceId, added: &Tags, _: &Call) -> Result<(), Error> {
        match self.find(instance).await? {
            Some((ContainerSummary { id: Some(id), .. }, _)) => labels::add(&self.docker, &id, added).await,
            Some(_) | None => Err(Error::not_found(format!("not found {instance}"))),
        }
    }

    async fn destroy(&self, instance: &InstanceId, _: &str, _: &Call) -> Result<(), Error> {
        // Looked up first, so that only containers of this plugin are removed.
        let Some((summary, _)) = self.find(instance).await? else { return Ok(()) };
        if let Some(id) = &summary.id {
            self.remove(id).await?;
            labels::forget(&self.docker, id).await?;
        }
        Ok(())
    }

    async fn start(&self, instance: &InstanceId) -> Result<(), Error> {
        // Starting a running container is a no-op.
        match self.find(instance).await? {
            Some((ContainerSummary { id: Some(id), .. }, _)) => engine::start(&self.docker, &id).await,
            Some(_) | None => Err(Error::new(Class::NotFound, format!("container `{instance}` not found"))),
        }
    }

    async fn describe(&self, wanted: &Tags, _: bool) -> Result<Vec<Description>, Error> {
        let matches = |tags: &Tags| wanted.iter().all(|(key, value)| tags.get(key) == Some(value));
        let all = self.all().await?;
        Ok(all
            .into_iter()
            .filter(|(_, tags)| matches(tags))
            .filter_map(|(it, tags)| describe(&it, tags))
            .collect())
    }
}

/// Publishes events of containers, as long as the plugin runs.
async fn follow(docker: Docker, events: Events) {
    let filters = HashMap::from([
        ("type".to_owned(), vec!["container".to_owned()]),
        ("event".to_owned(), ["start", "die", "destroy", "pause", "unpause"].map(str::to_owned).into()),
    ]);
    loop {
        let options = bollard::query_parameters::EventsOptionsBuilder::default().filters(&filters).build();
        let mut stream = std::pin::pin!(docker.events(Some(options)));
        while let Some(Ok(event)) = stream.next().await {
            let actor = event.actor.unwrap_or_default();
            let ours = actor.attributes.iter().flatten().any(|(key, _)| key.starts_with(PREFIX));
            if !ours {
                continue;
            }
            let what = match event.action.as_deref() {
                Some("start") => "found",
                Some("destroy") => "lost",
                _ => "changed",
            };
            events.publish(Event {
                topic: what.to_owned(),
                kind: what.to_owned(),
                id: actor.id.as_deref().map(|id| short(id).to_string()).unwrap_or_default(),
                message: event.action.unwrap_or_default(),
            });
        }
        // The engine is probably restarting.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests;
