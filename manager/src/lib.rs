//! The manager daemon as a library: it connects the model, the Raft replica, the plugins and the API.

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
mod disk;
mod error;
mod join;
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
use model::access::{Authorities, Authority};
use model::command::Manager;
use raft::Replica;
use tokio::net::{TcpListener, UnixListener};
use tonic::transport::Server;

pub use clock::Clock;
pub use config::{Adopt, Config, Start};
pub use error::Error;
pub use lease::Lease;
pub use monitor::Probe;
pub use raft::Profile;
pub use telemetry::Telemetry;
pub use world::{Listed, Rejection, Work, World};

use access::AuthLayer;
use bootstrap::Membership;
use call_gate::CallGate;
use dial::Secure;
use disk::DB;
use members::Members;
use metrics::Metrics;
use reconcile::Assessments;
use replica_thread::{Away, ReplicaThread};
use service::Service;
use world::Plugins;

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
    let listen = config.listen.clone();
    let cannot_listen = |error| {
        Error::new(
            format!("cannot listen on {}", config.listen),
            error,
            "stop the process that listens there, or choose another --listen",
        )
    };
    let socket = accept::reserve(&listen).await.map_err(cannot_listen)?;
    let local = socket.local_addr().map_err(|error| Error::new("cannot listen", error, ""))?;
    let address = config.advertise.clone().unwrap_or_else(|| local.to_string());
    let monitor = match &config.monitor {
        None => None,
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
            let remedy = "stop the process that listens there, or choose another --monitor";
            Error::new(format!("cannot listen on {address}"), error, remedy)
        })?),
    };

    let new = (!config.data_dir.exists(), !config.data_dir.join(DB).exists());
    let disk = disk::open(&config.data_dir, config.unlock.as_ref()).await?;
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
            // A join request may have succeeded: the data directory must keep the identity that it was made
            // with.
            if !matches!(config.start, Start::Join(_)) {
                drop(disk);
                disk::leave_as_found(&config.data_dir, new);
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
            .map_err(|error| Error::new("the cluster cannot be bootstrapped", error, ""))?;
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
                // Before anything is destroyed: it could be the machine that this manager runs on.
                if tokio::time::timeout(ANNOUNCED_IN, members.announce(&me)).await.is_err() {
                    tracing::warn!("this manager leads, but could not announce its instance");
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
    let renewing = tokio::spawn(keys::keep(tls.clone(), replica.clone(), metrics.clone()));
    let counting = tokio::spawn(monitor::count(replica.clone(), metrics.clone()));
    let monitoring = monitor.map(|listener| tokio::spawn(monitor::serve(listener, probe.clone())));
    let backing = config.backups.clone().map(|schedule| {
        tokio::spawn(backup::keep(schedule, replica.clone(), clock.clone(), metrics.clone()))
    });
    let announcing = {
        let members = members.clone();
        tokio::spawn(async move { members.announce(&me).await })
    };

    let local_socket = config.data_dir.join("manager.sock");
    let local_listener = bind_local(&local_socket)?;
    let addresses = here(&config, &address, local);
    for address in &addresses {
        if let Err(error) = api::local::publish(address, &local_socket) {
            tracing::warn!(%error, address, "the local socket cannot be published; use its path");
        }
    }
    let (closing, mut closed) = tokio::sync::watch::channel(());
    let mut closed_too = closed.clone();
    let remote = {
        let (tls, work) = (tls.clone(), tokio::runtime::Handle::current());
        thread.run(async move { accept::remote(socket, tls, work) }).await.map_err(cannot_listen)?
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
                // Saves the others an election.
                if let Err(error) = members.transfer_leadership(None).await {
                    tracing::debug!(%error, "leadership was not transferred");
                }
            }
            work.abort();
            announcing.abort();
            renewing.abort();
            counting.abort();
            backing.iter().chain(&monitoring).chain(&restarting).for_each(tokio::task::JoinHandle::abort);
            drop(closing);
            // Open calls get a moment; streams have no end of their own.
            let served = tokio::time::timeout(Duration::from_secs(2), serving).await;
            replica.shutdown().await;
            addresses.iter().for_each(|address| api::local::withdraw(address, &local_socket));
            // What cannot be removed now is replaced at the next start.
            let _ = std::fs::remove_file(&local_socket);
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

/// Reconciles whenever `replica` leads, and ends with the replica: a manager without its servers. For a
/// simulation with a world of its own.
pub async fn reconcile_while_leading<W: World>(replica: Replica, world: Arc<W>, clock: Clock) {
    let role = replica.watch_role();
    let work = move |term| {
        let (replica, world, clock) = (replica.clone(), world.clone(), clock.clone());
        reconcile::run(term, replica, world, Assessments::default(), clock, CallGate::default())
    };
    leadership::while_leading(role, work).await;
}

/// The addresses by which processes on this machine may reach this manager.
fn here(config: &Config, address: &str, local: std::net::SocketAddr) -> Vec<String> {
    let mut all = vec![address.to_owned(), local.to_string(), config.listen.clone()];
    if local.ip().is_unspecified() || local.ip().is_loopback() {
        all.extend(["127.0.0.1", "[::1]", "localhost"].map(|host| format!("{host}:{}", local.port())));
    }
    all
}

/// Sets the first credentials of this manager: those of its state; or, before it has one, those issued when
/// it joined; or, if it bootstraps the cluster, those of a new authority, which is returned.
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
            let authority = ca::create(&identity.cluster).map_err(unusable)?;
            keys::present(tls, identity, &Authorities::new(authority.clone(), model::LogIndex(0)), lasts)?;
            Ok(Some(authority))
        }
        (None, None) => Err(Error::new(
            "this manager has no certificate",
            "its data directory was created by a version without certificates",
            "let it join again with an empty --data-dir",
        )),
    }
}

fn bind_local(path: &std::path::Path) -> Result<UnixListener, Error> {
    // The database is locked, so the process that left the socket is gone.
    let _ = std::fs::remove_file(path);
    UnixListener::bind(path).map_err(|error| {
        Error::new(format!("cannot listen on {}", path.display()), error, "choose a shorter --data-dir")
    })
}

/// How long closing the disk may take: its tasks end immediately, or hang.
const CLOSED_IN: Duration = Duration::from_secs(5);

/// How long a new leader tries to announce its instance before it continues.
const ANNOUNCED_IN: Duration = Duration::from_secs(5);

/// Remedies for a replica that has stopped.
const FAILED: &str = "repair the disk, then start the manager again with the same command; the cluster \
                      works as long as a majority runs";
const DIVERGED: &str = "check the memory and the disk of this machine; then let it join again under \
                        another name with an empty --data-dir; the cluster works as long as a majority \
                        runs";
const EXPELLED: &str = "no data are lost: the other managers have them; to run a manager here again, let \
                        it join with an empty --data-dir";
