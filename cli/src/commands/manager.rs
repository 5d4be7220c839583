//! `infrakit manager`: runs a manager, and locks its data directory.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use manager::backup::Schedule;
use manager::keyfile;
use manager::{Adopt, Config, Probe, Profile as Timing, Start, Telemetry};
use model::command::Machine;
use model::{InstanceId, PluginName};
use sd_notify::NotifyState;

use super::token::TokenArg;
use super::{duration, plugins_dir, start_logging, unlock_key};
use crate::global::Global;
use crate::output;
use crate::report::Failure;

#[derive(Subcommand)]
pub(crate) enum ManagerVerb {
    /// Start a manager, in the foreground
    ///
    /// A restart uses the same command: --bootstrap and --join are ignored once the data directory
    /// belongs to a cluster.
    Start(Box<ManagerStart>),
    /// Lock the encryption key of a data directory: from its next start on, the manager needs the unlock key
    ///
    /// The unlock key is printed once and stored nowhere: without it the data are lost. A running manager is
    /// not affected. Locking again creates a new unlock key.
    Lock {
        /// Directory of its log and state
        #[arg(long)]
        data_dir: PathBuf,
        /// File with the current unlock key, if it is locked; `-` reads the standard input
        /// [or: $INFRAKIT_UNLOCK_KEY]
        #[arg(long, value_name = "FILE")]
        unlock_key_file: Option<PathBuf>,
    },
    /// Remove the lock of a data directory
    Unlock {
        /// Directory of its log and state
        #[arg(long)]
        data_dir: PathBuf,
        /// File with the unlock key; `-` reads the standard input [or: $INFRAKIT_UNLOCK_KEY]
        #[arg(long, value_name = "FILE")]
        unlock_key_file: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(crate) struct ManagerStart {
    /// YAML file with these options as `OPTION: VALUE`; the command line takes precedence
    #[arg(long, value_name = "FILE", env = "INFRAKIT_CONFIG", hide_env_values = true)]
    #[allow(dead_code, reason = "`settings` reads it before the arguments are parsed")]
    pub(crate) config: Option<PathBuf>,
    /// The name of this manager, unique in the cluster
    #[arg(long)]
    pub(crate) name: String,
    /// Directory of its log and state
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// Address to listen on, for peers and clients
    #[arg(long, default_value = "127.0.0.1:7701")]
    pub(crate) listen: String,
    /// Address at which others reach it, if it is not --listen
    #[arg(long)]
    pub(crate) advertise: Option<String>,
    /// The id of the instance it runs on, which is never destroyed while this manager is a member
    #[arg(long, value_name = "ID", env = "INFRAKIT_INSTANCE", hide_env_values = true)]
    pub(crate) instance: Option<String>,
    /// The instance plugin of that instance, where several may have one with this id: NAME or NAME/TYPE
    #[arg(
        long,
        value_name = "PLUGIN",
        env = "INFRAKIT_INSTANCE_PLUGIN",
        hide_env_values = true,
        requires = "instance"
    )]
    pub(crate) instance_plugin: Option<String>,
    /// Bootstrap a new cluster
    #[arg(long, conflicts_with = "join")]
    pub(crate) bootstrap: bool,
    /// With --bootstrap: what to do with instances of another cluster that the plugins list
    ///
    /// ID, or a prefix of it, bootstraps that cluster again, if all its managers are permanently lost: its
    /// instances are adopted when their groups are committed. `none` ignores them.
    #[arg(long, value_name = "ID|none", requires = "bootstrap")]
    pub(crate) adopt: Option<String>,
    /// Join the cluster of these managers: HOST:PORT[,HOST:PORT...]
    #[arg(long, value_delimiter = ',')]
    pub(crate) join: Vec<String>,
    /// Addresses of other managers: HOST:PORT[,HOST:PORT...]
    ///
    /// With --bootstrap they are asked first: if a cluster answers, none is bootstrapped. A member looks there, and at
    /// --join, for members that are not found where they were.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    #[command(flatten)]
    pub(crate) token: TokenArg,
    /// Election timing
    #[arg(long, value_enum, default_value_t = Profile::Default)]
    pub(crate) profile: Profile,
    /// File with the unlock key, if its data directory is locked; `-` reads the standard input
    /// [or: $INFRAKIT_UNLOCK_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) unlock_key_file: Option<PathBuf>,
    /// Do not restart the machines of other managers while there is no leader
    ///
    /// By default, their instance plugin restarts stopped ones after 30 s without a leader
    /// (`infrakit/start-managers-after`), if it can. Set this before you stop a majority on purpose.
    #[arg(long, alias = "no-rescue")]
    pub(crate) no_restart_managers: bool,
    /// Address for metrics and health endpoints (plain HTTP): /metrics, /healthz and /readyz
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) monitor: Option<String>,
    /// Directory for periodic backups, taken if something has changed; they are encrypted with backup.key in
    /// the same directory: keep a copy of the key elsewhere
    #[arg(long, value_name = "DIR")]
    pub(crate) backup_dir: Option<PathBuf>,
    /// Interval between backups
    #[arg(long, value_name = "TIME", default_value = "1h", requires = "backup_dir")]
    pub(crate) backup_every: String,
    /// Number of backups to keep
    #[arg(long, value_name = "N", default_value_t = 24, requires = "backup_dir",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) backup_keep: u32,
    /// Timeout of a plugin call, such as 15s
    #[arg(long, env = "INFRAKIT_CLIENT_TIMEOUT", hide_env_values = true, default_value = "15s")]
    pub(crate) plugin_timeout: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Election timeout of 1.4 to 1.6 s
    Default,
    /// 0.3 to 0.4 s, for disks that sync within 20 ms
    Fast,
    /// 8.8 to 10 s, for managers at different sites
    Wan,
}

pub(crate) async fn run(verb: ManagerVerb, global: &Global) -> Result<u8, Failure> {
    let start = match verb {
        ManagerVerb::Start(start) => start,
        ManagerVerb::Lock { data_dir, unlock_key_file } => {
            let unlock = unlock_key(unlock_key_file.as_deref())?;
            let unlocking = keyfile::lock(&data_dir, unlock.as_ref()).map_err(|error| cannot_lock(&error))?;
            if !output::object(
                global.output,
                "UnlockKey",
                serde_json::json!({ "unlockKey": unlocking.trim() }),
            )? {
                output::line(&unlocking)?;
            }
            return Ok(0);
        }
        ManagerVerb::Unlock { data_dir, unlock_key_file } => {
            let unlock = unlock_key(unlock_key_file.as_deref())?;
            keyfile::unlock(&data_dir, unlock.as_ref()).map_err(|error| cannot_lock(&error))?;
            output::done(global.output, &format!("{}: unlocked", data_dir.display()))?;
            return Ok(0);
        }
    };
    start_logging(global)?;
    let config = configure(*start, global)?;
    let telemetry = Telemetry::start();
    // One that joins may wait for a minute.
    let before = spi::stop_signal();
    let running = tokio::select! {
        running = manager::start(config, stop()) => running.map_err(Failure::from)?,
        () = before => {
            tracing::info!("stopped before it was a member");
            return Ok(0);
        }
    };
    tracing::info!("{}", running.describe());
    let notifying = tokio::spawn(notify_service_manager(running.probe()));
    let finished = running.finished().await;
    notifying.abort();
    if let Some(telemetry) = telemetry {
        // It waits for its own thread.
        let _ = tokio::task::spawn_blocking(|| telemetry.stop()).await;
    }
    finished?;
    tracing::info!("stopped");
    Ok(0)
}

fn cannot_lock(error: &std::io::Error) -> Failure {
    Failure::new("the key of the data directory cannot be used").cause(error.to_string()).remedy(
        "name the data directory of a manager, and give its unlock key if it is locked; nothing was changed",
    )
}

/// Notifies systemd, if it supervises this process: readiness, status, watchdog (sd_notify(3)).
async fn notify_service_manager(probe: Probe) {
    // Twice within the watchdog timeout.
    let every = sd_notify::watchdog_enabled().map_or(NOTIFY_EVERY, |within| (within / 2).min(NOTIFY_EVERY));
    let (mut was_ready, mut reported) = (false, String::new());
    loop {
        let (ready, status) = match probe.ready() {
            Ok(what) => (true, what),
            Err(why) => (false, why),
        };
        let mut states = vec![NotifyState::Watchdog];
        if ready && !was_ready {
            was_ready = true;
            states.push(NotifyState::Ready);
        }
        if !was_ready {
            // Replaying a long log takes time.
            states.push(NotifyState::ExtendTimeoutUsec(EXTENDED.as_micros() as u32));
        }
        if status != reported {
            states.push(NotifyState::Status(&status));
        }
        if let Err(error) = sd_notify::notify(&states) {
            tracing::debug!(%error, "the service manager could not be notified");
        }
        reported = status;
        tokio::time::sleep(every).await;
    }
}

/// Interval of the notifications.
const NOTIFY_EVERY: Duration = Duration::from_secs(1);
/// How much more time a starting manager asks for.
const EXTENDED: Duration = Duration::from_secs(10);

/// Waits for the stop signal, and notifies the service manager.
fn stop() -> impl Future<Output = ()> + Send + 'static {
    let stopped = spi::stop_signal();
    async {
        stopped.await;
        if let Err(error) = sd_notify::notify(&[NotifyState::Stopping]) {
            tracing::debug!(%error, "the service manager could not be notified");
        }
    }
}

/// A host and a port, which may be written as a URL.
fn address(text: &str) -> Result<String, Failure> {
    let wrong = || Failure::usage(format!("`{text}` is not an address")).remedy("write HOST:PORT");
    // Whoever listens at port 0 gets a free one.
    let (whole, is_any) = match text.strip_suffix(":0") {
        Some(host) => (format!("{host}:1"), true),
        None => (text.to_owned(), false),
    };
    let parsed = api::Addresses::parse(&whole).map_err(|_| wrong())?;
    match parsed.iter().collect::<Vec<_>>()[..] {
        [one] if !one.contains('/') && is_any => Ok(format!("{}:0", one.trim_end_matches(":1"))),
        [one] if !one.contains('/') => Ok(one.to_owned()),
        _ => Err(wrong()),
    }
}

/// Reads every address, and finds out whether others can reach this manager.
fn check_addresses(start: &mut ManagerStart) -> Result<(), Failure> {
    let told = start.join.iter_mut().chain(&mut start.peers);
    for text in told.chain(&mut start.advertise).chain(&mut start.monitor).chain([&mut start.listen]) {
        *text = address(text)?;
    }
    let unspecified = start.listen.starts_with("0.0.0.0:") || start.listen.starts_with("[::]:");
    if unspecified && start.advertise.is_none() {
        return Err(Failure::usage(format!("other managers cannot connect to {}", start.listen))
            .remedy("give --advertise HOST:PORT"));
    }
    Ok(())
}

pub(super) fn configure(mut start: ManagerStart, global: &Global) -> Result<Config, Failure> {
    if start.name.trim().is_empty() {
        return Err(Failure::usage("--name is empty"));
    }
    check_addresses(&mut start)?;
    let plugin_deadline = duration(&start.plugin_timeout)?;
    if plugin_deadline > spi::Directory::DEADLINE || plugin_deadline.is_zero() {
        return Err(Failure::usage("--plugin-timeout must be more than 0 and at most 15s")
            .remedy("retries of lost calls rely on this limit"));
    }
    let backups = match start.backup_dir {
        None => None,
        Some(dir) => {
            let every = duration(&start.backup_every)?;
            if every < Duration::from_secs(1) {
                return Err(Failure::usage("--backup-every must be at least 1s"));
            }
            Some(Schedule { dir, every, keep: start.backup_keep as usize })
        }
    };
    let instance_plugin = start.instance_plugin.as_deref().map(PluginName::check).transpose();
    let instance_plugin =
        instance_plugin.map_err(|why| Failure::usage(format!("--instance-plugin: {why}")))?;
    Ok(Config {
        restart_managers: !start.no_restart_managers,
        unlock: unlock_key(start.unlock_key_file.as_deref())?,
        monitor: start.monitor,
        backups,
        name: start.name,
        data_dir: start.data_dir,
        listen: start.listen,
        advertise: start.advertise,
        instance: start.instance.map(|id| Machine { id: InstanceId::new(id), plugin: instance_plugin }),
        plugins_dir: plugins_dir(global)?,
        plugin_deadline,
        profile: match start.profile {
            Profile::Default => Timing::Default,
            Profile::Fast => Timing::Fast,
            Profile::Wan => Timing::Wan,
        },
        peers: start.peers.into_iter().chain(start.join.iter().cloned()).collect(),
        start: match (start.bootstrap, start.join.is_empty()) {
            (true, _) => Start::Bootstrap {
                adopt: start.adopt.map(|cluster| match cluster.as_str() {
                    "none" => Adopt::Nobody,
                    _ => Adopt::Cluster(cluster),
                }),
            },
            (false, false) => Start::Join(start.join),
            (false, true) => Start::Restart,
        },
        token: start.token.given(),
    })
}
