use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;

use super::*;
use crate::divergence::Digests;
use crate::machine::Machine;
use crate::meta::{SCHEMA, prepare, put};
use crate::store::Rocks;
use crate::types::Types;

fn open_db(path: &std::path::Path) -> io::Result<Db> {
    let db: Db = Arc::new(Rocks::open(path)?);
    prepare(&db)?;
    Ok(db)
}

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let db = open_db(&dir.path().join("db")).expect("a new database");
        let store = LogStore::open(db.clone(), Sync::Grouped).expect("a new log");
        let machine = Machine::open(db, Digests::default()).expect("a new machine").0;
        Ok((dir, store, machine))
    }
}

/// openraft's own suite for log stores and state machines.
#[tokio::test(flavor = "multi_thread")]
async fn the_store_passes_openrafts_suite() {
    Suite::test_all(Builder).await.expect("the suite passes");
    Suite::transfer_snapshot(&Builder).await.expect("a snapshot can be carried over");
}

fn entry(index: u64, bytes: usize) -> Entry {
    Entry {
        log_id: LogId::new_term_index(1, index),
        payload: openraft::EntryPayload::Normal(crate::types::Encoded(Bytes::from(vec![7; bytes]))),
    }
}

async fn append(store: &mut LogStore, entries: Vec<Entry>) {
    let (done, wait) = Types::oneshot();
    store.append(entries, IOFlushed::signal(done)).await.expect("an append");
    wait.await.expect("the callback comes").expect("the sync succeeds");
}

#[tokio::test]
async fn one_read_for_a_follower_is_bounded_in_bytes_but_never_empty() {
    let (_dir, mut store, _) = Builder.build().await.expect("a store");
    append(&mut store, (1..=4).map(|index| entry(index, APPEND_BYTES / 2)).collect()).await;
    append(&mut store, vec![entry(5, APPEND_BYTES * 2)]).await;
    let indexes =
        |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.log_id.index).collect::<Vec<_>>();
    assert_eq!(indexes(store.limited_get_log_entries(1, 6).await.expect("a read")), [1]);
    assert_eq!(indexes(store.limited_get_log_entries(5, 6).await.expect("a read")), [5]);
    assert_eq!(indexes(store.try_get_log_entries(1..6).await.expect("a read")), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_store_is_opened_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("db");
    for sync in [Sync::Grouped, Sync::Inline] {
        let db = open_db(&path).expect("the database");
        let mut store = LogStore::open(db, sync).expect("the log");
        let before = store.get_log_state().await.expect("a state").last_log_id.map_or(0, |id| id.index);
        append(&mut store, vec![entry(before + 1, 10), entry(before + 2, 10)]).await;
        let vote = Vote::new_committed(before + 7, 3);
        store.save_vote(&vote).await.expect("a vote");
        drop(store);
        // The thread that syncs holds the database until its queue closes.
        let mut store = reopen(&path);
        assert_eq!(store.read_vote().await.expect("a vote"), Some(vote));
        assert_eq!(
            store.get_log_state().await.expect("a state").last_log_id.map(|id| id.index),
            Some(before + 2)
        );
    }
}

fn reopen(path: &std::path::Path) -> LogStore {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match open_db(path) {
            Ok(db) => return LogStore::open(db, Sync::Inline).expect("the log"),
            Err(error) => {
                assert!(std::time::Instant::now() < deadline, "the lock was not given back: {error}");
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_directory_of_a_newer_layout_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("db");
    let db = open_db(&path).expect("a new database");
    put(&db, META, SCHEMA, &99u32.to_be_bytes()).expect("a write");
    drop(db);
    let error = open_db(&path).map(drop).expect_err("it is newer");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
}

#[test]
fn a_second_process_cannot_open_the_same_directory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("db");
    let _first = open_db(&path).expect("a new database");
    assert!(open_db(&path).is_err());
}

/// The files of a store with eight synced entries, as a copy for each way of damaging the log behind them.
struct Damage {
    _original: TempDir,
    path: std::path::PathBuf,
    _store: LogStore,
}

impl Damage {
    async fn ready() -> Self {
        let original = tempfile::tempdir().expect("a temporary directory");
        let path = original.path().join("db");
        let mut store =
            LogStore::open(open_db(&path).expect("a new database"), Sync::Inline).expect("the log");
        for index in 1..=8 {
            append(&mut store, vec![entry(index, 100)]).await;
        }
        Self { _original: original, path, _store: store }
    }

    /// Opens a copy whose write-ahead log was changed: the index of its last entry.
    async fn opened_after(&self, change: impl FnOnce(&mut Vec<u8>), watermark: bool) -> io::Result<u64> {
        let copy = tempfile::tempdir().expect("a temporary directory");
        for file in std::fs::read_dir(&self.path).expect("a directory") {
            let file = file.expect("an entry");
            std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("a copy");
        }
        if !watermark {
            std::fs::remove_file(copy.path().join("SYNCED")).expect("it was there");
        }
        let wal = std::fs::read_dir(copy.path())
            .expect("a directory")
            .map(|file| file.expect("an entry").path())
            .find(|path| path.extension().is_some_and(|it| it == "log"))
            .expect("a write-ahead log");
        let mut bytes = std::fs::read(&wal).expect("it is read");
        change(&mut bytes);
        std::fs::write(&wal, bytes).expect("it is written");
        let mut store = LogStore::open(open_db(copy.path())?, Sync::Inline)?;
        let last = store.get_log_state().await.expect("a state").last_log_id;
        Ok(last.map_or(0, |id| id.index))
    }

    /// How long its write-ahead log is.
    async fn size(&self) -> usize {
        let mut size = 0;
        assert_eq!(self.opened_after(|bytes| size = bytes.len(), true).await.expect("it is whole"), 8);
        size
    }
}

#[tokio::test]
async fn a_log_that_a_power_cut_left_short_is_the_log_up_to_there() {
    let damage = Damage::ready().await;
    let size = damage.size().await;
    let mut before = 0;
    for cut in (0..size).step_by(37) {
        // What was never synced has no watermark either.
        let last = damage.opened_after(|bytes| bytes.truncate(cut), false).await.expect("a clean recovery");
        assert!((before..=8).contains(&last), "cut at {cut} of {size}: {last} after {before}");
        before = last;
    }
    assert_eq!(before, 7, "the last cut is within the last entry");
    // Space that was taken before it was used, and pages that came through in part.
    for tail in [0, 0xa5] {
        let extended = damage.opened_after(|bytes| bytes.resize(size + 5000, tail), true).await;
        assert_eq!(extended.expect("a clean recovery"), 8);
    }
}

#[tokio::test]
async fn a_log_that_lost_what_was_synced_is_not_opened() {
    let damage = Damage::ready().await;
    let size = damage.size().await;
    let refused = |what: String, opened: io::Result<u64>| {
        let error = opened.expect_err(&what);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}: {error}");
    };
    for at in 0..size {
        let opened = damage.opened_after(|bytes| bytes[at] ^= 0x10, true).await;
        refused(format!("byte {at} of {size} changed"), opened);
    }
    for cut in (0..size).step_by(31) {
        let opened = damage.opened_after(|bytes| bytes.truncate(cut), true).await;
        refused(format!("cut at {cut} of {size}"), opened);
    }
}

#[tokio::test]
async fn a_start_that_writes_nothing_forgets_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("db");
    let mut store = LogStore::open(open_db(&path).expect("a new database"), Sync::Grouped).expect("the log");
    append(&mut store, vec![entry(1, 10)]).await;
    drop(store);
    let watermark = || std::fs::read(path.join("SYNCED")).expect("it is there");
    drop(reopen(&path));
    let before = watermark();
    assert!(before.iter().take(8).any(|byte| *byte != 0), "{before:?}");
    let db = open_db(&path).expect("the database");
    drop(LogStore::open(db, Sync::Grouped).expect("the log"));
    // The thread that syncs ends with the store, and gives the database back.
    drop(reopen(&path));
    assert_eq!(watermark(), before);
}
