//! `infrakit flavor`: calls a flavor plugin directly, without the managers.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use model::spec::Allocation;
use model::tags::Tags;
use model::{Health, Opaque};
use serde_json::json;
use spi::{Flavors, Index, InstanceSpec, interface};

use super::{instance, plugin_of_kind};
use crate::files::Reading;
use crate::global::Global;
use crate::output;
use crate::report::Failure;

#[derive(Args)]
pub(crate) struct FlavorArgs {
    /// NAME or NAME/TYPE
    pub(crate) plugin: String,
    /// The flavor's properties, in JSON or YAML: a file, a URL, or `-`
    pub(crate) file: PathBuf,
    /// The size of the group
    #[arg(long, default_value_t = 1, conflicts_with = "logical_ids")]
    pub(crate) size: u32,
    /// The logical ids of the group
    #[arg(long, value_delimiter = ',')]
    pub(crate) logical_ids: Vec<String>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Subcommand)]
pub(crate) enum FlavorVerb {
    /// Validate the properties for a flavor
    Validate(FlavorArgs),
    /// Show the instance spec that a flavor prepares
    Prepare(FlavorArgs),
    /// Ask a flavor about the health of an instance
    Healthy {
        #[command(flatten)]
        flavor: FlavorArgs,
        /// The plugin of the instance
        instance_plugin: String,
        /// The id of the instance
        id: String,
    },
}

pub(crate) async fn run(verb: FlavorVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        FlavorVerb::Validate(args) => {
            let (flavor, properties, allocation) = open(&args, global).await?;
            flavor.validate(&properties, &allocation).await?;
            output::done(global.output, "valid")?;
        }
        FlavorVerb::Prepare(args) => {
            let (flavor, properties, allocation) = open(&args, global).await?;
            let spec = InstanceSpec {
                properties: Opaque::null(),
                tags: Tags::new(),
                init: String::new(),
                logical_id: args.logical_ids.first().map(|id| id.as_str().into()),
                attachments: Vec::new(),
            };
            let index = Index { group: "example".into(), sequence: allocation.count() as u32 };
            let prepared = flavor.prepare(&properties, spec, &allocation, &index).await?;
            let json = spi::instance_spec_to_json(&prepared);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
            if !output::object(global.output, "InstanceSpec", value.clone())? {
                output::block(&format!("{value:#}"))?;
            }
        }
        FlavorVerb::Healthy { flavor: args, instance_plugin, id } => {
            let found = instance::find(global, &instance_plugin, &id).await?;
            let (flavor, properties, _) = open(&args, global).await?;
            let verdict = flavor.healthy(&properties, &found).await?;
            let health = match verdict.health {
                Health::Healthy => "Healthy",
                Health::Unhealthy => "Unhealthy",
                Health::Unknown => "Unknown",
            };
            let value = json!({"instance": id, "health": health, "message": verdict.message});
            if !output::object(global.output, "Health", value)? {
                let message =
                    if verdict.message.is_empty() { String::new() } else { format!(": {}", verdict.message) };
                output::line(&format!("{id} {health}{message}"))?;
            }
        }
    }
    Ok(0)
}

async fn open(
    args: &FlavorArgs,
    global: &Global,
) -> Result<(impl Flavors + use<>, Opaque, Allocation), Failure> {
    let properties = Opaque::from_json(args.reading.json(&args.file).await?);
    let allocation = if args.logical_ids.is_empty() {
        Allocation::Size(args.size)
    } else {
        Allocation::LogicalIds(args.logical_ids.iter().map(|id| id.as_str().into()).collect())
    };
    let (name, client) = plugin_of_kind(global, &args.plugin, interface::FLAVOR).await?;
    Ok((client.flavors(name.subtype()), properties, allocation))
}
