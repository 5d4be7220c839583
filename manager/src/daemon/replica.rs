//! Starts the replica of a manager, with the identity on its disk or a new one, and its first credentials.

use std::sync::Arc;
use std::time::Duration;

use api::tls::{self, Tls};
use api::{BadCertificate, Credentials, Subject};
use model::access::{Authorities, Authority};
use model::command::Manager;
use model::failpoints::{Protection, is_left_out};
use raft::{Disk, Replica};
use tokio::net::UnixListener;

use super::listeners::{LocalSocket, NetworkSocket};

use crate::bootstrap::{self, Membership};
use crate::config::{Config, Start};
use crate::dial::Secure;
use crate::disk::{self, DB};
use crate::error::Error;
use crate::replica_thread::ReplicaThread;
use crate::{ca, keys, recovery};

/// A replica that runs.
pub(super) struct Started {
    pub(super) replica: Replica,
    /// With the first credentials.
    pub(super) tls: Tls,
    pub(super) dial: Secure,
    pub(super) me: Manager,
    /// The authority of a cluster that this manager bootstraps.
    pub(super) new_authority: Option<Authority>,
    pub(super) network: NetworkSocket,
    pub(super) local: Option<(LocalSocket, UnixListener)>,
}

/// The disk of this manager, who it is, and where it listens.
struct Opened {
    disk: Disk,
    me: Manager,
    membership: Membership,
    network: NetworkSocket,
    /// Of a manager that bootstraps a cluster: whoever asks on this machine waits there, and not at the address, which
    /// is listened to already.
    local: Option<(LocalSocket, UnixListener)>,
}

/// Starts the replica of the manager at this address, on its thread.
pub(super) async fn start(
    config: &Config,
    network: NetworkSocket,
    thread: &ReplicaThread,
) -> Result<Started, Error> {
    let Opened { disk, me, membership, network, local } = open(config, network).await?;
    let Membership { identity, bootstraps, credentials } = membership;
    let address = &network.address;
    let tls = Tls::default();
    let dial = Secure::new(tls.clone());
    let replica = {
        let (profile, dial) = (config.profile, Arc::new(dial.clone()));
        let starting =
            async move { Replica::start(disk, identity, profile, raft::Sync::Grouped, dial).await };
        thread.run(starting).await.map_err(|error| {
            Error::new("the replica cannot start", error, "see the cause; nothing was changed")
        })?
    };
    replica.is_at(address);
    let new_authority = first_credentials(&replica, &tls, bootstraps, credentials)?;
    if bootstraps {
        replica
            .initialize(address)
            .await
            .map_err(|error| Error::new("the cluster cannot be bootstrapped", error, ""))?;
    }
    Ok(Started { replica, tls, dial, me, new_authority, network, local })
}

/// Opens the disk, and finds out who this manager is.
async fn open(config: &Config, mut network: NetworkSocket) -> Result<Opened, Error> {
    let new = (!config.data_dir.exists(), !config.data_dir.join(DB).exists());
    let disk = disk::open(&config.data_dir, config.unlock.as_ref()).await?;
    let me = Manager {
        name: config.name.clone(),
        address: network.address.clone(),
        storage: disk.storage().to_owned(),
        instance: config.instance.clone(),
        program: recovery::program(),
    };
    let is_member = disk.identity().is_ok_and(|it| it.is_some());
    if is_member {
        runs_nowhere_else(&disk, &network.address).await?;
    }
    let mut local = None;
    if !is_member && matches!(config.start, Start::Bootstrap { .. }) {
        local = Some(LocalSocket::publish(config, &network)?);
        network = network.hold()?;
    }
    match bootstrap::identify(config, &disk, new.1, &me, network.listener()).await {
        Ok(membership) => {
            disk.is_at(&network.address).map_err(unwritable)?;
            Ok(Opened { disk, me, membership, network, local })
        }
        Err(error) => {
            // Before the directory that it is in is left as it was found.
            drop(local);
            // A join request may have succeeded: the data directory must keep the identity that it was made
            // with.
            if !matches!(config.start, Start::Join(_)) {
                drop(disk);
                disk::leave_as_found(&config.data_dir, new);
            }
            Err(error)
        }
    }
}

fn unwritable(error: std::io::Error) -> Error {
    Error::new("the data directory cannot be used", error, "check the disk; nothing was changed")
}

/// How long whoever is at the address of before may take to say who it is: a busy one takes its time, and where nobody is,
/// that is mostly said at once.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);

/// Fails if the manager that this disk belongs to runs at the address where it was last: then this is a copy of its disk.
/// Two with one identity could vote twice.
async fn runs_nowhere_else(disk: &Disk, address: &str) -> Result<(), Error> {
    if is_left_out(Protection::OneOfCopies) {
        return Ok(());
    }
    let (own, before) = (disk.identity().map_err(unwritable)?, disk.address().map_err(unwritable)?);
    let (Some(own), Some(before)) = (own, before.filter(|before| before != address)) else { return Ok(()) };
    let there = tokio::time::timeout(ANSWERS_WITHIN, tls::who_is(&before)).await;
    let itself = |it: &Subject| matches!(it, Subject::Manager { cluster, node, .. } if *cluster == own.cluster && *node == own.node);
    match there {
        Ok(Ok(there)) if itself(&there) => Err(Error::new(
            format!("manager {} of this data directory runs already, at {before}", own.node),
            "this is a copy of its data directory",
            "to move it, stop it there first; to run another manager here, let it join with an empty --data-dir; nothing \
             was changed",
        )),
        _ => Ok(()),
    }
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
