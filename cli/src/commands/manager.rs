//! `infrakit manager`: run one.

use std::time::Duration;

use manager::backup::Schedule;
use manager::keyfile;
use manager::{Adopt, Config, Probe, Profile as Patience, Start, Telemetry};
use sd_notify::NotifyState;

use super::{duration, plugins_dir, start_logging, stop_signal, unlock_key};
use crate::args::{Global, ManagerStart, ManagerVerb, Profile};
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
    let telling = tokio::spawn(tell_service_manager(running.probe()));
    let finished = running.finished().await;
    telling.abort();
    if let Some(telemetry) = telemetry {
        // It waits for its own thread.
        let _ = tokio::task::spawn_blocking(|| telemetry.stop()).await;
    }
    finished?;
    tracing::info!("stopped");
    Ok(0)
}

fn cannot_lock(error: &std::io::Error) -> Failure {
    Failure::new("the key of the data directory cannot be used")
        .cause(error.to_string())
        .remedy("name the data directory of a manager, and give its unlock key when it is locked; nothing was changed")
}

/// Tells systemd, when it is there: ready, how it is, that it lives (sd_notify(3)).
async fn tell_service_manager(probe: Probe) {
    // Twice within the time after which it would be started anew.
    let every = sd_notify::watchdog_enabled().map_or(TOLD_EVERY, |within| (within / 2).min(TOLD_EVERY));
    let (mut was_ready, mut told) = (false, String::new());
    loop {
        let (ready, status) = match probe.ready() {
            Ok(what) => (true, what),
            Err(why) => (false, why),
        };
        let mut news = vec![NotifyState::Watchdog];
        if ready && !was_ready {
            was_ready = true;
            news.push(NotifyState::Ready);
        }
        if !was_ready {
            // A long log takes its time.
            news.push(NotifyState::ExtendTimeoutUsec(EXTENDED.as_micros() as u32));
        }
        if status != told {
            news.push(NotifyState::Status(&status));
        }
        if let Err(error) = sd_notify::notify(&news) {
            tracing::debug!(%error, "the service manager is not told");
        }
        told = status;
        tokio::time::sleep(every).await;
    }
}

/// How often the service manager is told how this manager is.
const TOLD_EVERY: Duration = Duration::from_secs(1);
/// How much longer it is to wait for a manager that starts.
const EXTENDED: Duration = Duration::from_secs(10);

/// Waits for the end, and says that it has come.
async fn stop() {
    stop_signal().await;
    if let Err(error) = sd_notify::notify(&[NotifyState::Stopping]) {
        tracing::debug!(%error, "the service manager is not told");
    }
}

fn configure(start: ManagerStart, global: &Global) -> Result<Config, Failure> {
    if start.name.trim().is_empty() {
        return Err(Failure::usage("--name is empty"));
    }
    for address in start.join.iter().chain(&start.advertise).chain(&start.monitor).chain([&start.listen]) {
        if address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).is_none() {
            return Err(Failure::usage(format!("`{address}` is not an address")).remedy("write HOST:PORT"));
        }
    }
    let unspecified = start.listen.starts_with("0.0.0.0:") || start.listen.starts_with("[::]:");
    if unspecified && start.advertise.is_none() {
        return Err(Failure::usage(format!("{} cannot be reached by others", start.listen))
            .remedy("give --advertise HOST:PORT"));
    }
    let plugin_deadline = duration(&start.plugin_timeout)?;
    if plugin_deadline > spi::Directory::DEADLINE || plugin_deadline.is_zero() {
        return Err(Failure::usage("--plugin-timeout: more than 0 and at most 15s")
            .remedy("how long a lost call is waited for is reckoned from it"));
    }
    let backups = match start.backup_dir {
        None => None,
        Some(dir) => {
            let every = duration(&start.backup_every)?;
            if every < Duration::from_secs(1) {
                return Err(Failure::usage("--backup-every: a second at least"));
            }
            Some(Schedule { dir, every, keep: start.backup_keep as usize })
        }
    };
    Ok(Config {
        restart_managers: !start.no_rescue,
        unlock: unlock_key(start.unlock_key_file.as_deref())?,
        monitor: start.monitor,
        backups,
        name: start.name,
        data_dir: start.data_dir,
        listen: start.listen,
        advertise: start.advertise,
        instance: start.instance.map(model::InstanceId::new),
        plugins_dir: plugins_dir(global)?,
        plugin_deadline,
        profile: match start.profile {
            Profile::Default => Patience::Default,
            Profile::Fast => Patience::Fast,
            Profile::Wan => Patience::Wan,
        },
        start: match (start.bootstrap, start.join.is_empty()) {
            (true, _) => Start::Bootstrap {
                adopt: start.adopt.map(|whose| match whose.as_str() {
                    "none" => Adopt::Nobody,
                    _ => Adopt::Cluster(whose),
                }),
            },
            (false, false) => Start::Join(start.join),
            (false, true) => Start::Restart,
        },
        token: start.token.given(),
    })
}
