//! Single values beside the log: what they are called, and how one is written durably.

use std::io;

use crate::store::{Batch, Db, META};

pub(crate) const VOTE: &[u8] = b"vote";
pub(crate) const COMMITTED: &[u8] = b"committed";
pub(crate) const PURGED: &[u8] = b"purged";
pub(crate) const SCHEMA: &[u8] = b"schema";

/// The layout of the keys, and that values are sealed. A directory of another layout is refused.
const LAYOUT: u32 = 2;

/// Makes a new store ready, and refuses one of another layout.
pub(crate) fn prepare(db: &Db) -> io::Result<()> {
    match db.get(META, SCHEMA)? {
        None => put(db, META, SCHEMA, &LAYOUT.to_be_bytes()),
        Some(bytes) if bytes == LAYOUT.to_be_bytes() => Ok(()),
        Some(bytes) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("it has layout {bytes:?}, and this program knows layout {LAYOUT}"),
        )),
    }
}

/// Writes one value and makes it durable before it returns. Blocks.
pub(crate) fn put(db: &Db, column: &'static str, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut batch = Batch::default();
    batch.put(column, key, value.to_vec());
    db.write(batch)?;
    db.sync()?;
    db.note()
}

/// Reads a value of the `meta` column, for what other files keep there.
pub(crate) fn get_meta(db: &Db, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    db.get(META, key)
}

/// Writes a value of the `meta` column durably.
pub(crate) fn put_meta(db: &Db, key: &[u8], value: &[u8]) -> io::Result<()> {
    put(db, META, key, value)
}
