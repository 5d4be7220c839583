//! `infrakit instance`: calls an instance plugin directly, without the managers.

use std::path::PathBuf;

use clap::Subcommand;
use model::tags::{self, Tags};
use model::{Description, InstanceId, InstanceState, Opaque};
use serde_json::{Value, json};
use spi::{Call, Directory, Instances, interface};

use super::{confirm, plugin_of_kind, plugins_dir};
use crate::files::Reading;
use crate::global::{Format, Global};
use crate::output;
use crate::report::{self, Failure};

#[derive(Subcommand)]
pub(crate) enum InstanceVerb {
    /// List instances
    #[command(alias = "list")]
    Ls {
        /// NAME or NAME/TYPE; defaults to all instance plugins
        plugins: Vec<String>,
        /// Only instances with these tags
        #[arg(long = "tag", value_name = "KEY=VALUE")]
        tags: Vec<String>,
    },
    /// Show one instance with its properties
    #[command(visible_alias = "show")]
    #[command(alias = "get")]
    Describe {
        /// NAME or NAME/TYPE
        plugin: String,
        /// The id of the instance
        id: String,
    },
    /// Create an instance from a spec {Properties, Tags, Init, LogicalID, Attachments}
    Provision {
        /// NAME or NAME/TYPE
        plugin: String,
        /// The spec, in JSON or YAML: a file, a URL, or `-`
        file: PathBuf,
        #[command(flatten)]
        reading: Reading,
    },
    /// Validate the properties for an instance plugin
    Validate {
        /// NAME or NAME/TYPE
        plugin: String,
        /// The properties, in JSON or YAML: a file, a URL, or `-`
        file: PathBuf,
        #[command(flatten)]
        reading: Reading,
    },
    /// Destroy instances
    #[command(aliases = ["rm", "delete"])]
    Destroy {
        /// NAME or NAME/TYPE
        plugin: String,
        /// The ids of the instances
        #[arg(required = true)]
        ids: Vec<String>,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
}

/// The fields of an instance spec (plugin-protocol §8.1).
const SPEC: [&str; 5] = ["Properties", "Tags", "Init", "LogicalID", "Attachments"];

pub(crate) async fn run(verb: InstanceVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        InstanceVerb::Ls { plugins, tags } => list(plugins, &tags, global).await,
        InstanceVerb::Describe { plugin: name, id } => {
            let found = find(global, &name, &id).await?;
            if !output::object(global.output, "Instance", as_json(&name, &found))? {
                output::block(&format!("{:#}", as_json(&name, &found)))?;
            }
            Ok(0)
        }
        InstanceVerb::Provision { plugin: name, file, reading } => {
            let (file, json) = reading.map(&file, &SPEC).await?;
            let spec = spi::instance_spec_from_json(&json)
                .map_err(|error| Failure::new(format!("{file}: {error}")).exit(report::INVALID_FILE))?;
            let instances = instances(global, &name).await?;
            let id = instances.provision(&spec, &Call::default()).await?;
            if !output::object(global.output, "InstanceId", json!({ "id": id.as_str() }))? {
                output::line(id.as_str())?;
            }
            Ok(0)
        }
        InstanceVerb::Validate { plugin: name, file, reading } => {
            let json = reading.json(&file).await?;
            instances(global, &name).await?.validate(&Opaque::from_json(json)).await?;
            output::done(global.output, "valid")?;
            Ok(0)
        }
        InstanceVerb::Destroy { plugin: name, ids, yes } => {
            let what = ids.join(", ");
            confirm(yes, &format!("This destroys {what} of {name}"), &what).await?;
            for id in &ids {
                find(global, &name, id).await?;
            }
            let instances = instances(global, &name).await?;
            let mut told = Vec::new();
            for id in ids {
                let gone =
                    instances.destroy(&InstanceId::from(id.as_str()), "terminate", &Call::default()).await;
                if gone.is_err() && !told.is_empty() {
                    output::done(global.output, &told.join("\n"))?;
                }
                gone?;
                told.push(format!("destroyed {id}"));
            }
            output::done(global.output, &told.join("\n"))?;
            Ok(0)
        }
    }
}

/// The instance plugin of that name.
async fn instances(global: &Global, name: &str) -> Result<impl Instances + use<>, Failure> {
    let (name, client) = plugin_of_kind(global, name, interface::INSTANCE).await?;
    Ok(client.instances(name.subtype()))
}

pub(super) async fn find(global: &Global, name: &str, id: &str) -> Result<Description, Failure> {
    let all = instances(global, name).await?.describe(&Tags::new(), true).await?;
    all.into_iter().find(|found| found.id.as_str() == id).ok_or_else(|| {
        Failure::new(format!("{name} has no instance `{id}`"))
            .remedy(format!("`infrakit instance ls {name}` lists its instances"))
            .exit(report::NOT_FOUND)
    })
}

async fn list(plugins: Vec<String>, desired: &[String], global: &Global) -> Result<u8, Failure> {
    let mut tags = Tags::new();
    for pair in desired {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Failure::usage(format!("--tag {pair}: write KEY=VALUE")))?;
        tags.insert(key.to_owned(), value.to_owned());
    }
    let plugins = if plugins.is_empty() { all_instance_plugins(global).await? } else { plugins };
    let mut rows = Vec::new();
    let mut items = Vec::new();
    let mut failed: Vec<Failure> = Vec::new();
    for full in plugins {
        let listed = match instances(global, &full).await {
            Ok(instances) => instances.describe(&tags, true).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        let listed = match listed {
            Ok(listed) => listed,
            Err(failure) => {
                failed.push(Failure { what: format!("{full}: {}", failure.what), ..failure });
                continue;
            }
        };
        for found in listed {
            let tag = |key: &str| found.tags.get(key).cloned().unwrap_or_else(|| "-".to_owned());
            let logical_id = found.logical_id.as_ref().map_or_else(|| "-".to_owned(), |id| id.to_string());
            rows.push((
                vec![found.id.to_string(), full.clone(), logical_id, tag(tags::GROUP), tag(tags::SLOT)],
                found.state.as_ref().map(state_text),
            ));
            items.push(as_json(&full, &found));
        }
    }
    if !output::object(global.output, "InstanceList", json!({ "items": items }))? {
        print(global.output, rows)?;
    }
    // The failure of one hides none of the others.
    let last = failed.pop();
    failed.iter().for_each(|failure| report::warn(&failure.what));
    last.map_or(Ok(0), Err)
}

/// The column of states is left out if no plugin reports any.
fn print(format: Format, rows: Vec<(Vec<String>, Option<String>)>) -> Result<(), Failure> {
    let mut header = vec!["ID", "PLUGIN", "LOGICALID", "GROUP", "SLOT"];
    let has_states = rows.iter().any(|(_, state)| state.is_some());
    if has_states {
        header.push("STATE");
    }
    let rows = rows.into_iter().map(|(mut row, state)| {
        if has_states {
            row.push(state.unwrap_or_else(|| "-".to_owned()));
        }
        row
    });
    output::table(format, &header, rows)
}

/// `Failed (137): out of memory`.
fn state_text(state: &InstanceState) -> String {
    let mut text = state.status.as_str().to_owned();
    if let Some(code) = state.exit_code {
        text.push_str(&format!(" ({code})"));
    }
    if !state.message.is_empty() {
        text.push_str(&format!(": {}", state.message));
    }
    text
}

async fn all_instance_plugins(global: &Global) -> Result<Vec<String>, Failure> {
    let directory = Directory::new(plugins_dir(global)?);
    let found = directory.list().map_err(|error| {
        Failure::new(format!("{} cannot be read", directory.path().display())).cause(error.to_string())
    })?;
    let mut names = Vec::new();
    for plugin in found {
        match plugin.client().hello().await {
            Ok(hello) => {
                for object in hello.interfaces.get(interface::INSTANCE).into_iter().flatten() {
                    names.push(if object == "." {
                        plugin.name.clone()
                    } else {
                        format!("{}/{object}", plugin.name)
                    });
                }
            }
            Err(error) => report::warn(&format!("plugin `{}` does not answer: {error}", plugin.name)),
        }
    }
    Ok(names)
}

fn as_json(plugin: &str, found: &Description) -> Value {
    let properties =
        found.properties.as_ref().and_then(|it| serde_json::from_str::<Value>(it.as_json()).ok());
    let mut value = json!({
        "id": found.id.as_str(),
        "plugin": plugin,
        "logicalID": found.logical_id.as_ref().map(|id| id.to_string()),
        "tags": found.tags,
        "properties": properties,
    });
    if let (Some(state), Value::Object(map)) = (&found.state, &mut value) {
        let since = state.since.map(|at| output::rfc3339(at.0));
        let shown = json!({
            "status": state.status.as_str(),
            "exitCode": state.exit_code,
            "since": since,
            "message": state.message,
        });
        map.insert("state".into(), shown);
    }
    value
}
