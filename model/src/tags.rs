//! The tags of instances: those of Docker's InfraKit, for existing fleets, and additional ones.

use std::collections::BTreeMap;

use crate::ids::{ClusterId, Generation, IntentId, Slot};
use crate::lineage::Lineages;

/// Tags of one instance, in order.
pub type Tags = BTreeMap<String, String>;

/// The group an instance belongs to (semantics §2.2).
pub const GROUP: &str = "infrakit.group";
/// The fingerprint of its template (semantics §2.3).
pub const CONFIG_HASH: &str = "infrakit.config.hash";
/// The logical id of a pet.
pub const LOGICAL_ID: &str = "infrakit.logical_id";
/// The cluster that created it: only such instances, and adopted ones, are ever destroyed.
pub const OWNER: &str = "infrakit.owner";
/// The token of the intent that created it.
pub const INTENT: &str = "infrakit.intent";
/// The slot that it was created for.
pub const SLOT: &str = "infrakit.slot";

/// The generation of that slot, for plugins that name instances after their slot.
pub const GENERATION: &str = "infrakit.generation";

/// The value of [`CONFIG_HASH`] on a manually created machine that is to be adopted (semantics §2.8).
pub const BOOTSTRAP: &str = "bootstrap";

/// The tags that name a slot and its generation.
pub fn of_slot(slot: &Slot, generation: Generation) -> Tags {
    let mut tags =
        Tags::from([(SLOT.to_owned(), slot.to_string()), (GENERATION.to_owned(), generation.to_string())]);
    if let Some(logical_id) = slot.logical_id() {
        tags.insert(LOGICAL_ID.to_owned(), logical_id.to_string());
    }
    tags
}

/// The token of an intent: at most 64 characters of `[a-z0-9-]`.
pub fn token(cluster: &ClusterId, lineages: &Lineages, intent: IntentId) -> String {
    format!("{}-{}-{}-{}", cluster.short(), lineages.of(intent), intent.index, intent.offset)
}

/// The lineage in a token.
pub fn lineage_of(token: &str) -> Option<u32> {
    token.split('-').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LogIndex;

    #[test]
    fn a_token_tells_its_lineage() {
        let cluster = ClusterId::new("0123456789abcdef0123456789abcdef");
        let token = token(&cluster, &Lineages::from(7), IntentId { index: LogIndex(3), offset: 4 });
        assert_eq!(lineage_of(&token), Some(7));
        for other in ["", "x", "a-b", "a-", "a-99999999999"] {
            assert_eq!(lineage_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_longest_token_fits_where_providers_limit_it() {
        let intent = IntentId { index: LogIndex(u64::MAX), offset: u32::MAX };
        let cluster = ClusterId::new("0123456789abcdef0123456789abcdef");
        let token = token(&cluster, &Lineages::from(u32::MAX), intent);
        assert!(token.len() <= 64, "{token}");
        assert!(token.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    }
}
