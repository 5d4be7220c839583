//! The storage of a replica: columns of sorted keys, written in batches, made durable by a sync.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode, Direction, IteratorMode, Options, WriteBatch};

use crate::rng;

/// Every column there is.
pub(crate) const LOG: &str = "log";
pub(crate) const META: &str = "meta";
pub(crate) const SNAPSHOT: &str = "snapshot";
const COLUMNS: [&str; 3] = [LOG, META, SNAPSHOT];

/// A store that several tasks share.
pub(crate) type Db = Arc<dyn Store>;

/// The visitor of a range: gets a key and its value; `Break` ends the iteration.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], Vec<u8>) -> io::Result<ControlFlow<()>>;

/// Sorted keys on a disk, or on what stands for one.
///
/// There is one write-ahead log for all columns, so what is durable is always a prefix of what was
/// written: a later sync covers every earlier write, whatever column it went to.
pub(crate) trait Store: Send + Sync {
    fn get(&self, column: &str, key: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// All of it or nothing; durable after the next sync.
    fn write(&self, batch: Batch) -> io::Result<()>;
    /// Makes everything durable that was written before. Blocks.
    fn sync(&self) -> io::Result<()>;
    /// Records how far it was made durable, so that a loss is detected at the next start. Cheap, but not
    /// free: it changes an inode, which a later sync of the log writes too.
    fn note(&self) -> io::Result<()>;
    /// Shows the keys from `from` on, in order.
    fn scan(&self, column: &str, from: &[u8], visit: Visit<'_>) -> io::Result<()>;
    /// The last key and its value.
    fn last(&self, column: &str) -> io::Result<Option<(Vec<u8>, Vec<u8>)>>;
    /// Whether reading and writing take the time of the caller's thread.
    fn blocks(&self) -> bool;
    /// Dead as soon as the store is closed.
    fn is_open(&self) -> Weak<()>;
}

/// Changes that belong together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch(Vec<Op>);

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Put(&'static str, Vec<u8>, Vec<u8>),
    Delete(&'static str, Vec<u8>),
    /// From the first, inclusive, to the second, exclusive.
    DeleteRange(&'static str, Vec<u8>, Vec<u8>),
}

impl IntoIterator for Batch {
    type Item = Op;
    type IntoIter = std::vec::IntoIter<Op>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Op> for Batch {
    fn from_iter<I: IntoIterator<Item = Op>>(ops: I) -> Self {
        Self(ops.into_iter().collect())
    }
}

impl Batch {
    pub(crate) fn put(&mut self, column: &'static str, key: &[u8], value: Vec<u8>) {
        self.0.push(Op::Put(column, key.to_vec(), value));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn delete(&mut self, column: &'static str, key: &[u8]) {
        self.0.push(Op::Delete(column, key.to_vec()));
    }

    pub(crate) fn delete_range(&mut self, column: &'static str, from: &[u8], to: &[u8]) {
        self.0.push(Op::DeleteRange(column, from.to_vec(), to.to_vec()));
    }
}

/// RocksDB in a directory.
pub(crate) struct Rocks {
    db: DB,
    watermark: Watermark,
    /// Dropped after the database, which closes meanwhile.
    open: Arc<()>,
}

/// The number of the last write that was made durable, beside the database.
///
/// A write-ahead log that is damaged reads like one that a crash cut short: RocksDB opens with what is
/// before the damage. This tells the two apart, for nothing that was synced may be missing. It is written
/// after syncs and not synced itself: after a crash it may be older than the log, never newer.
struct Watermark {
    file: std::fs::File,
    /// What is to be written next.
    synced: AtomicU64,
}

impl Watermark {
    const FILE: &str = "SYNCED";

    /// Opens the one of a database that has everything up to `last`.
    fn open(path: &Path, last: u64) -> io::Result<Self> {
        let file = std::fs::File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join(Self::FILE))?;
        let mut bytes = [0; 16];
        // A truncated or invalid file after a power failure says nothing.
        let read = file.read_at(&mut bytes, 0)?;
        let (number, check) = bytes.split_at(8);
        let [number, check] =
            [number, check].map(|it| u64::from_le_bytes(it.try_into().expect("eight bytes")));
        let number = if read == bytes.len() && check == !number { number } else { 0 };
        if number > last {
            let why =
                format!("write {number} was made durable, and the log on the disk ends with write {last}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Self { file, synced: AtomicU64::new(number) })
    }

    fn write(&self) -> io::Result<()> {
        let number = self.synced.load(Ordering::Acquire);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..].copy_from_slice(&(!number).to_le_bytes());
        self.file.write_all_at(&bytes, 0)
    }
}

/// Whether another database has the lock: RocksDB says so in words only.
fn is_locked(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("lock hold by current process") || text.contains("While lock file")
}

impl Rocks {
    /// Opens the database, creating it when the directory is new.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // What a crash left half written is dropped, and everything behind it; see `Watermark`.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_atomic_flush(true);
        options.set_recycle_log_file_num(0);
        options.set_keep_log_file_num(2);
        options.set_max_open_files(256);
        // The log is small and short-lived; memory is worth more elsewhere.
        options.set_db_write_buffer_size(8 << 20);
        options.set_max_total_wal_size(64 << 20);
        let columns = COLUMNS.map(|name| {
            let mut options = Options::default();
            options.set_write_buffer_size(4 << 20);
            ColumnFamilyDescriptor::new(name, options)
        });
        let db = DB::open_cf_descriptors(&options, path, columns).map_err(|error| match failed(error) {
            error if is_locked(&error) => io::Error::new(io::ErrorKind::WouldBlock, error),
            error => error,
        })?;
        let watermark = Watermark::open(path, db.latest_sequence_number())?;
        // The directory entry itself must survive a power loss.
        if let Some(parent) = path.parent() {
            std::fs::File::open(parent)?.sync_all()?;
        }
        Ok(Self { db, watermark, open: Arc::default() })
    }

    fn column(&self, name: &str) -> &rocksdb::ColumnFamily {
        self.db.cf_handle(name).expect("`open` creates every column")
    }
}

impl Store for Rocks {
    fn get(&self, column: &str, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.db.get_cf(self.column(column), key).map_err(failed)
    }

    fn write(&self, batch: Batch) -> io::Result<()> {
        let mut writes = WriteBatch::default();
        for op in batch.0 {
            match op {
                Op::Put(column, key, value) => writes.put_cf(self.column(column), key, value),
                Op::Delete(column, key) => writes.delete_cf(self.column(column), key),
                Op::DeleteRange(column, from, to) => writes.delete_range_cf(self.column(column), from, to),
            }
        }
        self.db.write(writes).map_err(failed)
    }

    fn sync(&self) -> io::Result<()> {
        let last = self.db.latest_sequence_number();
        self.db.flush_wal(true).map_err(failed)?;
        self.watermark.synced.fetch_max(last, Ordering::Release);
        Ok(())
    }

    fn note(&self) -> io::Result<()> {
        self.watermark.write()
    }

    fn scan(&self, column: &str, from: &[u8], visit: Visit<'_>) -> io::Result<()> {
        let mode = IteratorMode::From(from, Direction::Forward);
        for found in self.db.iterator_cf(self.column(column), mode) {
            let (key, value) = found.map_err(failed)?;
            if visit(&key, value.into_vec())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, column: &str) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let last = self.db.iterator_cf(self.column(column), IteratorMode::End).next();
        last.transpose().map(|found| found.map(|(key, value)| (key.into(), value.into()))).map_err(failed)
    }

    fn blocks(&self) -> bool {
        true
    }

    fn is_open(&self) -> Weak<()> {
        Arc::downgrade(&self.open)
    }
}

/// What is damaged says so by its kind.
fn failed(error: rocksdb::Error) -> io::Error {
    let kind = match error.kind() {
        rocksdb::ErrorKind::Corruption => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

type Columns = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

/// A disk in memory, for simulated time. What was written and not synced may be lost with the power.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    durable: Columns,
    /// Written, not synced, in order.
    pending: Vec<Batch>,
    current: Columns,
    /// Whoever opened it before the power was cut holds a dead handle.
    epoch: u64,
    opened: bool,
    /// After so many more writes and syncs the power goes by itself.
    fails_after: Option<u64>,
    failed: bool,
    /// How many writes and syncs there were.
    operations: u64,
}

/// A memory disk as one process has it open.
pub(crate) struct Opened {
    disk: MemoryDisk,
    epoch: u64,
}

impl MemoryDisk {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().expect("nobody panics while holding the disk")
    }

    /// Simulates a power failure: open handles become invalid. Of the `n` writes that were not synced, the
    /// first `keep(n)` survive.
    pub fn cut_power(&self, keep: impl FnOnce(usize) -> usize) {
        self.contents().cut_power(keep);
    }

    /// What is durable on it, as a snapshot of the machine has it.
    pub fn copy(&self) -> MemoryDisk {
        let durable = self.contents().durable.clone();
        MemoryDisk(Arc::new(Mutex::new(Contents {
            current: durable.clone(),
            durable,
            ..Contents::default()
        })))
    }

    /// Puts an earlier copy of it in its place, after the power was cut.
    pub fn set_back(&self, copy: &MemoryDisk) {
        let durable = copy.contents().durable.clone();
        let mut contents = self.contents();
        contents.current = durable.clone();
        contents.durable = durable;
    }

    /// Lets the power go by itself, right before the write or sync that comes after so many others.
    pub fn fail_after(&self, operations: u64) {
        self.contents().fails_after = Some(operations);
    }

    /// How many writes and syncs there were so far.
    pub fn operations(&self) -> u64 {
        self.contents().operations
    }

    /// Takes back what [`MemoryDisk::fail_after`] asked.
    pub fn hold(&self) {
        self.contents().fails_after = None;
    }

    /// Whether the power went by itself since this was last asked.
    pub fn has_failed(&self) -> bool {
        std::mem::take(&mut self.contents().failed)
    }

    pub(crate) fn open(&self) -> io::Result<Opened> {
        let mut contents = self.contents();
        if std::mem::replace(&mut contents.opened, true) {
            return Err(io::Error::other("another process has it open"));
        }
        let epoch = contents.epoch;
        drop(contents);
        Ok(Opened { disk: self.clone(), epoch })
    }
}

impl Contents {
    fn cut_power(&mut self, keep: impl FnOnce(usize) -> usize) {
        let pending = std::mem::take(&mut self.pending);
        let survive = keep(pending.len()).min(pending.len());
        for batch in pending.into_iter().take(survive) {
            apply(&mut self.durable, batch);
        }
        self.current = self.durable.clone();
        self.epoch += 1;
        self.opened = false;
        self.fails_after = None;
    }
}

fn apply(columns: &mut Columns, batch: Batch) {
    for op in batch.0 {
        match op {
            Op::Put(column, key, value) => drop(columns.entry(column).or_default().insert(key, value)),
            Op::Delete(column, key) => drop(columns.entry(column).or_default().remove(&key)),
            Op::DeleteRange(column, from, to) => {
                columns.entry(column).or_default().retain(|key, _| *key < from || *key >= to);
            }
        }
    }
}

impl Opened {
    fn contents(&self) -> io::Result<MutexGuard<'_, Contents>> {
        let contents = self.disk.contents();
        if contents.epoch == self.epoch { Ok(contents) } else { Err(io::Error::other("the power is cut")) }
    }

    /// The contents for a write or a sync, unless it is the one before which the power goes.
    fn contents_to_change(&self) -> io::Result<MutexGuard<'_, Contents>> {
        let mut contents = self.contents()?;
        match contents.fails_after {
            Some(0) => {
                contents.cut_power(|pending| rng::between(0, pending as u64) as usize);
                contents.failed = true;
                return Err(io::Error::other("the power went"));
            }
            Some(left) => contents.fails_after = Some(left - 1),
            None => {}
        }
        contents.operations += 1;
        Ok(contents)
    }
}

impl Store for Opened {
    fn get(&self, column: &str, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.contents()?.current.get(column).and_then(|keys| keys.get(key)).cloned())
    }

    fn write(&self, batch: Batch) -> io::Result<()> {
        let mut contents = self.contents_to_change()?;
        apply(&mut contents.current, batch.clone());
        contents.pending.push(batch);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut contents = self.contents_to_change()?;
        for batch in std::mem::take(&mut contents.pending) {
            apply(&mut contents.durable, batch);
        }
        Ok(())
    }

    /// Nothing is damaged here.
    fn note(&self) -> io::Result<()> {
        Ok(())
    }

    fn scan(&self, column: &str, from: &[u8], visit: Visit<'_>) -> io::Result<()> {
        let contents = self.contents()?;
        let Some(keys) = contents.current.get(column) else { return Ok(()) };
        for (key, value) in keys.range(from.to_vec()..) {
            if visit(key, value.clone())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, column: &str) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let contents = self.contents()?;
        Ok(contents
            .current
            .get(column)
            .and_then(|keys| keys.last_key_value())
            .map(|(key, value)| (key.clone(), value.clone())))
    }

    fn blocks(&self) -> bool {
        false
    }

    fn is_open(&self) -> Weak<()> {
        Weak::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_disk_loses_a_suffix_of_what_was_not_synced_and_nothing_else() {
        let disk = MemoryDisk::default();
        let store = disk.open().expect("it is free");
        assert!(disk.open().is_err(), "it is open already");
        let put = |store: &Opened, key: u8| {
            let mut batch = Batch::default();
            batch.put(LOG, &[key], vec![key]);
            store.write(batch).expect("it is written");
        };
        (1..=2).for_each(|key| put(&store, key));
        store.sync().expect("it is synced");
        (3..=5).for_each(|key| put(&store, key));
        disk.cut_power(|pending| pending - 2);
        assert!(store.get(LOG, &[1]).is_err(), "the handle is dead");
        let store = disk.open().expect("it is free again");
        let mut keys = Vec::new();
        store
            .scan(LOG, &[2], &mut |key, _| {
                keys.extend_from_slice(key);
                Ok(ControlFlow::Continue(()))
            })
            .expect("it is read");
        assert_eq!(keys, [2, 3]);
        assert_eq!(store.last(LOG).expect("it is read"), Some((vec![3], vec![3])));
        // A power that goes by itself, before the second of two syncs.
        disk.fail_after(3);
        put(&store, 6);
        store.sync().expect("the power is there");
        put(&store, 7);
        assert!(store.sync().is_err() && disk.has_failed() && !disk.has_failed());
        assert!(store.last(LOG).is_err(), "the handle is dead");
        let store = disk.open().expect("it is free again");
        let last = store.last(LOG).expect("it is read").expect("there are keys").0[0];
        assert!([6, 7].contains(&last), "{last}");
    }
}
