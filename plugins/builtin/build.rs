//! Writes the list of the kinds that are built in: the dependencies of this crate.

use std::path::Path;

fn main() {
    let manifest = std::fs::read_to_string("Cargo.toml").expect("the manifest of this crate");
    let manifest: toml::Table = manifest.parse().expect("cargo has read it");
    let dependencies = manifest["dependencies"].as_table().expect("there are some");
    let is_on = |name: &String| {
        let optional = dependencies[name].get("optional").and_then(toml::Value::as_bool) == Some(true);
        let feature = format!("CARGO_FEATURE_{}", name.to_uppercase().replace('-', "_"));
        !optional || std::env::var_os(feature).is_some()
    };
    let plugins = dependencies.keys().filter(|name| *name != "infrakit-spi" && is_on(name));
    let kinds: Vec<String> = plugins.map(|name| format!("&{}::KIND", name.replace('-', "_"))).collect();
    let list = format!("&[{}]", kinds.join(", "));
    let directory = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&directory).join("kinds.rs"), list)
        .expect("cargo's directory can be written to");
    println!("cargo::rerun-if-changed=Cargo.toml");
}
