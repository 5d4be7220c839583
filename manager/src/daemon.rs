//! A running manager: connects the replica, the plugins, the tasks and the servers, and stops them in order.

mod listeners;
mod parts;
mod replica;
mod servers;
mod tasks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use raft::Replica;
use tokio::task::JoinSet;

use crate::bootstrap;
use crate::config::Config;
use crate::disk;
use crate::error::Error;
use crate::members::Members;
use crate::monitor::Probe;
use crate::replica_thread::ReplicaThread;
use listeners::{Listeners, LocalSocket};
use parts::Parts;
use replica::Started;
use servers::Servers;

/// How long closing the disk may take: its tasks end immediately, or hang.
const CLOSED_IN: Duration = Duration::from_secs(5);

/// Remedies for a replica that has stopped.
const FAILED: &str = "repair the disk, then start the manager again with the same command; the cluster \
                      works as long as a majority runs";
const DIVERGED: &str = "check the memory and the disk of this machine; then let it join again under \
                        another name with an empty --data-dir; the cluster works as long as a majority \
                        runs";
const EXPELLED: &str = "no data are lost: the other managers have them; to run a manager here again, let \
                        it join with an empty --data-dir";

const REPLACED: &str = "put the data directory back as it was, or remove this manager with `infrakit node rm` and let it \
                        join again with an empty --data-dir; the cluster works as long as a majority runs";
const WENT_BACK: &str = "an older copy of its data directory was put in place; no data are lost: the others have them; \
                         remove it with `infrakit node rm`, then let it join again with an empty --data-dir";

/// A running manager.
pub struct Running {
    replica: Replica,
    thread: ReplicaThread,
    address: String,
    name: String,
    probe: Probe,
    finished: BoxFuture<'static, Result<(), Error>>,
}

impl Running {
    /// One line for the log: name, node id, cluster and address.
    pub fn describe(&self) -> String {
        let identity = self.replica.identity();
        format!(
            "manager `{}` is node {} of cluster {}, on {}",
            self.name,
            identity.node,
            identity.cluster.short(),
            self.address
        )
    }

    /// Its current state, for health checks.
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// Waits until the manager has stopped.
    pub async fn finished(self) -> Result<(), Error> {
        let result = self.finished.await;
        drop(self.thread);
        if !self.replica.disk_is_closed(CLOSED_IN).await {
            tracing::debug!("the database is still in use");
        }
        result
    }
}

/// Starts a manager: all of the wiring, from top to bottom. It serves until `stop` completes.
pub async fn start(
    config: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, Error> {
    let thread = ReplicaThread::new()?;
    let Listeners { network, monitor } = Listeners::bind(&config).await?;
    let Started { replica, tls, dial, me, new_authority, network, local } =
        replica::start(&config, network, &thread).await?;
    let address = network.address.clone();
    let parts = Parts::new(&config, replica.clone(), tls, dial, me);
    let probe = parts.probe();
    let bootstrap = new_authority
        .map(|authority| bootstrap::command(replica.identity(), &parts.me, authority, parts.clock.now()));
    let tasks = tasks::spawn(&config, &parts, bootstrap, monitor.map(|listener| (listener, probe.clone())));
    let (local, listener) = match local {
        Some(published) => published,
        None => LocalSocket::publish(&config, &network)?,
    };
    let servers = Servers::start(&thread, &parts, network, listener).await?;
    let daemon = Daemon {
        replica: replica.clone(),
        data_dir: config.data_dir.clone(),
        members: parts.members,
        tasks,
        servers,
        local,
    };
    let finished = Box::pin(daemon.run(stop));
    Ok(Running { replica, thread, address, name: config.name, probe, finished })
}

/// What is to be stopped, in order.
struct Daemon {
    replica: Replica,
    data_dir: PathBuf,
    members: Arc<Members>,
    tasks: JoinSet<()>,
    servers: Servers,
    local: LocalSocket,
}

impl Daemon {
    /// Runs until `stop` completes or the replica stops, and then stops everything.
    async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let failed = tokio::select! {
            biased;
            () = stop => None,
            why = self.replica.failed() => Some((why, FAILED)),
            why = disk::replaced(self.data_dir) => Some((why, REPLACED)),
            why = self.replica.diverged() => Some((why, DIVERGED)),
            why = self.replica.went_back() => Some((why, WENT_BACK)),
            why = self.replica.expelled() => Some((why, EXPELLED)),
        };
        if failed.is_none() {
            // Saves the others an election.
            if let Err(error) = self.members.transfer_leadership(None).await {
                tracing::debug!(%error, "leadership was not transferred");
            }
        }
        self.tasks.abort_all();
        let served = self.servers.close().await;
        self.replica.shutdown().await;
        drop(self.local);
        match failed {
            Some((why, remedy)) => Err(Error::new("the replica has stopped", why, remedy)),
            None => served,
        }
    }
}
