//! `infrakit dev`: a throwaway cluster of one manager in this process, to try things out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use manager::Config;
use spi::{CALLS_END, Running};

use super::group::{self, GroupVerb};
use super::manager::{ManagerStart, configure};
use super::start_logging;
use crate::global::Global;
use crate::output;
use crate::report::{self, Failure};

/// The group of a cluster without a file.
const EXAMPLE: &str = include_str!("../../../deploy/examples/web.yaml");
/// The plugins that it starts.
const PLUGINS: [&str; 2] = ["simulator", "vanilla"];

#[derive(Args)]
pub(crate) struct DevArgs {
    /// Files with groups to commit [default: an example of five members in the simulator]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:7701", value_name = "HOST:PORT")]
    listen: String,
}

pub(crate) async fn run(args: DevArgs, global: &Global) -> Result<u8, Failure> {
    start_logging(global)?;
    let dir = tempfile::Builder::new().prefix("infrakit-dev-").tempdir();
    let dir = dir.map_err(|error| Failure::new("no temporary directory").cause(error.to_string()))?;
    let plugins_dir = dir.path().join("plugins");
    // Before there is anything to clean up.
    let mut stopped = std::pin::pin!(spi::stop_signal());
    let mut plugins = Vec::new();
    for name in PLUGINS {
        plugins.push(started(name, &plugins_dir).await?);
    }
    let config = configured(&dir.path().join("manager"), &args.listen, &plugins_dir)?;
    let (stop, is_stopped) = tokio::sync::oneshot::channel::<()>();
    let manager = manager::start(config, async { drop(is_stopped.await) }).await.map_err(Failure::from)?;
    let described = manager.describe();
    let mut finished = std::pin::pin!(manager.finished());
    let serves = async {
        let files = match &args.files[..] {
            [] => vec![example(dir.path())?],
            files => files.to_vec(),
        };
        output::line(&described)?;
        output::line(&format!(
            "everything is in {}, and goes with it; Ctrl-C ends it",
            dir.path().display()
        ))?;
        output::line("in another terminal:")?;
        output::line(&format!(
            "  export INFRAKIT_HOST={} INFRAKIT_PLUGINS_DIR={}",
            args.listen,
            plugins_dir.display()
        ))?;
        output::line("  infrakit group ls")?;
        tokio::select! {
            // Whoever ends the cluster is not told that its managers go on.
            biased;
            () = &mut stopped => return Ok(()),
            committed = commit(&files, &args.listen, &plugins_dir) => {
                // What is wrong with a file can be mended from the other terminal.
                if let Err(failure) = committed {
                    report::print(&failure, global.output);
                }
            }
        }
        stopped.await;
        Ok::<(), Failure>(())
    };
    let result = tokio::select! {
        result = serves => result,
        ended = &mut finished => ended.map_err(Failure::from).and_then(|()| Err(Failure::new("the manager has stopped"))),
    };
    if stop.send(()).is_ok() {
        finished.await?;
    }
    let patience = || tokio::time::sleep(CALLS_END);
    futures_util::future::join_all(plugins.into_iter().map(|plugin| plugin.stop(patience()))).await;
    result.map(|()| 0)
}

async fn started(name: &str, directory: &Path) -> Result<Running, Failure> {
    let cannot = |why: String| Failure::new(format!("plugin `{name}` cannot start")).cause(why);
    let kind = builtin::kind(name).ok_or_else(|| cannot("it is not built in".to_owned()))?;
    // What the environment says of plugins is meant for others.
    let made = kind.plugin(name, directory, BTreeMap::new(), |_| None).await;
    let plugin = made.map_err(|error| cannot(error.to_string()))?;
    spi::serve(directory, name, plugin).map_err(|error| cannot(error.to_string()))
}

fn example(dir: &Path) -> Result<PathBuf, Failure> {
    let file = dir.join("web.yaml");
    std::fs::write(&file, EXAMPLE).map_err(|error| {
        Failure::new(format!("{} cannot be written", file.display())).cause(error.to_string())
    })?;
    Ok(file)
}

/// What `infrakit manager start` makes of these options.
fn configured(data_dir: &Path, listen: &str, plugins_dir: &Path) -> Result<Config, Failure> {
    let mut words =
        ["--bootstrap", "--adopt=none", "--name=dev", "--listen", listen].map(OsStr::new).to_vec();
    words.extend([OsStr::new("--plugins-dir"), plugins_dir.as_os_str()]);
    words.extend([OsStr::new("--data-dir"), data_dir.as_os_str()]);
    let matches = matched(ManagerStart::augment_args, &words)?;
    let (start, global) = (ManagerStart::from_arg_matches(&matches), Global::from_arg_matches(&matches));
    configure(start.map_err(|error| wrong(&error))?, &global.map_err(|error| wrong(&error))?)
}

/// `infrakit group commit --wait`, as anybody else would call it.
async fn commit(files: &[PathBuf], host: &str, plugins_dir: &Path) -> Result<(), Failure> {
    let mut words = ["--host", host, "--plugins-dir"].map(OsStr::new).to_vec();
    words.extend([plugins_dir.as_os_str(), OsStr::new("commit"), OsStr::new("--wait"), OsStr::new("--")]);
    words.extend(files.iter().map(|file| file.as_os_str()));
    let matches = matched(GroupVerb::augment_subcommands, &words)?;
    let (verb, global) = (GroupVerb::from_arg_matches(&matches), Global::from_arg_matches(&matches));
    group::run(verb.map_err(|error| wrong(&error))?, &global.map_err(|error| wrong(&error))?).await.map(drop)
}

fn matched(of: fn(Command) -> Command, words: &[&OsStr]) -> Result<ArgMatches, Failure> {
    let command = of(Global::augment_args(Command::new("infrakit")));
    let words = std::iter::once(OsStr::new("infrakit")).chain(words.iter().copied());
    command.try_get_matches_from(words).map_err(|error| wrong(&error))
}

fn wrong(error: &clap::Error) -> Failure {
    Failure::usage(error.to_string().trim_start_matches("error: ").trim_end())
}
