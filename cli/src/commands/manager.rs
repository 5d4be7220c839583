//! `infrakit manager`: run one.

use std::time::Duration;

use manager::backup::Schedule;
use manager::{Adopt, Config, Profile as Patience, Start};

use super::{duration, plugins_dir, start_logging, stop_signal};
use crate::args::{Global, ManagerStart, ManagerVerb, Profile};
use crate::report::Failure;

pub(crate) async fn run(verb: ManagerVerb, global: &Global) -> Result<u8, Failure> {
    let ManagerVerb::Start(start) = verb;
    start_logging(global)?;
    let config = configure(start, global)?;
    let running = manager::start(config, stop_signal()).await.map_err(Failure::from)?;
    tracing::info!("{}", running.describe());
    running.finished().await.map_err(Failure::from)?;
    tracing::info!("stopped");
    Ok(0)
}

fn configure(start: ManagerStart, global: &Global) -> Result<Config, Failure> {
    if start.name.trim().is_empty() {
        return Err(Failure::usage("--name is empty"));
    }
    for address in start.join.iter().chain(start.advertise.iter()).chain([&start.listen]) {
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
