//! The log and the vote on disk: RocksDB, one write-ahead log for everything, and one thread that
//! syncs it for all who wait (ha-raft §1.3).
//!
//! Because there is a single write-ahead log, what is durable is always a prefix of what was
//! written: a later sync covers every earlier write, whatever column it went to.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message;
use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode, Direction, IteratorMode, Options, WriteBatch};
use tokio::sync::oneshot;

use crate::codec::{self, Corrupt};
use crate::proto as pb;
use crate::types::{Entry, LogId, Types, Vote};

const LOG: &str = "log";
const META: &str = "meta";
pub(crate) const SNAPSHOT: &str = "snapshot";

const VOTE: &[u8] = b"vote";
const COMMITTED: &[u8] = b"committed";
const PURGED: &[u8] = b"purged";
const SCHEMA: &[u8] = b"schema";

/// The layout of the keys. A directory of a newer layout is refused.
const LAYOUT: u32 = 1;

/// One append to a follower carries at most about this many bytes: a quarter of what the peers'
/// transport accepts in one message.
const APPEND_BYTES: usize = 4 << 20;

/// A database that several tasks share.
pub(crate) type Db = Arc<DB>;

/// How writes are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// A thread of its own collects everybody who waits and syncs once for all of them.
    Grouped,
    /// Each write syncs at once, on the caller's thread: for simulated time, where a thread would
    /// run beside the clock.
    Inline,
}

/// The log of one replica.
#[derive(Clone)]
pub(crate) struct LogStore {
    db: Db,
    syncer: Syncer,
    /// The vote is read twice for every batch that is replicated.
    vote: Arc<Mutex<Option<Vote>>>,
}

#[derive(Clone)]
enum Syncer {
    Grouped(mpsc::Sender<Waiter>),
    Inline,
}

/// Somebody who waits for everything written so far to be durable.
enum Waiter {
    Append(IOFlushed<Types>),
    Task(oneshot::Sender<Result<(), Arc<io::Error>>>),
}

/// Opens the database of a replica, creating it when the directory is new.
pub(crate) fn open_db(path: &Path) -> io::Result<Db> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_atomic_flush(true);
    options.set_recycle_log_file_num(0);
    options.set_keep_log_file_num(2);
    options.set_max_open_files(256);
    // The log is small and short-lived; memory is worth more elsewhere.
    options.set_db_write_buffer_size(8 << 20);
    options.set_max_total_wal_size(64 << 20);
    let columns = [LOG, META, SNAPSHOT].map(|name| {
        let mut options = Options::default();
        options.set_write_buffer_size(4 << 20);
        ColumnFamilyDescriptor::new(name, options)
    });
    let db = DB::open_cf_descriptors(&options, path, columns).map_err(other)?;
    // The directory entry itself must survive a power loss.
    if let Some(parent) = path.parent() {
        std::fs::File::open(parent)?.sync_all()?;
    }
    let db = Arc::new(db);
    match get(&db, META, SCHEMA)? {
        None => put(&db, META, SCHEMA, &LAYOUT.to_be_bytes())?,
        Some(bytes) if bytes == LAYOUT.to_be_bytes() => {}
        Some(bytes) => {
            return Err(Corrupt(format!(
                "the data directory has layout {bytes:?}, and this program knows layout {LAYOUT}: use the program that wrote it"
            ))
            .into());
        }
    }
    Ok(db)
}

/// Reads one value.
pub(crate) fn get(db: &Db, column: &str, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    db.get_cf(&cf(db, column), key).map_err(other)
}

/// Writes one value and makes it durable before it returns. Blocks.
pub(crate) fn put(db: &Db, column: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
    db.put_cf(&cf(db, column), key, value).map_err(other)?;
    db.flush_wal(true).map_err(other)
}

/// Reads a value of the `meta` column, for what other files keep there.
pub(crate) fn get_meta(db: &Db, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    get(db, META, key)
}

/// Writes a value of the `meta` column durably.
pub(crate) fn put_meta(db: &Db, key: &[u8], value: &[u8]) -> io::Result<()> {
    put(db, META, key, value)
}

fn cf<'a>(db: &'a Db, name: &str) -> &'a rocksdb::ColumnFamily {
    db.cf_handle(name).expect("`open_db` creates every column")
}

fn other(error: rocksdb::Error) -> io::Error {
    io::Error::other(error)
}

impl LogStore {
    pub(crate) fn open(db: Db, sync: Sync) -> io::Result<Self> {
        let vote = match get(&db, META, VOTE)? {
            None => None,
            Some(bytes) => Some(codec::from_vote(codec::decode::<pb::Vote>(bytes)?)),
        };
        let syncer = match sync {
            Sync::Inline => Syncer::Inline,
            Sync::Grouped => {
                let (waiters, queue) = mpsc::channel();
                let db = db.clone();
                std::thread::Builder::new()
                    .name("wal-sync".into())
                    .spawn(move || sync_for_all(&db, &queue))?;
                Syncer::Grouped(waiters)
            }
        };
        Ok(Self { db, syncer, vote: Arc::new(Mutex::new(vote)) })
    }

    /// Writes without waiting for the disk.
    fn write(&self, batch: WriteBatch) -> io::Result<()> {
        self.db.write(batch).map_err(other)
    }

    /// Waits until everything written so far is durable.
    async fn sync(&self) -> io::Result<()> {
        match &self.syncer {
            Syncer::Inline => self.db.flush_wal(true).map_err(other),
            Syncer::Grouped(waiters) => {
                let (done, wait) = oneshot::channel();
                waiters.send(Waiter::Task(done)).map_err(|_| gone())?;
                wait.await.map_err(|_| gone())?.map_err(|error| io::Error::other(error.to_string()))
            }
        }
    }

    fn last(&self) -> io::Result<Option<LogId>> {
        match self.db.iterator_cf(cf(&self.db, LOG), IteratorMode::End).next() {
            None => Ok(None),
            Some(found) => {
                let (_, value) = found.map_err(other)?;
                Ok(Some(codec::from_entry(codec::decode::<pb::Entry>(Bytes::from(value))?)?.log_id))
            }
        }
    }

    fn purged(&self) -> io::Result<Option<LogId>> {
        match get(&self.db, META, PURGED)? {
            None => Ok(None),
            Some(bytes) => Ok(Some(codec::from_log_id(codec::decode::<pb::LogId>(bytes)?))),
        }
    }

    /// Entries from `start` (inclusive) to `end` (exclusive), at most about `limit` bytes of them,
    /// but one at least.
    fn read(&self, start: u64, end: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let from = start.to_be_bytes();
        let mut entries = Vec::new();
        let mut bytes = 0;
        for found in self.db.iterator_cf(cf(&self.db, LOG), IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = found.map_err(other)?;
            if *key >= end.to_be_bytes()[..] || (bytes > 0 && bytes + value.len() > limit) {
                break;
            }
            bytes += value.len();
            entries.push(codec::from_entry(codec::decode::<pb::Entry>(Bytes::from(value))?)?);
        }
        Ok(entries)
    }
}

/// Serves everybody who waits, with as few syncs as the disk allows.
fn sync_for_all(db: &Db, queue: &mpsc::Receiver<Waiter>) {
    while let Ok(first) = queue.recv() {
        let mut waiters = vec![first];
        waiters.extend(queue.try_iter());
        let result = db.flush_wal(true).map_err(|error| Arc::new(other(error)));
        for waiter in waiters {
            match waiter {
                Waiter::Append(callback) => callback.io_completed(
                    result.as_ref().copied().map_err(|error| io::Error::other(error.to_string())),
                ),
                Waiter::Task(done) => {
                    // The waiter may have gone; the sync stands all the same.
                    let _ = done.send(result.clone());
                }
            }
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that syncs the log has stopped")
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, APPEND_BYTES)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(*self.vote.lock().expect("nobody panics while holding the vote"))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let purged = self.purged()?;
        Ok(LogState { last_purged_log_id: purged, last_log_id: self.last()?.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let mut batch = WriteBatch::default();
        batch.put_cf(cf(&self.db, META), VOTE, codec::vote(vote).encode_to_vec());
        self.write(batch)?;
        self.sync().await?;
        *self.vote.lock().expect("nobody panics while holding the vote") = Some(*vote);
        Ok(())
    }

    /// Not synced: a lost one only means that fewer entries are applied before the first read.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut batch = WriteBatch::default();
        match committed {
            Some(id) => batch.put_cf(cf(&self.db, META), COMMITTED, codec::log_id(&id).encode_to_vec()),
            None => batch.delete_cf(cf(&self.db, META), COMMITTED),
        }
        self.write(batch)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        match get(&self.db, META, COMMITTED)? {
            None => Ok(None),
            Some(bytes) => Ok(Some(codec::from_log_id(codec::decode::<pb::LogId>(bytes)?))),
        }
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = WriteBatch::default();
        for entry in entries {
            let key = entry.log_id.index.to_be_bytes();
            batch.put_cf(cf(&self.db, LOG), key, codec::entry(&entry).encode_to_vec());
        }
        self.write(batch)?;
        match &self.syncer {
            Syncer::Inline => callback.io_completed(self.db.flush_wal(true).map_err(other)),
            Syncer::Grouped(waiters) => waiters.send(Waiter::Append(callback)).map_err(|_| gone())?,
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1).to_be_bytes();
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(cf(&self.db, LOG), from, u64::MAX.to_be_bytes());
        self.write(batch)?;
        self.sync().await
    }

    /// Not synced: the write-ahead log keeps it before whatever is synced next.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let mut batch = WriteBatch::default();
        batch.put_cf(cf(&self.db, META), PURGED, codec::log_id(&upto).encode_to_vec());
        batch.delete_range_cf(cf(&self.db, LOG), 0u64.to_be_bytes(), (upto.index + 1).to_be_bytes());
        self.write(batch)
    }
}

#[cfg(test)]
mod tests;
