//! The kinds of plugins that are built into the program: the dependencies of this crate.

use spi::Kind;

/// Every kind that is built in, by name.
pub const KINDS: &[&Kind] = include!(concat!(env!("OUT_DIR"), "/kinds.rs"));

/// The kind of this name, if it is built in.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        for light in ["simulator", "file", "vanilla", "combo"] {
            assert!(kind(light).is_some(), "{light}");
        }
        for kind in KINDS {
            let keys: std::collections::BTreeSet<_> = kind.options.iter().map(|it| it.key).collect();
            assert_eq!(keys.len(), kind.options.len(), "{}", kind.name);
        }
        assert!(kind("nosuch").is_none());
    }
}
