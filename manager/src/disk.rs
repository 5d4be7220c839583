//! The database in the data directory of a manager: opens it with its key.

use std::path::Path;
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

/// Opens the database in the data directory, with its key.
pub(crate) async fn open(data_dir: &Path, unlock: Option<&Secret>) -> Result<Disk, Error> {
    let (dir, unlock) = (data_dir.to_owned(), unlock.cloned());
    let opened = tokio::task::spawn_blocking(move || {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
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
