//! Compiles the public proto without a `protoc` on the machine, and reads out of it whom each call requires.

use std::fmt::Write;

use prost_reflect::{DescriptorPool, Value};

/// One file and one service for each.
const NOUNS: [&str; 7] = ["access", "cluster", "group", "node", "rollout", "secret", "variable"];

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(NOUNS.map(|noun| format!("infrakit/v1/{noun}.proto")))?;
    let directory = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let pool = compiler.descriptor_pool();
    std::fs::write(directory.join("requires.rs"), requires(&pool)?)?;
    std::fs::write(directory.join("anywhere.rs"), anywhere(&pool)?)?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// The arms of a `match` over the paths of all calls. A call without the option is an error: there is no default.
fn requires(pool: &DescriptorPool) -> Result<String, Failed> {
    let option =
        pool.get_extension_by_name("infrakit.v1.requires").ok_or("the proto has no option `requires`")?;
    let mut arms = String::from("match path {\n");
    for service in pool.services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let options = method.options();
            if !options.has_extension(&option) {
                return Err(
                    format!("{path} does not say whom it requires: add `option (requires) = ...`").into()
                );
            }
            let required = match options.get_extension(&option).as_ref() {
                Value::EnumNumber(0) => "None",
                Value::EnumNumber(1) => "Some(Role::Viewer)",
                Value::EnumNumber(2) => "Some(Role::Operator)",
                Value::EnumNumber(3) => "Some(Role::Admin)",
                other => return Err(format!("{path} requires {other:?}, which is no role").into()),
            };
            writeln!(arms, "    {path:?} => {required},")?;
        }
    }
    arms.push_str("    _ => Some(Role::Admin),\n}\n");
    Ok(arms)
}

/// Whether the path is that of a call that any manager answers.
fn anywhere(pool: &DescriptorPool) -> Result<String, Failed> {
    let option =
        pool.get_extension_by_name("infrakit.v1.anywhere").ok_or("the proto has no option `anywhere`")?;
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let paths = methods
        .filter(|method| method.options().get_extension(&option).as_ref() == &Value::Bool(true))
        .map(|method| format!("\"/{}/{}\"", method.parent_service().full_name(), method.name()));
    Ok(format!("matches!(path, {})", paths.collect::<Vec<_>>().join(" | ")))
}
