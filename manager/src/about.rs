//! What a manager knows of itself and of its machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use api::proto as pb;
use raft::Replica;

use crate::metrics::Metrics;

/// A manager, its disk and its certificate.
#[derive(Clone)]
pub(crate) struct About {
    data_dir: Arc<Path>,
    started_ms: u64,
    replica: Replica,
    metrics: Metrics,
}

impl About {
    /// Of a manager that starts now.
    pub(crate) fn new(data_dir: PathBuf, replica: Replica, metrics: Metrics) -> Self {
        let started_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Self { data_dir: data_dir.into(), started_ms, replica, metrics }
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// What is so now. It looks at the disk.
    pub(crate) async fn describe(&self) -> pb::NodeDetails {
        let dir = Arc::clone(&self.data_dir);
        let disk = tokio::task::spawn_blocking(move || {
            let space = rustix::fs::statvfs(&*dir).ok();
            let of = |blocks: u64| space.as_ref().map(|it| blocks * it.f_frsize);
            (
                bytes_below(&dir),
                space.as_ref().and_then(|it| of(it.f_blocks)),
                space.as_ref().and_then(|it| of(it.f_bavail)),
            )
        });
        let (data_bytes, disk_bytes, disk_free_bytes) = disk.await.unwrap_or_default();
        let log = self.replica.metrics();
        pb::NodeDetails {
            node: self.replica.identity().node.0,
            started_ms: self.started_ms,
            certificate_ends_ms: self.metrics.certificate_ends().map(|seconds| seconds * 1000),
            data_dir: self.data_dir.display().to_string(),
            data_bytes,
            disk_bytes,
            disk_free_bytes,
            log_last: log.last,
            log_applied: self.replica.published().index.0,
            log_snapshot: log.snapshot,
        }
    }
}

/// The size of all files below a directory; what vanishes meanwhile counts as nothing.
fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(it) if it.is_dir() => bytes_below(&entry.path()),
            Ok(it) => it.len(),
            Err(_) => 0,
        })
        .sum()
}
