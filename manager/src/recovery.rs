//! Disaster recovery after the permanent loss of a majority: from the disk of a survivor, or from a backup.
//! No manager may run on that data directory.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use model::access::Secret;
use model::command::{Manager, Program};
use model::event::Event;
use model::{NodeId, State};
use raft::{Backup, Disk, Holding, Identity};

use crate::disk::{self, DB};
use crate::error::Error;
use crate::keyfile;

/// Timeout for a connection to another manager.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// An unused data directory of a member.
pub struct Survivor {
    /// The data directory.
    pub dir: PathBuf,
    /// What it holds.
    pub holding: Holding,
    disk: Disk,
}

/// Version and feature level of this program.
pub(crate) fn program() -> Program {
    Program { version: env!("CARGO_PKG_VERSION").to_owned(), level: model::command::LEVEL }
}

/// Higher than every earlier lineage: it is at least the time in seconds.
pub(crate) fn next_lineage(before: u32) -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    before.saturating_add(1).max(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// What a data directory holds.
pub enum DataDir {
    /// Nothing.
    Empty,
    /// A start or a restore began there and did not get as far as to belong to a cluster: nobody relies on it.
    Unfinished,
    /// What a manager knows.
    Member(Box<Survivor>),
}

impl DataDir {
    /// Reads a data directory, without changing it.
    pub async fn read(dir: &Path, unlock: Option<&Secret>) -> Result<Self, Error> {
        if !Disk::exists(&dir.join(DB)) {
            return Ok(DataDir::Empty);
        }
        let disk = disk::open(dir, unlock).await?;
        let read = tokio::task::spawn_blocking(move || disk.holding().map(|holding| (disk, holding))).await;
        match read.map_err(std::io::Error::other).and_then(|it| it) {
            Ok((disk, Some(holding))) => {
                Ok(DataDir::Member(Box::new(Survivor { dir: dir.to_owned(), holding, disk })))
            }
            Ok((_, None)) => Ok(DataDir::Unfinished),
            Err(error) => {
                let what = format!("the data in {} cannot be read", dir.display());
                Err(Error::new(what, error, "recover from another survivor; nothing was changed"))
            }
        }
    }
}

impl Survivor {
    /// Reads the data directory of a member, without changing it.
    pub async fn read(dir: &Path, unlock: Option<&Secret>) -> Result<Self, Error> {
        match DataDir::read(dir, unlock).await? {
            DataDir::Member(survivor) => Ok(*survivor),
            DataDir::Empty | DataDir::Unfinished => {
                let remedy = "name the data directory of a manager that was a member; nothing was changed";
                Err(Error::new(
                    format!("{} is not the data directory of a manager", dir.display()),
                    "it does not belong to a cluster",
                    remedy,
                ))
            }
        }
    }

    /// This manager, as its own state has it.
    pub fn manager(&self) -> Option<&Manager> {
        self.holding.state.managers.get(&self.holding.identity.node)
    }

    /// Makes it the only manager of a new lineage of its cluster.
    pub async fn begin_anew(self) -> Result<Identity, Error> {
        let dir = self.dir.display().to_string();
        let Some(me) = self.manager().cloned() else {
            let remedy = "recover from another survivor; nothing was changed";
            return Err(Error::new(
                format!("{dir} does not belong to a member"),
                "it was removed from the cluster",
                remedy,
            ));
        };
        let Holding { identity, state, events, last, voted, .. } = self.holding;
        let last = model::LogId { term: last.term.max(voted), ..last };
        let lineage = next_lineage(identity.lineage);
        begin_anew(self.disk, dir, (state, events), last, lineage, Some(identity.node), me).await
    }
}

/// Creates a data directory from a backup, for the only manager of a new lineage of its cluster.
pub async fn restore(backup: Backup, dir: &Path, name: &str, address: &str) -> Result<Identity, Error> {
    let disk = disk::open(dir, None).await?;
    let me = Manager {
        name: name.to_owned(),
        address: address.to_owned(),
        storage: disk.storage().to_owned(),
        instance: None,
        program: program(),
    };
    let Backup { head, state, events } = backup;
    let dir = dir.display().to_string();
    begin_anew(disk, dir, (state, events), head.last, next_lineage(head.lineage), None, me).await
}

async fn begin_anew(
    disk: Disk,
    dir: String,
    (state, events): (State, Vec<Event>),
    last: model::LogId,
    lineage: u32,
    node: Option<NodeId>,
    me: Manager,
) -> Result<Identity, Error> {
    let begun =
        tokio::task::spawn_blocking(move || disk.begin_anew(&state, events, last, lineage, node, me)).await;
    begun.map_err(std::io::Error::other).and_then(|it| it).map_err(|error| {
        Error::new(format!("{dir} cannot be written"), error, "check the disk; nothing was changed")
    })
}

/// Moves the contents of a data directory aside, so that it can be created again; returns where to.
pub fn set_aside(dir: &Path) -> std::io::Result<PathBuf> {
    let mark = format!("before-{}", next_lineage(0));
    let aside = dir.join(&mark);
    std::fs::create_dir(&aside)?;
    for file in [DB, keyfile::FILE] {
        match std::fs::rename(dir.join(file), aside.join(file)) {
            // A lost key may be the reason for this.
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::File::open(dir)?.sync_all()?;
    Ok(aside)
}

/// Why a data directory cannot be changed now: it is in use, or it belongs to another user.
pub fn is_taken(dir: &Path) -> Option<String> {
    use rustix::fs::{FlockOperation, fcntl_lock};
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(dir).ok()?.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Some(format!("it belongs to user {owner}, who could not read the new files"));
    }
    // The same lock as RocksDB.
    let lock = std::fs::File::options().read(true).write(true).open(dir.join(DB).join("LOCK")).ok()?;
    let taken = fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).is_err();
    taken.then(|| "a manager uses it".to_owned())
}

/// The managers other than `me` that accept a connection: a running majority is not lost.
pub async fn answering(state: &State, me: Option<NodeId>) -> Vec<String> {
    let others = state.managers.iter().filter(|(id, _)| Some(**id) != me).map(|(_, it)| async move {
        let tried = tokio::time::timeout(ANSWERS_WITHIN, tokio::net::TcpStream::connect(&it.address)).await;
        matches!(tried, Ok(Ok(_))).then(|| format!("{} ({})", it.name, it.address))
    });
    join_all(others).await.into_iter().flatten().collect()
}
