//! The daemon, as a library: one loop around the model, the replica, the plugins and the API.

mod accept;
mod access;
#[cfg(test)]
mod alone;
pub mod backup;
mod bootstrap;
mod ca;
mod call_gate;
mod clock;
mod config;
mod dial;
pub mod keyfile;
mod keys;
mod leadership;
mod lease;
mod members;
mod metrics;
mod monitor;
pub mod private_file;
mod reconcile;
pub mod recovery;
mod replica_thread;
mod restart_managers;
mod service;
mod telemetry;
mod world;

use std::sync::Arc;
use std::time::Duration;

use api::tls::Tls;
use api::{BadCertificate, Credentials};
use futures_util::future::BoxFuture;
use model::access::{Authorities, Authority, Secret};
use model::command::Manager;
use raft::{Disk, Replica, Role};
use tokio::net::{TcpListener, UnixListener};
use tonic::transport::Server;

pub use clock::Clock;
pub use config::{Adopt, Config, Start};
pub use lease::Lease;
pub use monitor::Probe;
pub use raft::Profile;
pub use telemetry::Telemetry;
pub use world::{Listed, Rejection, Work, World};

use access::AuthLayer;
use bootstrap::Membership;
use call_gate::CallGate;
use dial::Secure;
use members::Members;
use metrics::Metrics;
use reconcile::Assessments;
use replica_thread::{Away, ReplicaThread};
use service::Service;
use world::Plugins;

/// Why a manager cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    pub what: String,
    pub cause: String,
    pub remedy: String,
}

impl Error {
    fn new(what: impl Into<String>, cause: impl ToString, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), cause: cause.to_string(), remedy: remedy.into() }
    }
}

/// A manager that runs until it is told to stop.
pub struct Running {
    replica: Replica,
    thread: ReplicaThread,
    address: String,
    name: String,
    probe: Probe,
    finished: BoxFuture<'static, Result<(), Error>>,
}

impl Running {
    /// Who this manager is, in one line for its log.
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

    /// How it is, at any moment.
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }

    /// Waits until the manager has stopped.
    pub async fn finished(self) -> Result<(), Error> {
        let result = self.finished.await;
        drop(self.thread);
        if !self.replica.disk_is_closed(CLOSED_IN).await {
            tracing::debug!("somebody uses the disk still");
        }
        result
    }
}

/// Starts a manager: the whole wiring, once, top to bottom. It serves until `stop` comes.
pub async fn start(
    config: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, Error> {
    let thread = ReplicaThread::new()?;
    let listen = config.listen.clone();
    let cannot_listen = |error| {
        Error::new(
            format!("cannot listen on {}", config.listen),
            error,
            "stop what listens there, or choose another --listen",
        )
    };
    let door = accept::reserve(&listen).await.map_err(cannot_listen)?;
    let local = door.local_addr().map_err(|error| Error::new("cannot listen", error, ""))?;
    let address = config.advertise.clone().unwrap_or_else(|| local.to_string());
    let monitor = match &config.monitor {
        None => None,
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
            let remedy = "stop what listens there, or choose another --monitor";
            Error::new(format!("cannot listen on {address}"), error, remedy)
        })?),
    };

    let new = (!config.data_dir.exists(), !config.data_dir.join(DB).exists());
    let disk = open_disk(&config.data_dir, config.unlock.as_ref()).await?;
    let me = Manager {
        name: config.name.clone(),
        address: address.clone(),
        storage: disk.storage().to_owned(),
        instance: config.instance.clone(),
        program: recovery::program(),
    };
    let known = match bootstrap::identify(&config, &disk, &me).await {
        Ok(identified) => identified,
        Err(error) => {
            // Whoever asked to join may have been taken in: its disk must stay the one that asked.
            if !matches!(config.start, Start::Join(_)) {
                drop(disk);
                leave_as_found(&config.data_dir, new);
            }
            return Err(error);
        }
    };
    let Membership { identity, bootstraps, credentials } = known;
    let tls = Tls::default();
    let replica = {
        let (identity, profile, dial) = (identity.clone(), config.profile, Arc::new(Secure(tls.clone())));
        let starting =
            async move { Replica::start(disk, identity, profile, raft::Sync::Grouped, dial).await };
        thread.run(starting).await.map_err(|error| {
            Error::new("the replica cannot start", error, "see the cause; nothing was changed")
        })?
    };
    let new_authority = first_credentials(&replica, &tls, bootstraps, credentials)?;
    if bootstraps {
        replica
            .initialize(&address)
            .await
            .map_err(|error| Error::new("the cluster cannot be formed", error, ""))?;
    }

    let directory = spi::Directory::new(&config.plugins_dir).with_deadline(config.plugin_deadline);
    let metrics = Metrics::default();
    let world = Arc::new(Plugins::new(directory, replica.watch_state(), metrics.clone()));
    let restarting =
        config.restart_managers.then(|| tokio::spawn(restart_managers::keep(replica.clone(), world.clone())));
    let assessments = Assessments::default();
    let clock = Clock::default();
    let probe = Probe::new(replica.clone(), assessments.clone(), clock.clone(), metrics.clone());
    let role = replica.watch_role();
    let gate = CallGate::default();
    let dial = Secure(tls.clone());
    let members =
        Arc::new(Members::new(replica.clone(), role.clone(), clock.clone(), gate.clone(), dial.clone()));
    let service = Service::new(
        replica.clone(),
        role.clone(),
        world.clone(),
        assessments.clone(),
        clock.clone(),
        members.clone(),
        dial,
    );

    let work = {
        let (replica, clock, members, me) = (replica.clone(), clock.clone(), members.clone(), me.clone());
        let bootstrap = new_authority.map(|it| bootstrap::command(&identity, &me, it, clock.now()));
        leadership::while_leading(role, move |term| {
            let (replica, world, assessments) = (replica.clone(), world.clone(), assessments.clone());
            let (clock, members, bootstrap, me, gate) =
                (clock.clone(), members.clone(), bootstrap.clone(), me.clone(), gate.clone());
            async move {
                if let Some(command) = bootstrap {
                    bootstrap::propose_until_done(&replica, &command).await;
                }
                // Before anything is destroyed: it might be the machine this runs on.
                if tokio::time::timeout(ANNOUNCED_IN, members.announce(&me)).await.is_err() {
                    tracing::warn!("this manager leads, and could not say where it runs");
                }
                tokio::join!(
                    members.keep(term),
                    keys::rotate(replica.clone(), clock.clone(), term),
                    reconcile::run(term, replica.clone(), world, assessments, clock, gate),
                );
            }
        })
    };
    let work = tokio::spawn(work);
    let keeping = tokio::spawn(keys::keep(tls.clone(), replica.clone(), metrics.clone()));
    let counting = tokio::spawn(monitor::count(replica.clone(), metrics.clone()));
    let monitoring = monitor.map(|listener| tokio::spawn(monitor::serve(listener, probe.clone())));
    let backing = config.backups.clone().map(|schedule| {
        tokio::spawn(backup::keep(schedule, replica.clone(), clock.clone(), metrics.clone()))
    });
    let announcing = {
        let members = members.clone();
        tokio::spawn(async move { members.announce(&me).await })
    };

    let socket = config.data_dir.join("manager.sock");
    let local_listener = bind_local(&socket)?;
    let addresses = here(&config, &address, local);
    for address in &addresses {
        if let Err(error) = api::local::publish(address, &socket) {
            tracing::warn!(%error, address, "the socket is found in the data directory alone");
        }
    }
    let (closing, mut closed) = tokio::sync::watch::channel(());
    let mut closed_too = closed.clone();
    let remote = {
        let (tls, work) = (tls.clone(), tokio::runtime::Handle::current());
        thread.run(async move { accept::remote(door, tls, work) }).await.map_err(cannot_listen)?
    };
    let auth = AuthLayer::new(replica.watch_state());
    let tcp = Server::builder()
        .layer(auth.clone())
        .http2_keepalive_interval(Some(Duration::from_secs(2)))
        .http2_keepalive_timeout(Some(Duration::from_secs(3)))
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
        .add_service(replica.peer_server(members.clone()))
        .add_service(Away::from_here(service.server()))
        .serve_with_incoming_shutdown(remote, async move {
            let _ = closed.changed().await;
        });
    let unix = Server::builder()
        .layer(auth)
        .add_service(replica.peer_server(members.clone()))
        .add_service(Away::from_here(service.server()))
        .serve_with_incoming_shutdown(accept::local(local_listener), async move {
            let _ = closed_too.changed().await;
        });
    let serving = thread.spawn(async move { tokio::try_join!(tcp, unix).map(drop) });

    let finished = {
        let replica = replica.clone();
        Box::pin(async move {
            let failed = tokio::select! {
                biased;
                () = stop => None,
                why = replica.failed() => Some((why, FAILED)),
                why = replica.diverged() => Some((why, DIVERGED)),
                why = replica.expelled() => Some((why, EXPELLED)),
            };
            if failed.is_none() {
                // Whoever takes over goes on where this one stops, and nobody waits for an election.
                if let Err(error) = members.hand_over(None).await {
                    tracing::debug!(%error, "the lead is not handed over");
                }
            }
            work.abort();
            announcing.abort();
            keeping.abort();
            counting.abort();
            backing.iter().chain(&monitoring).chain(&restarting).for_each(tokio::task::JoinHandle::abort);
            drop(closing);
            // Open calls get a moment; a stream that is watched has no end of its own.
            let served = tokio::time::timeout(Duration::from_secs(2), serving).await;
            replica.shutdown().await;
            addresses.iter().for_each(|address| api::local::withdraw(address, &socket));
            // What cannot be removed now is replaced at the next start.
            let _ = std::fs::remove_file(&socket);
            if let Some((why, remedy)) = failed {
                return Err(Error::new("the replica has stopped", why, remedy));
            }
            match served {
                Ok(Ok(Err(error))) => Err(Error::new("the server failed", error, "")),
                Ok(Ok(Ok(())) | Err(_)) | Err(_) => Ok(()),
            }
        })
    };
    Ok(Running { replica, thread, address, name: config.name, probe, finished })
}

/// Reconciles whenever `replica` leads, and ends with it: what a manager does beside answering. For a
/// simulation, which has a world of its own.
pub async fn reconcile_while_leading<W: World>(replica: Replica, world: Arc<W>, clock: Clock) {
    let role = replica.watch_role();
    let work = move |term| {
        let (replica, world, clock) = (replica.clone(), world.clone(), clock.clone());
        reconcile::run(term, replica, world, Assessments::default(), clock, CallGate::default())
    };
    leadership::while_leading(role, work).await;
}

/// Takes back what this start made on the disk, and nothing that was there before: nothing is changed when
/// nothing comes of it.
fn leave_as_found(data_dir: &std::path::Path, (new_dir, new_db): (bool, bool)) {
    // What cannot be removed is used by the next start.
    if new_db {
        let _ = std::fs::remove_dir_all(data_dir.join(DB));
        let _ = std::fs::remove_file(data_dir.join(keyfile::FILE));
    }
    if new_dir {
        let _ = std::fs::remove_dir(data_dir);
    }
}

async fn open_disk(data_dir: &std::path::Path, unlock: Option<&Secret>) -> Result<Disk, Error> {
    let (dir, unlock) = (data_dir.to_owned(), unlock.cloned());
    let opened = tokio::task::spawn_blocking(move || {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let key = keyfile::key(&dir, !Disk::exists(&dir.join(DB)), unlock.as_ref())?;
        Disk::open(&dir.join(DB), &key, || format!("{:032x}", raft::unique()))
    });
    let failed = |cause: String, remedy| {
        Error::new(format!("the data directory {} cannot be opened", data_dir.display()), cause, remedy)
    };
    match opened.await {
        Ok(Ok(disk)) => Ok(disk),
        Ok(Err(error)) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::InvalidData => DAMAGED,
                std::io::ErrorKind::Unsupported => NEWER,
                std::io::ErrorKind::ResourceBusy => keyfile::UNLOCK_REMEDY,
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::NotFound => keyfile::REMEDY,
                _ => IN_USE,
            };
            Err(failed(error.to_string(), remedy))
        }
        Err(error) => Err(failed(error.to_string(), IN_USE)),
    }
}

/// The addresses by which those on this machine mean this manager.
fn here(config: &Config, address: &str, local: std::net::SocketAddr) -> Vec<String> {
    let mut all = vec![address.to_owned(), local.to_string(), config.listen.clone()];
    if local.ip().is_unspecified() || local.ip().is_loopback() {
        all.extend(["127.0.0.1", "[::1]", "localhost"].map(|host| format!("{host}:{}", local.port())));
    }
    all
}

/// What this manager presents from the start: as its state says; or, before it has one, as it was given when it
/// joined; or, when it founds the cluster, as an authority says that it makes now and gives back.
fn first_credentials(
    replica: &Replica,
    tls: &Tls,
    bootstraps: bool,
    given: Option<Credentials>,
) -> Result<Option<Authority>, Error> {
    let (state, identity) = (replica.published().state, replica.identity());
    let lasts = Duration::from_millis(state.certificate_life().0);
    let unusable = |error: BadCertificate| Error::new("this manager has no certificate", error, "");
    match (&state.authorities, given) {
        (Some(known), _) => keys::present(tls, identity, known, lasts).map(|()| None),
        (None, Some(given)) => tls.set(&given).map(|()| None).map_err(unusable),
        (None, None) if bootstraps => {
            let authority = ca::found(&identity.cluster).map_err(unusable)?;
            keys::present(tls, identity, &Authorities::new(authority.clone(), 0), lasts)?;
            Ok(Some(authority))
        }
        (None, None) => Err(Error::new(
            "this manager has no certificate",
            "its data directory was made before managers had some",
            "let it join anew with an empty --data-dir",
        )),
    }
}

fn bind_local(path: &std::path::Path) -> Result<UnixListener, Error> {
    // The database is locked, so whoever left the socket is dead.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).map_err(|error| {
        Error::new(format!("cannot listen on {}", path.display()), error, "choose a shorter --data-dir")
    })
}

/// How long the disk may take to be closed: its tasks end at once, or hang.
const CLOSED_IN: Duration = Duration::from_secs(5);

/// How long a new leader says where it runs before it does anything else.
const ANNOUNCED_IN: Duration = Duration::from_secs(5);

/// The database in the data directory.
const DB: &str = "db";

/// What helps when a replica has stopped by itself.
const FAILED: &str = "see to the disk, then start the manager again with the same command; the others go on as \
                      long as they are a majority";
const DIVERGED: &str = "look at the machine's memory and disk; then let it join anew under another name with an \
                         empty --data-dir; the others go on as long as they are a majority";
const EXPELLED: &str = "nothing is lost, for the others hold what it held; to run a manager here again, let it \
                        join anew with an empty --data-dir";

/// What helps when a data directory does not open.
const IN_USE: &str = "stop the manager that uses it, or choose another --data-dir; nothing was changed";
const NEWER: &str = "start it with the program that wrote it, or a newer one; nothing was changed";
const DAMAGED: &str = "look at the machine's disk; what was stored there is not what is there now, and using it \
                       could lose what this manager agreed to: let it join anew under another name with an empty \
                       --data-dir";

/// Who leads, for the files of this crate that ask.
fn leads(role: &tokio::sync::watch::Receiver<Role>) -> bool {
    matches!(*role.borrow(), Role::Leader { .. })
}
