//! Compiles the public proto without a `protoc` on the machine, and reads out of it whom each call requires.

use std::fmt::Write;

use prost_reflect::{DescriptorPool, Value};

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_file("infrakit/v1/manager.proto")?;
    let roles = std::path::Path::new(&std::env::var("OUT_DIR")?).join("requires.rs");
    std::fs::write(roles, requires(&compiler.descriptor_pool())?)?;
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
