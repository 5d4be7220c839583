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

/// Named by no source of ours: by code that is generated, or by the list of kinds.
const NAMED_ELSEWHERE: [&str; 1] = ["tonic-prost"];

#[test]
fn every_dependency_is_named_by_a_source() {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .exec()
        .expect("cargo metadata");
    let lib_of = |name: &str| {
        let package = metadata.packages.iter().find(|it| it.name.as_str() == name);
        let lib =
            package.and_then(|it| it.targets.iter().find(|target| target.is_lib() || target.is_proc_macro()));
        lib.map_or_else(|| name.replace('-', "_"), |lib| lib.name.replace('-', "_"))
    };
    let mut idle = Vec::new();
    for package in metadata.workspace_packages() {
        let mut sources = String::new();
        let dir = package.manifest_path.parent().expect("a directory").as_std_path();
        read(dir, &mut sources);
        let words: BTreeSet<&str> = sources.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for dependency in &package.dependencies {
            let name =
                dependency.rename.clone().unwrap_or_else(|| lib_of(&dependency.name)).replace('-', "_");
            let is_kind = package.name.as_str() == "infrakit-builtin" && row(&dependency.name) == PLUGIN;
            let is_named = words.contains(name.as_str());
            if !is_named && !is_kind && !NAMED_ELSEWHERE.contains(&dependency.name.as_str()) {
                idle.push(format!("{}: {}", package.name, dependency.name));
            }
        }
    }
    assert!(idle.is_empty(), "remove these from the manifests: {idle:#?}");
}

/// Appends every Rust source below a directory.
fn read(dir: &std::path::Path, sources: &mut String) {
    for entry in std::fs::read_dir(dir).expect("a directory of ours").flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|it| it == "rs") {
            sources.push_str(&std::fs::read_to_string(&path).expect("a source"));
        }
    }
}
