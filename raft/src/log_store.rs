//! The log and the vote on disk, and the thread that syncs them in groups.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::failpoints::{Protection, is_left_out};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prost::Message;
use tokio::sync::oneshot;

use crate::meta::{COMMITTED, PURGED, VOTE};
use crate::store::{Batch, Db, LOG, META};
use crate::types::{Entry, LogId, Types, Vote};
use crate::{codec, proto as pb, rng};

/// One append to a follower carries at most about this many bytes: a quarter of what the peers'
/// transport accepts in one message.
const APPEND_BYTES: usize = 4 << 20;

/// How soon it is noted how far the log was synced.
const NOTE_WITHIN: Duration = Duration::from_millis(50);

/// How writes are made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// A thread of its own collects everybody who waits and syncs once for all of them.
    Grouped,
    /// Each write syncs at once, on the caller's thread.
    Inline,
    /// A task does what the thread would, and takes as long as a disk would: for simulated time, where
    /// a thread would run beside the clock.
    Simulated,
}

/// The log of one replica.
#[derive(Clone)]
pub(crate) struct LogStore {
    db: Db,
    syncer: Syncer,
    /// The vote is read twice for every batch that is replicated.
    vote: Arc<Mutex<Option<Vote>>>,
    unwritten: Unwritten,
    sync_seconds: Histogram,
    last: LastIndex,
    synced: LastIndex,
}

/// The index of the last entry of a log, or of the last that was removed from it behind a snapshot.
#[derive(Clone, Default)]
pub(crate) struct LastIndex(Arc<AtomicU64>);

impl LastIndex {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, index: u64) {
        self.0.store(index, Ordering::SeqCst);
    }
}

/// How far is committed, when that is not written yet: the next write of anything takes it along.
#[derive(Clone, Default)]
struct Unwritten(Arc<Mutex<Option<LogId>>>);

impl Unwritten {
    fn lock(&self) -> MutexGuard<'_, Option<LogId>> {
        self.0.lock().expect("nobody panics while holding how far is committed")
    }

    fn take_along(&self, batch: &mut Batch) {
        if let Some(id) = self.lock().take() {
            batch.put(META, COMMITTED, codec::log_id(&id).encode_to_vec());
        }
    }

    fn write(&self, db: &Db) -> io::Result<()> {
        let mut batch = Batch::default();
        self.take_along(&mut batch);
        if batch.is_empty() { Ok(()) } else { db.write(batch) }
    }
}

#[derive(Clone)]
enum Syncer {
    Grouped(mpsc::Sender<Waiter>),
    Inline,
    Simulated(tokio::sync::mpsc::UnboundedSender<Waiter>),
}

/// Somebody who waits for everything written so far to be durable.
enum Waiter {
    /// Of entries up to this one.
    Append(IOFlushed<Types>, u64),
    Task(oneshot::Sender<Result<(), Arc<io::Error>>>),
}

impl LogStore {
    pub(crate) fn open(db: Db, sync: Sync) -> io::Result<Self> {
        let vote = match db.get(META, VOTE)? {
            None => None,
            Some(bytes) => Some(codec::from_vote(codec::decode::<pb::Vote>(bytes)?)),
        };
        let (unwritten, synced) = (Unwritten::default(), LastIndex::default());
        // From 50 µs to 1.6 s.
        let sync_seconds = Histogram::new(exponential_buckets(0.000_05, 2.0, 16));
        let syncer = match sync {
            Sync::Inline => Syncer::Inline,
            Sync::Grouped => {
                let (waiters, queue) = mpsc::channel();
                let (db, unwritten, seconds) = (db.clone(), unwritten.clone(), sync_seconds.clone());
                let synced = synced.clone();
                std::thread::Builder::new()
                    .name("wal-sync".into())
                    .spawn(move || sync_for_all(&db, &unwritten, &queue, &seconds, &synced))?;
                Syncer::Grouped(waiters)
            }
            Sync::Simulated => {
                let (waiters, queue) = tokio::sync::mpsc::unbounded_channel();
                tokio::spawn(sync_in_simulated_time(db.clone(), queue, synced.clone()));
                Syncer::Simulated(waiters)
            }
        };
        let vote = Arc::new(Mutex::new(vote));
        let last = LastIndex::default();
        let store = Self { db, syncer, vote, unwritten, sync_seconds, last, synced };
        let last = store.last()?.max(store.purged()?);
        store.last.set(last.map_or(0, |id| id.index));
        Ok(store)
    }

    /// The index of the last entry that was durable when this replica appended it, since its start.
    pub(crate) fn synced_index(&self) -> LastIndex {
        self.synced.clone()
    }

    /// The index of the last entry, at every time.
    pub(crate) fn last_index(&self) -> LastIndex {
        self.last.clone()
    }

    /// The durations of syncs, if a thread does them.
    pub(crate) fn sync_seconds(&self) -> Histogram {
        self.sync_seconds.clone()
    }

    /// Waits until everything written so far is durable.
    async fn sync(&self) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        match &self.syncer {
            Syncer::Inline => return self.db.sync().and_then(|()| self.db.note()),
            Syncer::Grouped(waiters) => waiters.send(Waiter::Task(done)).map_err(|_| gone())?,
            Syncer::Simulated(waiters) => waiters.send(Waiter::Task(done)).map_err(|_| gone())?,
        }
        wait.await.map_err(|_| gone())?.map_err(|error| io::Error::other(error.to_string()))
    }

    fn last(&self) -> io::Result<Option<LogId>> {
        match self.db.last(LOG)? {
            None => Ok(None),
            Some((_, value)) => {
                Ok(Some(codec::from_entry(codec::decode::<pb::Entry>(Bytes::from(value))?)?.log_id))
            }
        }
    }

    fn purged(&self) -> io::Result<Option<LogId>> {
        match self.db.get(META, PURGED)? {
            None => Ok(None),
            Some(bytes) => Ok(Some(codec::from_log_id(codec::decode::<pb::LogId>(bytes)?))),
        }
    }

    /// Entries from `start` (inclusive) to `end` (exclusive), at most about `limit` bytes of them,
    /// but one at least.
    fn read(&self, start: u64, end: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let end = end.to_be_bytes();
        let mut entries = Vec::new();
        let mut bytes = 0;
        self.db.scan(LOG, &start.to_be_bytes(), &mut |key, value| {
            if *key >= end[..] || (bytes > 0 && bytes + value.len() > limit) {
                return Ok(ControlFlow::Break(()));
            }
            bytes += value.len();
            entries.push(codec::from_entry(codec::decode::<pb::Entry>(Bytes::from(value))?)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(entries)
    }
}

/// Serves everybody who waits, with as few syncs as the disk allows.
fn sync_for_all(
    db: &Db,
    unwritten: &Unwritten,
    queue: &mpsc::Receiver<Waiter>,
    seconds: &Histogram,
    durable: &LastIndex,
) {
    // Since when it is not noted how far the log was synced.
    let mut unnoted: Option<Instant> = None;
    loop {
        let first = match unnoted {
            None => queue.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            Some(since) => queue.recv_timeout(NOTE_WITHIN.saturating_sub(since.elapsed())),
        };
        match first {
            Ok(first) => {
                let mut waiters = vec![first];
                waiters.extend(queue.try_iter());
                let began = Instant::now();
                let synced = db.sync();
                seconds.observe(began.elapsed().as_secs_f64());
                serve(waiters, synced, durable);
                unnoted = unnoted.or_else(|| Some(Instant::now()));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                note(db, unwritten);
                return;
            }
        }
        if unnoted.is_some_and(|since| since.elapsed() >= NOTE_WITHIN) {
            note(db, unwritten);
            unnoted = None;
        }
    }
}

fn note(db: &Db, unwritten: &Unwritten) {
    // The disk fails: the next sync says so to those who wait for it.
    if let Err(error) = unwritten.write(db).and_then(|()| db.note()) {
        tracing::warn!(%error, "the position of the last sync could not be recorded");
    }
}

/// The same, in simulated time. What was written while the disk was busy waits for the next sync.
async fn sync_in_simulated_time(
    db: Db,
    mut queue: tokio::sync::mpsc::UnboundedReceiver<Waiter>,
    durable: LastIndex,
) {
    while let Some(first) = queue.recv().await {
        let mut waiters = vec![first];
        while let Ok(more) = queue.try_recv() {
            waiters.push(more);
        }
        tokio::time::sleep(Duration::from_micros(rng::between(100, 3000))).await;
        serve(waiters, db.sync(), &durable);
    }
}

fn serve(waiters: Vec<Waiter>, synced: io::Result<()>, durable: &LastIndex) {
    let result = synced.map_err(Arc::new);
    for waiter in waiters {
        match waiter {
            Waiter::Append(callback, last) => {
                if result.is_ok() {
                    durable.set(last);
                }
                let result = result.as_ref().copied();
                callback.io_completed(result.map_err(|error| io::Error::other(error.to_string())));
            }
            Waiter::Task(done) => {
                // The waiter may have gone; the sync stands all the same.
                let _ = done.send(result.clone());
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
        let mut batch = Batch::default();
        batch.put(META, VOTE, codec::vote(vote).encode_to_vec());
        self.db.write(batch)?;
        if !is_left_out(Protection::VoteSync) {
            self.sync().await?;
        }
        *self.vote.lock().expect("nobody panics while holding the vote") = Some(*vote);
        Ok(())
    }

    /// Not synced: a lost one only means that fewer entries are applied before the first read.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // After every write comes a sync, and soon after that a note.
        if let Syncer::Grouped(_) = self.syncer {
            *self.unwritten.lock() = committed;
            return Ok(());
        }
        let mut batch = Batch::default();
        match committed {
            Some(id) => batch.put(META, COMMITTED, codec::log_id(&id).encode_to_vec()),
            None => batch.delete(META, COMMITTED),
        }
        self.db.write(batch)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        if let Some(id) = *self.unwritten.lock() {
            return Ok(Some(id));
        }
        match self.db.get(META, COMMITTED)? {
            None => Ok(None),
            Some(bytes) => Ok(Some(codec::from_log_id(codec::decode::<pb::LogId>(bytes)?))),
        }
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = Batch::default();
        let mut last = self.last.get();
        for entry in entries {
            last = last.max(entry.log_id.index);
            let key = entry.log_id.index.to_be_bytes();
            batch.put(LOG, &key, codec::entry(&entry).encode_to_vec());
        }
        self.unwritten.take_along(&mut batch);
        self.db.write(batch)?;
        self.last.set(last);
        match &self.syncer {
            Syncer::Inline => {
                let synced = self.db.sync().and_then(|()| self.db.note());
                serve(vec![Waiter::Append(callback, last)], synced, &self.synced);
            }
            Syncer::Grouped(waiters) => {
                waiters.send(Waiter::Append(callback, last)).map_err(|_| gone())?;
            }
            Syncer::Simulated(waiters) => {
                waiters.send(Waiter::Append(callback, last)).map_err(|_| gone())?;
            }
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1).to_be_bytes();
        let mut batch = Batch::default();
        batch.delete_range(LOG, &from, &u64::MAX.to_be_bytes());
        self.db.write(batch)?;
        let last = last.map_or(0, |last| last.index);
        self.last.set(last);
        self.sync().await?;
        // What was appended before has been served by now.
        self.synced.set(self.synced.get().min(last));
        Ok(())
    }

    /// Not synced: the write-ahead log keeps it before whatever is synced next.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let mut batch = Batch::default();
        batch.put(META, PURGED, codec::log_id(&upto).encode_to_vec());
        batch.delete_range(LOG, &0u64.to_be_bytes(), &(upto.index + 1).to_be_bytes());
        self.db.write(batch)?;
        self.last.set(self.last.get().max(upto.index));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
