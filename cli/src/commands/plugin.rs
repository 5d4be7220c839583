//! `infrakit plugin`: runs, lists and tests plugins.

use std::collections::BTreeMap;

use clap::Subcommand;
use futures_util::FutureExt;
use model::Opaque;
use serde_json::json;
use spi::{CALLS_END, Directory, NotMade, interface, stop_signal};

use super::{plugins_dir, start_logging};
use crate::global::{Format, Global};
use crate::output;
use crate::report::{self, Failure};

#[derive(Subcommand)]
pub(crate) enum PluginVerb {
    /// Start plugins in this process, in the foreground
    #[command(long_about = kinds())]
    Start {
        /// Kinds of plugins, each with the name to serve it under
        #[arg(required = true, value_name = "KIND[:NAME]")]
        plugins: Vec<String>,
        /// An option for every plugin started here that supports it, as KEY=VALUE
        #[arg(long = "set", value_name = "KEY=VALUE")]
        options: Vec<String>,
    },
    /// List the plugins in the plugin directory, including those that do not answer
    #[command(alias = "list")]
    Ls,
    /// Run the conformance tests against a plugin; creates and destroys instances
    Test {
        /// NAME or NAME/TYPE
        plugin: String,
        /// Properties for the test instances, as JSON
        #[arg(long, default_value = "{}")]
        properties: String,
    },
}

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
    let mut stopped = std::pin::pin!(stop_signal());
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
        let Some(kind) = builtin::kind(kind) else {
            // What nobody here takes is for programs of others, which check it themselves.
            let theirs: Vec<String> =
                options.iter().filter(|it| !is_built_in(it, desired)).cloned().collect();
            unused.retain(|key| {
                !theirs.iter().any(|it| it.split_once('=').is_some_and(|(known, _)| known == *key))
            });
            others.spawn(external(kind.to_owned(), name.to_owned(), theirs, directory.clone()));
            continue;
        };
        let own: BTreeMap<String, String> = all
            .iter()
            .filter(|(key, _)| kind.takes(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        unused.retain(|key| !own.contains_key(*key));
        let cannot_start = || format!("plugin `{name}` cannot start");
        let making = kind.plugin(name, &directory, own, |name| std::env::var(name).ok());
        let made = tokio::select! {
            made = making => made,
            () = &mut stopped => return Ok(0),
        };
        let plugin = made.map_err(|error| match error {
            NotMade::Options(why) => Failure::usage(why),
            NotMade::Failed(why) => Failure::new(cannot_start()).cause(why),
        })?;
        let served = spi::serve_soon(&directory, name, plugin)
            .await
            .map_err(|error| Failure::new(cannot_start()).cause(error.to_string()))?;
        tracing::info!(plugin = name, socket = %served.socket().display(), "serving");
        running.push(served);
    }
    if let Some(key) = unused.first() {
        return Err(Failure::usage(format!("--set {key}: no plugin started here has this option")));
    }
    let failed = tokio::select! {
        () = &mut stopped => None,
        Some(Ok(Err(failure))) = others.join_next() => Some(failure),
    };
    // Together: a call of one may wait for another. Whoever says so twice does not wait.
    let again = stop_signal();
    let patience = async move { drop(tokio::time::timeout(CALLS_END, again).await) }.shared();
    futures_util::future::join_all(running.into_iter().map(|plugin| plugin.stop(patience.clone()))).await;
    failed.map_or(Ok(0), Err)
}

/// Whether an option is one of a kind that is built in and started here.
fn is_built_in(option: &str, desired: &[String]) -> bool {
    let key = option.split_once('=').map_or(option, |(key, _)| key);
    let kinds = desired.iter().map(|entry| entry.split_once(':').map_or(entry.as_str(), |(kind, _)| kind));
    kinds.filter_map(builtin::kind).any(|kind| kind.takes(key))
}

fn names() -> String {
    let names: Vec<&str> = builtin::KINDS.iter().map(|kind| kind.name).collect();
    names.join(", ")
}

/// The built-in kinds and their options, for the help.
pub(crate) fn kinds() -> String {
    let mut text = "Start plugins in this process, in the foreground\n\n\
                    KIND is one of those below, and NAME defaults to it; any other KIND runs the program \
                    infrakit-plugin-KIND, with the options that no kind below that is started here takes. Below each \
                    kind are its options, for --set.\n"
        .to_owned();
    for kind in builtin::KINDS {
        text.push_str(&format!("\n{}: {}\n", kind.name, kind.summary));
        for option in kind.options {
            text.push_str(&format!("  {}: {}\n", option.key, option.summary));
        }
    }
    text
}

/// Runs `infrakit-plugin-KIND`, beside this program or on the PATH.
async fn external(
    kind: String,
    name: String,
    options: Vec<String>,
    directory: std::path::PathBuf,
) -> Result<(), Failure> {
    let program = format!("infrakit-plugin-{kind}");
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(&program)));
    let program = beside.filter(|path| path.exists()).unwrap_or_else(|| program.into());
    let status = tokio::process::Command::new(&program)
        .env("INFRAKIT_PLUGINS_DIR", directory)
        .arg(&name)
        .args(options.iter().map(|it| format!("--set={it}")))
        .kill_on_drop(true)
        .status()
        .await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("plugin `{name}` exited")).cause(status.to_string())),
        Err(error) => Err(Failure::usage(format!("unknown plugin kind `{kind}`"))
            .cause(format!("{}: {error}", program.display()))
            .remedy(format!("the built-in kinds are {}", names()))),
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
        output::table(global.output, &["NAME", "INTERFACE", "STATUS", "ADDRESS"], rows)?;
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
    if !matches!(global.output, Format::Json | Format::Yaml) {
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
