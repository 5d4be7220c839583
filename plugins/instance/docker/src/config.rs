//! The options of the plugin, and the properties of its instances (instance-plugins §2.3).

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, HostConfig};
use model::Opaque;
use model::tags::Tags;
use serde::Deserialize;
use spi::Error;

/// The options of the plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The socket of the engine; without it, the environment decides.
    pub host: Option<String>,
    /// Tags that separate the containers of this plugin from those of another one on the same engine.
    pub namespace: Tags,
}

/// The parsed properties of an instance.
pub(crate) struct Properties {
    pub(crate) tags: Tags,
    pub(crate) config: ContainerCreateBody,
    pub(crate) host_config: HostConfig,
    pub(crate) networks: Vec<Network>,
}

/// A network to attach to; created if it does not exist.
#[derive(Deserialize, Debug, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    #[serde(rename = "Name")]
    pub(crate) name: String,
    #[serde(rename = "Driver", default)]
    pub(crate) driver: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(rename = "Tags", default)]
    tags: Option<BTreeMap<String, String>>,
    #[serde(rename = "Config")]
    config: ContainerCreateBody,
    #[serde(rename = "HostConfig", default)]
    host_config: Option<HostConfig>,
    #[serde(rename = "NetworkAttachments", default)]
    networks: Option<Vec<Network>>,
}

pub(crate) fn read(properties: &Opaque) -> Result<Properties, Error> {
    let written: Written = serde_json::from_str(properties.as_json())
        .map_err(|error| Error::invalid(format!("docker properties: {error}")))?;
    if written.config.image.as_deref().is_none_or(str::is_empty) {
        return Err(Error::invalid("docker: Config.Image is missing"));
    }
    let networks = written.networks.unwrap_or_default();
    if networks.iter().any(|network| network.name.is_empty()) {
        return Err(Error::invalid("docker: a network attachment needs a Name"));
    }
    Ok(Properties {
        tags: written.tags.unwrap_or_default(),
        config: written.config,
        host_config: written.host_config.unwrap_or_default(),
        networks,
    })
}

/// Parses the options of `infrakit plugin start docker --set KEY=VALUE`.
pub fn configure(
    options: &BTreeMap<String, String>,
    var: impl Fn(&str) -> Option<String>,
) -> Result<Config, String> {
    let mut config = Config { host: options.get("host").cloned(), namespace: Tags::new() };
    let namespace = options.get("namespace").cloned().or_else(|| var("INFRAKIT_DOCKER_NAMESPACE_TAGS"));
    for pair in namespace.iter().flat_map(|pairs| pairs.split(',')) {
        let (key, value) = pair.split_once('=').ok_or(format!("namespace: `{pair}` is not KEY=VALUE"))?;
        config.namespace.insert(key.to_owned(), value.to_owned());
    }
    Ok(config)
}
