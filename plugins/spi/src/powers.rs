//! What a plugin can do beyond its interfaces: the extensions of this project, as Hello lists them.

use std::collections::BTreeMap;

use model::Millis;
use model::plugin::PluginClass;

/// An extension: the plugin recognizes a repeated token, and obeys the fence headers.
pub const FENCE: &str = "Fence/0.1.0";
/// An extension: the plugin can start a stopped instance (`Instance.Start`).
pub const START: &str = "Start/0.1.0";

/// Prefix of an object of `Fence/0.1.0` in Hello with the listing lag of the plugin.
const LISTS_WITHIN: &str = "lists-within=";
/// The object of a plugin whose listings never prove that an instance was not created: class D.
const LISTS_NEVER: &str = "lists-within=never";

/// The extensions of a plugin.
#[derive(Clone, Default)]
pub(crate) struct Powers {
    pub(crate) knows_tokens: bool,
    pub(crate) lists_within: Millis,
    pub(crate) proves_nothing: bool,
    pub(crate) starts: bool,
}

impl Powers {
    /// Whether the plugin has this extension.
    pub(crate) fn has(&self, extension: &str) -> bool {
        match extension {
            FENCE => self.knows_tokens || self.proves_nothing,
            START => self.starts,
            _ => false,
        }
    }

    /// The extensions and their objects for Hello; `instances` are the objects that are instance plugins.
    pub(crate) fn objects(&self, instances: &[String]) -> BTreeMap<String, Vec<String>> {
        let mut objects = BTreeMap::new();
        if self.has(START) {
            objects.insert(START.to_owned(), instances.to_vec());
        }
        if self.has(FENCE) {
            let mut names = vec![".".to_owned()];
            if self.proves_nothing {
                names.push(LISTS_NEVER.to_owned());
            } else if self.lists_within > Millis(0) {
                names.push(format!("{LISTS_WITHIN}{}", self.lists_within));
            }
            objects.insert(FENCE.to_owned(), names);
        }
        objects
    }
}

/// The class of a plugin by the objects of its fence: what can be done after a lost reply.
pub(crate) fn class(fence: Option<&Vec<String>>) -> PluginClass {
    match fence {
        None => PluginClass::C,
        Some(said) if said.iter().any(|it| it == LISTS_NEVER) => PluginClass::D,
        Some(_) => PluginClass::A,
    }
}

/// The listing lag by the objects of a fence; none if the plugin never lists everything. The default is no lag.
pub(crate) fn lists_within(fence: &[String]) -> Option<Millis> {
    if fence.iter().any(|it| it == LISTS_NEVER) {
        return None;
    }
    let span = fence.iter().find_map(|it| it.strip_prefix(LISTS_WITHIN));
    Some(span.and_then(|span| Millis::parse_go(span).ok()).unwrap_or_default())
}
