//! `infrakit manager`: runs a manager, and locks its data directory.

use std::time::Duration;

use manager::backup::Schedule;
use manager::keyfile;
use manager::{Adopt, Config, Probe, Profile as Timing, Start, Telemetry};
use model::command::Machine;
use model::{InstanceId, PluginName};
use sd_notify::NotifyState;

use super::{duration, plugins_dir, start_logging, unlock_key};
use crate::args::{ManagerStart, ManagerVerb, Profile};
use crate::global::Global;
use crate::output;
use crate::report::Failure;

pub(crate) async fn run(verb: ManagerVerb, global: &Global) -> Result<u8, Failure> {
    let start = match verb {
        ManagerVerb::Start(start) => start,
        ManagerVerb::Lock { data_dir, unlock_key_file } => {
            let unlock = unlock_key(unlock_key_file.as_deref())?;
            let unlocking = keyfile::lock(&data_dir, unlock.as_ref()).map_err(|error| cannot_lock(&error))?;
            output::line(&unlocking)?;
            return Ok(0);
        }
        ManagerVerb::Unlock { data_dir, unlock_key_file } => {
            let unlock = unlock_key(unlock_key_file.as_deref())?;
            keyfile::unlock(&data_dir, unlock.as_ref()).map_err(|error| cannot_lock(&error))?;
            return Ok(0);
        }
    };
    start_logging(global)?;
    let config = configure(*start, global)?;
    let telemetry = Telemetry::start();
    let running = manager::start(config, stop()).await.map_err(Failure::from)?;
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

/// Whether every address is one, and others can reach this manager.
fn check_addresses(start: &ManagerStart) -> Result<(), Failure> {
    let told = start.join.iter().chain(&start.peers);
    for address in told.chain(&start.advertise).chain(&start.monitor).chain([&start.listen]) {
        if address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).is_none() {
            return Err(Failure::usage(format!("`{address}` is not an address")).remedy("write HOST:PORT"));
        }
    }
    let unspecified = start.listen.starts_with("0.0.0.0:") || start.listen.starts_with("[::]:");
    if unspecified && start.advertise.is_none() {
        return Err(Failure::usage(format!("other managers cannot connect to {}", start.listen))
            .remedy("give --advertise HOST:PORT"));
    }
    Ok(())
}

fn configure(start: ManagerStart, global: &Global) -> Result<Config, Failure> {
    if start.name.trim().is_empty() {
        return Err(Failure::usage("--name is empty"));
    }
    check_addresses(&start)?;
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
