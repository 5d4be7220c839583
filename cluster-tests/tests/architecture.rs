//! The table of ARCHITECTURE.md, held against what the crates really import.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who may import whom. `spi` and `model` are all that a plugin sees.
const ARROWS: &[(&str, &[&str])] = &[
    ("infrakit-model", &[]),
    ("infrakit-raft", &["infrakit-model"]),
    ("infrakit-spi", &["infrakit-model"]),
    (PLUGIN, &["infrakit-model", "infrakit-spi"]),
    ("infrakit-builtin", &["infrakit-spi", PLUGIN]),
    ("infrakit-api", &["infrakit-model"]),
    ("infrakit-manager", &["infrakit-model", "infrakit-raft", "infrakit-spi", "infrakit-api"]),
    (
        "infrakit-cli",
        &[
            "infrakit-model",
            "infrakit-raft",
            "infrakit-spi",
            "infrakit-api",
            "infrakit-manager",
            "infrakit-builtin",
        ],
    ),
    ("infrakit-cluster-tests", &["infrakit-model", "infrakit-api", "infrakit-spi"]),
    ("infrakit-sim", &["infrakit-model", "infrakit-raft", "infrakit-manager"]),
];

/// Every plugin.
const PLUGIN: &str = "infrakit-{instance,flavor}-*";

/// The row of a crate.
fn row(name: &str) -> &str {
    let plugins = ["infrakit-instance-", "infrakit-flavor-"];
    if plugins.iter().any(|it| name.starts_with(it)) { PLUGIN } else { name }
}

/// What the model must never import: it has no I/O, no clock, no randomness and no tasks.
const NOT_IN_THE_MODEL: &[&str] =
    &["tokio", "tonic", "openraft", "rocksdb", "tracing", "rand", "futures-util"];

#[test]
fn every_crate_imports_only_what_its_room_may() {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .exec()
        .expect("cargo metadata");
    let ours: BTreeSet<String> = metadata.workspace_packages().iter().map(|it| it.name.to_string()).collect();
    let rows: BTreeSet<String> = ours.iter().map(|it| row(it).to_owned()).collect();
    let known: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(rows, known, "a new room needs its line here and in ARCHITECTURE.md");
    for package in metadata.workspace_packages() {
        let (_, allowed) =
            ARROWS.iter().find(|(name, _)| *name == row(&package.name)).expect("checked above");
        for dependency in package.dependencies.iter().filter(|it| it.kind == DependencyKind::Normal) {
            let name = dependency.name.as_str();
            if ours.contains(name) {
                assert!(allowed.contains(&row(name)), "{} may not import {name}", package.name);
            }
            if package.name.as_str() == "infrakit-model" {
                assert!(!NOT_IN_THE_MODEL.contains(&name), "the model may not import {name}");
            }
            let store = matches!(name, "openraft" | "rocksdb");
            assert!(!store || package.name.as_str() == "infrakit-raft", "{name} belongs to raft alone");
        }
    }
}
