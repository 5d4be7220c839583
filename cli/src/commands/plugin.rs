//! `infrakit plugin`: runs, lists and tests plugins.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::Opaque;
use serde_json::json;
use spi::{Directory, Plugin, interface};

use super::{plugins_dir, start_logging, stop_signal};
use crate::args::PluginVerb;
use crate::global::{Format, Global};
use crate::output;
use crate::report::{self, Failure};

pub(crate) async fn run(verb: PluginVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        PluginVerb::Start { plugins, options } => start(&plugins, &options, global).await,
        PluginVerb::Ls => list(global).await,
        PluginVerb::Test { plugin, properties } => test(&plugin, &properties, global).await,
    }
}

async fn start(desired: &[String], options: &[String], global: &Global) -> Result<u8, Failure> {
    start_logging(global)?;
    // Before there is anything to clean up.
    let stopped = stop_signal();
    let directory = plugins_dir(global)?;
    let mut all = BTreeMap::new();
    for option in options {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--set {option}: write KEY=VALUE")))?;
        all.insert(key.to_owned(), value.to_owned());
    }
    let mut unused: Vec<&String> = all.keys().collect();
    let mut running = Vec::new();
    let mut others = tokio::task::JoinSet::new();
    for entry in desired {
        let (kind, name) = entry.split_once(':').unwrap_or((entry, entry));
        if name.is_empty() || name.contains('/') {
            return Err(Failure::usage(format!("`{entry}`: NAME must be a file name without `/`")));
        }
        let own: BTreeMap<String, String> = all
            .iter()
            .filter(|(key, _)| known_options(kind).contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        unused.retain(|key| !own.contains_key(*key));
        match make(kind, name, &own, &directory).await? {
            Some(plugin) => {
                let served = spi::serve(&directory, name, plugin).map_err(|error| {
                    Failure::new(format!("plugin `{name}` cannot start")).cause(error.to_string())
                })?;
                tracing::info!(plugin = name, socket = %served.socket().display(), "serving");
                running.push(served);
            }
            None => drop(others.spawn(external(kind.to_owned(), name.to_owned(), directory.clone()))),
        }
    }
    if let Some(key) = unused.first() {
        return Err(Failure::usage(format!("--set {key}: no plugin started here has this option")));
    }
    let failed = tokio::select! {
        () = stopped => None,
        Some(Ok(Err(failure))) = others.join_next() => Some(failure),
    };
    // Together: a call of one may wait for another.
    let stopping = futures_util::future::join_all(running.into_iter().map(|plugin| plugin.stop(CALLS_END)));
    tokio::select! {
        _ = stopping => {}
        // Whoever says so twice does not wait.
        () = stop_signal() => {}
    }
    failed.map_or(Ok(0), Err)
}

/// How long calls may take when the plugins are stopped.
const CALLS_END: Duration = Duration::from_secs(10);

fn known_options(kind: &str) -> &'static [&'static str] {
    match kind {
        "simulator" => &["types", "store", "dir", "lab", "describe-delay", "provision-delay"],
        "file" => &["dir"],
        "docker" => &["host", "namespace"],
        "vanilla" => &["scripts", "commands"],
        _ => &[],
    }
}

/// A built-in plugin; none if the kind is not built in.
async fn make(
    kind: &str,
    name: &str,
    options: &BTreeMap<String, String>,
    directory: &Path,
) -> Result<Option<Plugin>, Failure> {
    let failed = |why: String| Failure::new(format!("plugin `{name}` cannot start")).cause(why);
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Ok(Some(match kind {
        "simulator" => {
            let config = simulator::configure(name, options, var).map_err(Failure::usage)?;
            simulator::plugin(&config).map_err(|error| failed(error.to_string()))?
        }
        "file" => {
            let dir = options.get("dir").cloned().or_else(|| var("INFRAKIT_INSTANCE_FILE_DIR"));
            let dir = dir.ok_or_else(|| {
                Failure::usage("the file plugin requires a directory")
                    .remedy("give --set dir=DIRECTORY or set INFRAKIT_INSTANCE_FILE_DIR")
            })?;
            file::plugin(dir).map_err(|error| failed(error.to_string()))?
        }
        "docker" => {
            let config = docker::configure(options, var).map_err(Failure::usage)?;
            docker::plugin(&config).await.map_err(failed)?
        }
        "vanilla" => vanilla::plugin(vanilla::configure(options).map_err(Failure::usage)?),
        "combo" => combo::plugin(Directory::new(directory)),
        _ => return Ok(None),
    }))
}

/// Runs `infrakit-plugin-KIND`, beside this program or on the PATH.
async fn external(kind: String, name: String, directory: std::path::PathBuf) -> Result<(), Failure> {
    let program = format!("infrakit-plugin-{kind}");
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(&program)));
    let program = beside.filter(|path| path.exists()).unwrap_or_else(|| program.into());
    let status = tokio::process::Command::new(&program)
        .env("INFRAKIT_PLUGINS_DIR", directory)
        .arg(&name)
        .kill_on_drop(true)
        .status()
        .await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("plugin `{name}` exited")).cause(status.to_string())),
        Err(error) => Err(Failure::usage(format!("unknown plugin kind `{kind}`"))
            .cause(format!("{}: {error}", program.display()))
            .remedy("the built-in kinds are simulator, file, docker, vanilla and combo")),
    }
}

async fn list(global: &Global) -> Result<u8, Failure> {
    let directory = Directory::new(plugins_dir(global)?).with_deadline(std::time::Duration::from_secs(2));
    let found = directory.list().map_err(|error| {
        Failure::new(format!("{} cannot be read", directory.path().display())).cause(error.to_string())
    })?;
    let mut rows = Vec::new();
    let mut items = Vec::new();
    for plugin in found {
        match plugin.client().hello().await {
            Ok(hello) => {
                for (interface, objects) in &hello.interfaces {
                    for object in objects {
                        let full = if object == "." || object.is_empty() {
                            plugin.name.clone()
                        } else {
                            format!("{}/{object}", plugin.name)
                        };
                        rows.push(vec![
                            full.clone(),
                            interface.clone(),
                            "Running".into(),
                            plugin.address.clone(),
                        ]);
                        items.push(json!({"name": full, "interface": interface, "status": "Running", "address": plugin.address}));
                    }
                }
            }
            Err(error) => {
                let status = format!("Dead ({})", error.message);
                rows.push(vec![plugin.name.clone(), "-".into(), status.clone(), plugin.address.clone()]);
                items.push(json!({"name": plugin.name, "interface": null, "status": "Dead", "message": error.message, "address": plugin.address}));
            }
        }
    }
    if !output::object(global.output, "PluginList", json!({ "items": items }))? {
        output::table(&["NAME", "INTERFACE", "STATUS", "ADDRESS"], rows)?;
    }
    Ok(0)
}

async fn test(name: &str, properties: &str, global: &Global) -> Result<u8, Failure> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(properties) {
        return Err(Failure::usage("--properties is not JSON").cause(error.to_string()));
    }
    let (name, client) = super::plugin(global, name)?;
    let properties = Opaque::from_json(properties);
    let hello = client.hello().await?;
    let mut checks = Vec::new();
    let mut class = None;
    if hello.serves(interface::INSTANCE, name.subtype()) {
        let report = spi::conformance::instances(&client, name.subtype(), &properties).await;
        checks.extend(report.checks);
        class = report.class;
    }
    if hello.serves(interface::FLAVOR, name.subtype()) {
        checks.extend(spi::conformance::flavors(&client, name.subtype(), &properties).await.checks);
    }
    if checks.is_empty() {
        let known: Vec<&str> = hello.interfaces.keys().map(String::as_str).collect();
        return Err(Failure::new(format!("`{name}` serves neither instances nor flavors"))
            .cause(format!("it reports {}", known.join(", ")))
            .exit(report::NOT_FOUND));
    }
    let whole = spi::conformance::Report { checks, class };
    if global.output == Format::Table {
        output::block(whole.to_string().trim_end())?;
    } else {
        let items: Vec<_> = whole
            .checks
            .iter()
            .map(|(check, outcome)| match outcome {
                spi::conformance::Outcome::Passed => json!({"check": check, "outcome": "Passed"}),
                spi::conformance::Outcome::Failed(why) => {
                    json!({"check": check, "outcome": "Failed", "message": why})
                }
                spi::conformance::Outcome::Skipped(why) => {
                    json!({"check": check, "outcome": "Skipped", "message": why})
                }
            })
            .collect();
        let class = whole.class.map(|class| format!("{class:?}"));
        let value = json!({ "plugin": name.as_str(), "class": class, "items": items });
        output::object(global.output, "PluginTest", value)?;
    }
    Ok(if whole.passed() { 0 } else { report::FAILED })
}
