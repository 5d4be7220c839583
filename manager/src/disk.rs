//! The database in the data directory of a manager: opens it with its key.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use model::access::Secret;
use raft::Disk;

use crate::error::Error;
use crate::keyfile;

/// The database in the data directory.
pub(crate) const DB: &str = "db";

/// Remedies for a data directory that cannot be opened.
const IN_USE: &str = "stop the manager that uses it, or choose another --data-dir; nothing was changed";
const NEWER: &str = "use the version of infrakit that wrote it, or a newer one; nothing was changed";
const DAMAGED: &str = "check the disk of this machine: stored data were lost or changed, and using them \
                       could break what this manager has acknowledged; let it join again under another \
                       name with an empty --data-dir";

/// How long another process that has the database open is waited for.
const LEFT_WITHIN: Duration = Duration::from_secs(10);

/// Opens the database in the data directory, with its key.
pub(crate) async fn open(data_dir: &Path, unlock: Option<&Secret>) -> Result<Disk, Error> {
    let (dir, unlock) = (data_dir.to_owned(), unlock.cloned());
    let opened = tokio::task::spawn_blocking(move || {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let key = keyfile::key(&dir, !Disk::exists(&dir.join(DB)), unlock.as_ref())?;
        let until = Instant::now() + LEFT_WITHIN;
        loop {
            // An earlier manager may be about to end.
            match Disk::open(&dir.join(DB), &key, || format!("{:032x}", raft::unique())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                opened => return opened,
            }
        }
    });
    let failed = |cause: String, remedy| {
        Error::new(format!("the data directory {} cannot be opened", data_dir.display()), cause, remedy)
    };
    match opened.await {
        Ok(Ok(disk)) => Ok(disk),
        Ok(Err(error)) => {
            let remedy = match error.kind() {
                io::ErrorKind::InvalidData => DAMAGED,
                io::ErrorKind::Unsupported => NEWER,
                io::ErrorKind::ResourceBusy => keyfile::UNLOCK_REMEDY,
                io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => keyfile::REMEDY,
                _ => IN_USE,
            };
            Err(failed(error.to_string(), remedy))
        }
        Err(error) => Err(failed(error.to_string(), IN_USE)),
    }
}

/// Waits until the database in the data directory is not the one that this manager has open, and returns the reason. It
/// could go on with the open files, and would have lost at its end what it has acknowledged.
pub(crate) async fn replaced(data_dir: PathBuf) -> String {
    let db = data_dir.join(DB);
    let files = [db.clone(), db.join("LOCK"), db.join("CURRENT")];
    let mut first = Vec::new();
    for file in &files[..2] {
        first.push(identity(file).await);
    }
    loop {
        tokio::time::sleep(LOOKED_AT_EVERY).await;
        for (n, file) in files.iter().enumerate() {
            let now = identity(file).await;
            if let (Some(before @ Err(_)), Ok(found)) = (first.get_mut(n), &now) {
                *before = Ok(*found);
            }
            let same = match (first.get(n), &now) {
                (Some(Ok(before)), Ok(now)) => before == now,
                // The last one is replaced by the database itself.
                (None, now) => now.is_ok(),
                (Some(_), _) => false,
            };
            // An error that says nothing about it, such as for lack of file descriptors, is none of its end.
            let unknown = now.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::NotFound);
            if !same && !unknown {
                let what = if now.is_ok() { "was replaced" } else { "is gone" };
                return format!("{} {what} while the manager was running", file.display());
            }
        }
    }
}

/// How often it is checked whether the database is still there.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// The device and the number of a file.
async fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = tokio::fs::metadata(path).await?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes what a failed start has created on the disk, and nothing that existed before.
pub(crate) fn leave_as_found(data_dir: &Path, (new_dir, new_db): (bool, bool)) {
    // If something cannot be removed, the next start uses it.
    if new_db {
        let _ = fs::remove_dir_all(data_dir.join(DB));
        let _ = fs::remove_file(data_dir.join(keyfile::FILE));
    }
    if new_dir {
        let _ = fs::remove_dir(data_dir);
    }
}
