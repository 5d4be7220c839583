//! Which containers are ours, and what is told about one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::Docker;
use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptionsBuilder;
use model::tags::{self, Tags};
use model::{Description, InstanceId, InstanceState, Opaque};
use spi::Error;

use crate::labels::PREFIX;
use crate::making::ATTEMPT;
use crate::{boot, engine, labels};

/// A container with the tags that it has now.
pub(crate) struct Found {
    /// Its full id.
    pub(crate) id: String,
    pub(crate) summary: ContainerSummary,
    pub(crate) tags: Tags,
}

/// The containers of one plugin.
pub(crate) struct Listing {
    /// Added to every container, and required of every container.
    pub(crate) namespace: Tags,
}

impl Listing {
    /// Every container, running or not.
    pub(crate) async fn all(&self, docker: &Docker) -> Result<Vec<Found>, Error> {
        let containers = list(docker, None).await?;
        let mut added = labels::added(docker).await?;
        let found = containers.into_iter().filter_map(|summary| {
            let added = summary.id.as_ref().and_then(|id| added.remove(id)).unwrap_or_default();
            self.ours(summary, added)
        });
        Ok(found.collect())
    }

    pub(crate) async fn find(&self, docker: &Docker, instance: &InstanceId) -> Result<Option<Found>, Error> {
        // The engine compares the beginnings of ids.
        let listed = list(docker, Some(("id", instance.to_string()))).await?;
        let listed = listed.into_iter().find(|summary| id_of(summary).as_ref() == Some(instance));
        match listed {
            Some(summary) => self.with_tags(docker, summary).await,
            None => Ok(None),
        }
    }

    /// The containers that have a tag, by their own labels or by added ones.
    pub(crate) async fn tagged(&self, docker: &Docker, key: &str, value: &str) -> Result<Vec<Found>, Error> {
        let mut listed = list(docker, Some(("label", format!("{key}={value}")))).await?;
        for holder in labels::holders(docker, key, value).await? {
            listed.extend(list(docker, Some(("id", holder))).await?);
        }
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        for summary in listed {
            if seen.insert(summary.id.clone())
                && let Some(one) = self.with_tags(docker, summary).await?
                && one.tags.get(key).is_some_and(|it| it == value)
            {
                found.push(one);
            }
        }
        Ok(found)
    }

    async fn with_tags(&self, docker: &Docker, summary: ContainerSummary) -> Result<Option<Found>, Error> {
        let Some(id) = summary.id.clone() else { return Ok(None) };
        Ok(self.ours(summary, labels::added_to(docker, &id).await?))
    }

    fn ours(&self, summary: ContainerSummary, added: Tags) -> Option<Found> {
        let mut tags: Tags = summary.labels.clone().unwrap_or_default().into_iter().collect();
        tags.extend(added);
        let ours = tags.keys().any(|key| key.starts_with(PREFIX))
            && self.namespace.iter().all(|(key, value)| tags.get(key) == Some(value));
        Some(Found { id: summary.id.clone()?, summary, tags }).filter(|_| ours)
    }
}

/// The containers that the engine lists, by one of its filters.
async fn list(docker: &Docker, filter: Option<(&str, String)>) -> Result<Vec<ContainerSummary>, Error> {
    let mut options = ListContainersOptionsBuilder::default().all(true);
    if let Some((name, value)) = filter {
        options = options.filters(&HashMap::from([(name.to_owned(), vec![value])]));
    }
    docker.list_containers(Some(options.build())).await.map_err(engine::failed)
}

/// The id of an instance: the short one of its container.
pub(crate) fn short(id: &str) -> InstanceId {
    InstanceId::new(id.get(..12).unwrap_or(id))
}

fn id_of(summary: &ContainerSummary) -> Option<InstanceId> {
    summary.id.as_deref().map(short)
}

pub(crate) fn describe(found: Found, state: InstanceState) -> Description {
    let Found { id, summary, mut tags } = found;
    let networks: BTreeMap<String, serde_json::Value> = summary
        .network_settings
        .iter()
        .flat_map(|settings| settings.networks.iter().flatten())
        .map(|(name, endpoint)| {
            let mut told =
                serde_json::json!({ "IPAddress": endpoint.ip_address.clone().unwrap_or_default() });
            if let Some(address) = endpoint.global_ipv6_address.as_ref().filter(|it| !it.is_empty()) {
                told["GlobalIPv6Address"] = address.as_str().into();
            }
            (name.clone(), told)
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
    // Notes of this plugin to itself.
    tags.remove(ATTEMPT);
    tags.remove(boot::LABEL);
    Description {
        id: short(&id),
        logical_id: tags.get(tags::LOGICAL_ID).map(|id| id.as_str().into()),
        tags,
        properties: Some(Opaque::from_json(properties.to_string())),
        state: Some(state),
    }
}
