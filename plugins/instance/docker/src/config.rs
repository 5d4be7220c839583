//! The options of the plugin.

use std::collections::BTreeMap;

use model::tags::Tags;

/// The options of the plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The socket of the engine; without it, the environment decides.
    pub host: Option<String>,
    /// Tags that separate the containers of this plugin from those of another one on the same engine.
    pub namespace: Tags,
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
