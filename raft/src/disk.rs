//! The disk of a replica: opens it, and stores the identity of the replica.

use std::io;
use std::path::Path;
use std::sync::Arc;

use model::{ClusterId, NodeId};

use crate::identity::Identity;
use crate::seal::{Key, Sealed};
use crate::store::{Db, MemoryDisk, Rocks};
use crate::{codec, meta, proto as pb};

pub(crate) const IDENTITY: &[u8] = b"identity";
const STORAGE: &[u8] = b"storage";
const ADDRESS: &[u8] = b"address";
pub(crate) const CREDENTIALS: &[u8] = b"credentials";

/// The open disk of a replica.
pub struct Disk {
    pub(crate) db: Db,
    storage: String,
}

impl Disk {
    /// Whether the directory has data of a replica, complete or not.
    pub fn exists(path: &Path) -> bool {
        // The file with which RocksDB begins.
        path.join("CURRENT").exists()
    }

    /// Opens the data of a replica, encrypted with `key`. If another process has it open,
    /// that is `WouldBlock`. Blocks.
    ///
    /// `fresh` generates the identity of a new disk.
    pub fn open(path: &Path, key: &Key, fresh: impl FnOnce() -> String) -> io::Result<Self> {
        let db: Db = Arc::new(Rocks::open(path)?);
        // The layout is not secret.
        meta::prepare(&db)?;
        Self::of(Arc::new(Sealed::new(db, key)), fresh)
    }

    /// A disk in memory, for simulated time.
    pub fn in_memory(disk: &MemoryDisk, fresh: impl FnOnce() -> String) -> io::Result<Self> {
        let db: Db = Arc::new(disk.open()?);
        meta::prepare(&db)?;
        Self::of(db, fresh)
    }

    fn of(db: Db, fresh: impl FnOnce() -> String) -> io::Result<Self> {
        let storage = match meta::get_meta(&db, STORAGE)? {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => {
                let storage = fresh();
                meta::put_meta(&db, STORAGE, storage.as_bytes())?;
                storage
            }
        };
        Ok(Self { db, storage })
    }

    /// The identity of the disk: a wiped disk gets a new one.
    pub fn storage(&self) -> &str {
        &self.storage
    }

    /// The identity of the replica, if it was a member before.
    pub fn identity(&self) -> io::Result<Option<Identity>> {
        let Some(bytes) = meta::get_meta(&self.db, IDENTITY)? else { return Ok(None) };
        let header = codec::decode::<pb::Header>(bytes)?;
        Ok(Some(Identity {
            cluster: ClusterId::from(header.cluster),
            lineage: header.lineage,
            node: NodeId(header.from),
        }))
    }

    /// Where the manager with this disk was reached when it ran last.
    pub fn address(&self) -> io::Result<Option<String>> {
        let bytes = meta::get_meta(&self.db, ADDRESS)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Stores where the manager with this disk is reached, durably.
    pub fn is_at(&self, address: &str) -> io::Result<()> {
        meta::put_meta(&self.db, ADDRESS, address.as_bytes())
    }

    /// The credentials issued when it joined.
    pub fn credentials(&self) -> io::Result<Option<Vec<u8>>> {
        meta::get_meta(&self.db, CREDENTIALS)
    }

    /// Stores the identity of the replica durably, with the credentials issued when it joined.
    pub fn bind(&self, identity: &Identity, credentials: &[u8]) -> io::Result<()> {
        if !credentials.is_empty() {
            meta::put_meta(&self.db, CREDENTIALS, credentials)?;
        }
        meta::put_meta(&self.db, IDENTITY, &identity.written())
    }
}
