//! The commands, one file for each noun, and what they share.

pub(crate) mod backup;
pub(crate) mod ca;
pub(crate) mod context;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod flavor;
pub(crate) mod group;
pub(crate) mod instance;
pub(crate) mod login;
pub(crate) mod manager;
pub(crate) mod node;
pub(crate) mod operator;
pub(crate) mod outage;
pub(crate) mod plugin;
pub(crate) mod recover;
pub(crate) mod restore;
pub(crate) mod rollout;
pub(crate) mod secret;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod var;

use std::future::Future;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::{Addresses, Client};
use model::access::Secret;
use model::{Millis, PluginName};
use spi::Directory;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::contexts;
use crate::global::{Global, LogFormat};
use crate::output;
use crate::report::{self, Failure};

/// Runs a command until it ends or Ctrl-C is pressed.
pub(crate) async fn interruptible(command: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    tokio::select! {
        // A command that waits for Ctrl-C itself says what it means.
        biased;
        result = command => result,
        _ = tokio::signal::ctrl_c() => Ok(report::INTERRUPTED),
    }
}

/// Waits for what the managers do anyway. Ctrl-C ends the waiting, and says that the work goes on.
pub(crate) async fn watching<T>(
    group: &str,
    waiting: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        // It listens before anything is shown that somebody could interrupt.
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::new(format!("no longer waiting for group `{group}`"))
            .cause("interrupted; the managers go on with it")
            .remedy(format!("follow it with `infrakit group describe {group} --watch`"))
            .exit(report::INTERRUPTED)),
        result = waiting => result,
    }
}

/// The id of a request: a repeated one gets the first reply.
pub(crate) fn request_id() -> Vec<u8> {
    api::request_id_bytes(model::RequestId(rand::random()))
}

/// The default addresses: managers on this machine.
const ON_THIS_MACHINE: &str = "127.0.0.1:7701,127.0.0.1:7702,127.0.0.1:7703";

/// A client of the managers that the user named, with the saved credentials for them.
pub(crate) fn client(global: &Global) -> Result<Client, Failure> {
    let named = global.host.as_deref().filter(|host| !host.is_empty());
    let context = match named {
        Some(host) if host.contains([':', ',', '/']) => None,
        Some(host) => Some(contexts::load(host)?.ok_or_else(|| {
            Failure::usage(format!("`{host}` is neither an address nor a saved context"))
                .remedy("give addresses as HOST:PORT[,HOST:PORT...] with --host or INFRAKIT_HOST")
        })?),
        None => contexts::load(contexts::DEFAULT)?,
    };
    let host = context.as_ref().map_or(named.unwrap_or(ON_THIS_MACHINE), |context| &context.managers);
    let addresses = addresses(host)?;
    let context = match context {
        Some(context) => Some(context),
        None => contexts::of(&addresses)?,
    };
    let credentials = context.map(|context| context.credentials()).transpose()?;
    Ok(Client::new(&addresses, credentials.as_ref())?)
}

pub(crate) fn addresses(host: &str) -> Result<Addresses, Failure> {
    Addresses::parse(host).map_err(|error| Failure::from(error).exit(report::USAGE))
}

/// The plugin directory: `--plugins-dir`, or as the environment says.
pub(crate) fn plugins_dir(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(path) = global.plugins_dir.clone().filter(|path| !path.as_os_str().is_empty()) {
        return Ok(path);
    }
    Directory::by_environment(|name| std::env::var(name).ok(), std::env::home_dir())
        .ok_or_else(|| Failure::usage("no plugin directory is set").remedy("give --plugins-dir"))
}

/// A plugin by its name.
pub(crate) fn plugin(global: &Global, name: &str) -> Result<(PluginName, spi::Client), Failure> {
    let name = PluginName::check(name).map_err(|why| Failure::usage(why.to_string()))?;
    let directory = Directory::new(plugins_dir(global)?);
    let found = directory.find(&name).map_err(|error| {
        Failure::from(error)
            .cause(format!("there is no entry of that name in {}", directory.path().display()))
            .remedy("`infrakit plugin ls` lists the plugins")
    })?;
    Ok((name, found.client()))
}

/// A plugin by its name, if it serves the interface.
pub(crate) async fn plugin_of_kind(
    global: &Global,
    name: &str,
    interface: &str,
) -> Result<(PluginName, spi::Client), Failure> {
    let (name, client) = plugin(global, name)?;
    let hello = client.hello().await?;
    if hello.serves(interface, name.subtype()) {
        return Ok((name, client));
    }
    Err(Failure::usage(format!("`{name}` does not serve {interface}"))
        .cause(hello.lacks(interface, name.subtype()))
        .remedy("`infrakit plugin ls` lists the interfaces of each plugin"))
}

pub(crate) fn read_file(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        // One byte above the limit, so that a file that is too large is noticed.
        let limit = model::draft::LARGEST_FILE as u64 + 1;
        let read = std::io::stdin().lock().take(limit).read_to_end(&mut bytes);
        read.map_err(|error| Failure::new("the standard input cannot be read").cause(error.to_string()))?;
        return Ok(("<stdin>".to_owned(), bytes));
    }
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::new(format!("{name} cannot be read")).cause(error.to_string()).exit(report::INVALID_FILE)
    })?;
    Ok((name, bytes))
}

/// The unlock key of a data directory: from this file, or from the environment.
pub(crate) fn unlock_key(file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    match file {
        Some(file) => read_file(file).map(|(_, bytes)| Some(Secret::new(bytes))),
        None => {
            let said = std::env::var("INFRAKIT_UNLOCK_KEY").ok().filter(|it| !it.is_empty());
            Ok(said.map(|text| Secret::new(text.into_bytes())))
        }
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, Failure> {
    Millis::parse_go(text).map(|span| Duration::from_millis(span.0)).map_err(Failure::usage)
}

/// Asks for confirmation. Without a terminal and without --yes it fails.
#[allow(clippy::print_stderr)]
pub(crate) async fn confirm(yes: bool, effect: &str, name: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let refuse = |what: &str| Failure::new(what).exit(report::REFUSED);
    if !std::io::stdin().is_terminal() {
        return Err(refuse(&format!("{effect}: confirmation required"))
            .remedy("give --yes, or run it on a terminal; nothing was changed"));
    }
    eprint!("{effect}.\nType `{name}` to continue: ");
    let _ = std::io::stderr().flush();
    // Whoever is asked may press Ctrl-C instead, so the terminal is read on a thread of its own.
    let reading = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = tokio::select! {
        answer = reading => answer,
        _ = tokio::signal::ctrl_c() => {
            eprintln!();
            return Err(refuse("interrupted; nothing was changed").exit(report::INTERRUPTED));
        }
    };
    match answer {
        Ok(Ok(answer)) if answer.trim() == name => Ok(()),
        _ => Err(refuse("not confirmed; nothing was changed")),
    }
}

/// Sends the logs of a daemon to the standard error, in colour only on a terminal.
pub(crate) fn start_logging(global: &Global) -> Result<(), Failure> {
    let filter: Targets = format!("openraft=error,{}", global.log_level)
        .parse()
        .map_err(|error| Failure::usage(format!("--log-level: {error}")))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let lines = match global.log_format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Ok(())
}

pub(crate) fn version(global: &Global) -> Result<u8, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if !output::object(global.output, "Version", serde_json::json!({ "version": version }))? {
        output::line(&format!("infrakit {version}"))?;
    }
    Ok(0)
}
