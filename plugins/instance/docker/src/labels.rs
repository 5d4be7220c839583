//! Labels that were added after a container was created, kept as labels of small volumes.
//!
//! Each addition is one volume: it is empty and never mounted, refers to its container, and is numbered, so
//! that the latest value wins.

use std::collections::{BTreeMap, HashMap};

use bollard::Docker;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder};
use model::tags::Tags;
use spi::Error;

use crate::engine;

/// The prefix of a label that every managed container has.
pub(crate) const PREFIX: &str = "infrakit.";
/// The label of every container and network that this plugin creates.
pub(crate) const PLUGIN: &str = "infrakit.plugin";

/// The full id of the container that the labels of a volume belong to.
const OF: &str = "infrakit.labels-of";
/// The sequence number of an addition.
const NUMBER: &str = "infrakit.labels-number";

/// A volume with an addition: its name, its number, and its labels.
type Addition = (String, u64, Tags);

/// The additions by container, of those volumes that have a label. The engine compares `key=value` whole.
async fn volumes(docker: &Docker, label: String) -> Result<BTreeMap<String, Vec<Addition>>, Error> {
    let filters = HashMap::from([("label".to_owned(), vec![OF.to_owned(), label])]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let listed = docker.list_volumes(Some(options)).await.map_err(engine::failed)?;
    let mut all: BTreeMap<String, Vec<Addition>> = BTreeMap::new();
    for volume in listed.volumes.unwrap_or_default() {
        let mut tags: Tags = volume.labels.into_iter().collect();
        let number = tags.remove(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(0);
        if let Some(container) = tags.remove(OF) {
            all.entry(container).or_default().push((volume.name, number, tags));
        }
    }
    for additions in all.values_mut() {
        additions.sort_by_key(|(_, number, _)| *number);
    }
    Ok(all)
}

fn merged(additions: Vec<Addition>) -> Tags {
    additions.into_iter().flat_map(|(_, _, tags)| tags).collect()
}

/// The added labels, by container.
pub(crate) async fn added(docker: &Docker) -> Result<BTreeMap<String, Tags>, Error> {
    let all = volumes(docker, OF.to_owned()).await?;
    Ok(all.into_iter().map(|(container, additions)| (container, merged(additions))).collect())
}

/// The labels that were added to one container.
pub(crate) async fn added_to(docker: &Docker, container: &str) -> Result<Tags, Error> {
    let mut all = volumes(docker, format!("{OF}={container}")).await?;
    Ok(merged(all.remove(container).unwrap_or_default()))
}

/// The containers to which this label was added once.
pub(crate) async fn holders(docker: &Docker, key: &str, value: &str) -> Result<Vec<String>, Error> {
    Ok(volumes(docker, format!("{key}={value}")).await?.into_keys().collect())
}

pub(crate) async fn add(docker: &Docker, container: &str, tags: &Tags) -> Result<(), Error> {
    let before = volumes(docker, format!("{OF}={container}")).await?.remove(container).unwrap_or_default();
    let number = before.last().map_or(0, |(_, number, _)| number + 1);
    let mut labels: HashMap<String, String> = tags.clone().into_iter().collect();
    labels.insert(OF.to_owned(), container.to_owned());
    labels.insert(NUMBER.to_owned(), number.to_string());
    let short = container.get(..12).unwrap_or(container);
    let request = VolumeCreateRequest {
        name: Some(format!("infrakit-labels-{short}-{number}")),
        labels: Some(labels),
        ..VolumeCreateRequest::default()
    };
    docker.create_volume(request).await.map(drop).map_err(engine::unsure)
}

/// Removes the labels of a destroyed container.
pub(crate) async fn forget(docker: &Docker, container: &str) -> Result<(), Error> {
    let all = volumes(docker, format!("{OF}={container}")).await?.remove(container);
    for (name, _, _) in all.unwrap_or_default() {
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        match docker.remove_volume(&name, Some(options)).await {
            Err(error) if engine::status(&error) != Some(404) => return Err(engine::unsure(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
