//! A stored snapshot: the whole state, what it covers, and a digest that detects damage.

use std::io;

use bytes::Bytes;
use prost::Message;

use crate::codec::{self, Corrupt};
use crate::store::{Db, SNAPSHOT};
use crate::types::{Snapshot, SnapshotMeta};
use crate::{meta, proto as pb};

pub(crate) const CURRENT: &[u8] = b"current";

/// Stores a snapshot in place of the one before, durably. Blocks.
pub(crate) fn store(db: &Db, snapshot: &Snapshot) -> io::Result<()> {
    meta::put(db, SNAPSHOT, CURRENT, &written(snapshot))
}

/// As it is stored.
pub(crate) fn written(snapshot: &Snapshot) -> Vec<u8> {
    let head = head(&snapshot.meta, &snapshot.snapshot);
    pb::SnapshotChunk { head: Some(head), data: snapshot.snapshot.clone() }.encode_to_vec()
}

/// Reads the stored snapshot. Damage is an error, never an empty state.
pub(crate) fn load(db: &Db) -> io::Result<Option<Snapshot>> {
    let Some(bytes) = db.get(SNAPSHOT, CURRENT)? else { return Ok(None) };
    let chunk = codec::decode::<pb::SnapshotChunk>(bytes)?;
    let data = chunk.data;
    let head = chunk.head.ok_or_else(|| Corrupt::missing("snapshot head"))?;
    check(&head, &data)?;
    Ok(Some(Snapshot { meta: meta(head)?, snapshot: data }))
}

/// What precedes the data of a snapshot, here and on the wire.
pub(crate) fn head(meta: &SnapshotMeta, data: &Bytes) -> pb::SnapshotHead {
    pb::SnapshotHead {
        header: None,
        vote: None,
        last_log_id: meta.last_log_id.as_ref().map(codec::log_id),
        membership: Some(codec::stored_membership(&meta.last_membership)),
        bytes: data.len() as u64,
        digest: Bytes::copy_from_slice(blake3::hash(data).as_bytes()),
    }
}

pub(crate) fn meta(head: pb::SnapshotHead) -> Result<SnapshotMeta, Corrupt> {
    Ok(SnapshotMeta {
        last_log_id: head.last_log_id.map(codec::from_log_id),
        last_membership: codec::from_stored_membership(
            head.membership.ok_or_else(|| Corrupt::missing("snapshot membership"))?,
        )?,
    })
}

/// Whether the data is what its head says.
pub(crate) fn check(head: &pb::SnapshotHead, data: &Bytes) -> Result<(), Corrupt> {
    if data.len() as u64 != head.bytes {
        return Err(Corrupt(format!("the snapshot has {} bytes instead of {}", data.len(), head.bytes)));
    }
    if blake3::hash(data).as_bytes()[..] != head.digest[..] {
        return Err(Corrupt("the snapshot is damaged: its digest differs".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Batch, MemoryDisk};

    #[test]
    fn a_damaged_snapshot_is_an_error_and_never_an_empty_state() {
        let db: Db = Arc::new(MemoryDisk::default().open().expect("it is free"));
        assert!(load(&db).expect("it can be read").is_none());
        let whole = Snapshot { meta: SnapshotMeta::default(), snapshot: Bytes::from(vec![7; 4096]) };
        store(&db, &whole).expect("it is stored");
        let stored = db.get(SNAPSHOT, CURRENT).expect("it is read").expect("it is there");
        assert_eq!(load(&db).expect("it is whole").expect("it is there").snapshot, whole.snapshot);
        for at in (0..stored.len()).step_by(97) {
            let mut damaged = stored.clone();
            damaged[at] ^= 0x40;
            let mut batch = Batch::default();
            batch.put(SNAPSHOT, CURRENT, damaged);
            db.write(batch).expect("it is stored");
            // A bit of the head that carries nothing may go unnoticed; the data may not.
            if let Ok(loaded) = load(&db) {
                assert_eq!(loaded.expect("never nothing").snapshot, whole.snapshot, "byte {at}");
            }
        }
        let mut batch = Batch::default();
        batch.put(SNAPSHOT, CURRENT, stored[..stored.len() / 2].to_vec());
        db.write(batch).expect("it is stored");
        assert!(load(&db).is_err(), "half of it is no snapshot");
    }
}
