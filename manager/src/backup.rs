//! Backups in files, and the periodic backups of a manager.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use raft::{Backup, Key, Replica, Role};

use crate::clock::Clock;
use crate::keyfile;
use crate::metrics::Metrics;
use crate::private_file::save;

/// The default name of the key file, in the directory of the backups.
pub const KEY_FILE: &str = "backup.key";

/// The file name suffix of a backup.
const SUFFIX: &str = ".backup";

/// The periodic backups of a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The directory of the backups and of their encryption key.
    pub dir: PathBuf,
    /// The interval.
    pub every: Duration,
    /// How many backups are kept.
    pub keep: usize,
}

/// The key in this file; generated if there is none and `may_draw` is set.
pub fn key(path: &Path, may_draw: bool) -> io::Result<Key> {
    keyfile::key_in(path, may_draw)
}

/// A backup of the state of this replica.
pub(crate) fn take(replica: &Replica, clock: &Clock) -> Backup {
    let (Role::Leader { term } | Role::Other { term, .. }) = replica.metrics().role;
    Backup::of(replica.identity(), &replica.published(), &replica.events().0, term, clock.now())
}

/// Takes a backup at every interval if something has changed, and deletes the oldest.
pub(crate) async fn keep(schedule: Schedule, replica: Replica, clock: Clock, metrics: Metrics) {
    let mut states = replica.watch_state();
    // Before the bootstrap there is nothing to back up.
    if states.wait_for(|it| it.state.cluster.is_some()).await.is_err() {
        return;
    }
    // If the next backups fail, the age of the last one keeps growing.
    metrics.backed_up_before(newest(&schedule.dir));
    let mut kept = None;
    loop {
        let index = replica.published().index;
        if kept == Some(index) {
            metrics.backed_up();
        } else {
            let (backup, schedule) = (take(&replica, &clock), schedule.clone());
            let dir = schedule.dir.display().to_string();
            let index = backup.head.last.index;
            let written = tokio::task::spawn_blocking(move || write(&schedule, &backup)).await;
            match written.map_err(io::Error::other).and_then(|it| it) {
                Ok(path) => {
                    tracing::debug!(path = %path.display(), "a backup was taken");
                    metrics.backed_up();
                    kept = Some(index);
                }
                Err(error) => tracing::error!(%error, dir, "the backup failed; retrying"),
            }
        }
        tokio::time::sleep(schedule.every).await;
    }
}

/// The age of the newest backup of an earlier run of this manager.
fn newest(dir: &Path) -> Duration {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let ours = files.filter(|file| file.file_name().to_string_lossy().ends_with(SUFFIX));
    let ages = ours.filter_map(|file| file.metadata().ok()?.modified().ok()?.elapsed().ok());
    ages.min().unwrap_or_default()
}

fn write(schedule: &Schedule, backup: &Backup) -> io::Result<PathBuf> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&schedule.dir)?;
    let key = keyfile::key_in(&schedule.dir.join(KEY_FILE), true)?;
    let head = &backup.head;
    let stem = format!("{}-", head.cluster.short());
    let path = schedule.dir.join(format!("{stem}{:010}-{:012}{SUFFIX}", head.lineage, head.last.index));
    save(&path, &backup.seal(&key))?;
    let ours = |name: &String| name.starts_with(&stem) && name.ends_with(SUFFIX);
    let files = std::fs::read_dir(&schedule.dir)?;
    let mut names: Vec<String> =
        files.filter_map(|file| file.ok()?.file_name().into_string().ok()).filter(ours).collect();
    // By lineage and index: the numbers have leading zeros.
    names.sort();
    let surplus = names.len().saturating_sub(schedule.keep);
    for name in &names[..surplus] {
        std::fs::remove_file(schedule.dir.join(name))?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{NodeId, State, Term, Timestamp};
    use raft::{Identity, Published};

    use super::*;

    #[test]
    fn the_newest_are_kept_and_those_of_others_are_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let schedule = Schedule { dir: dir.path().join("backups"), every: Duration::from_secs(1), keep: 2 };
        let backup = |cluster: &str, lineage, index| {
            let identity = Identity { cluster: cluster.into(), lineage, node: NodeId(1) };
            let published = Published { state: Arc::new(State::default()), index };
            Backup::of(&identity, &published, &[], Term(1), Timestamp(1))
        };
        write(&schedule, &backup("another1", 1, model::LogIndex(1))).expect("it is written");
        for (lineage, index) in [(1, 9), (1, 10), (1_700_000_000, 2), (1_700_000_000, 100)] {
            write(&schedule, &backup("ourselves", lineage, model::LogIndex(index))).expect("it is written");
        }
        let mut names: Vec<String> = std::fs::read_dir(&schedule.dir)
            .expect("it is there")
            .filter_map(|it| it.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        let expected = [
            "another1-0000000001-000000000001.backup",
            "backup.key",
            "ourselve-1700000000-000000000002.backup",
            "ourselve-1700000000-000000000100.backup",
        ];
        assert_eq!(names, expected);
        let key = key(&schedule.dir.join(KEY_FILE), false).expect("it is there");
        let file = std::fs::read(schedule.dir.join(expected[3])).expect("it is there");
        assert_eq!(Backup::open(&file, &key).expect("it opens").head.last.index, model::LogIndex(100));
    }
}
