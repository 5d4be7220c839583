//! What a replica that does not run holds, and how a cluster goes on from it when its majority is lost
//! (ha-raft §4.5).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use model::command::Manager;
use model::{LogId, NodeId, State, Term};
use openraft::EntryPayload;
use openraft::impls::BasicNode;
use prost::Message;

use crate::codec::{self, Corrupt};
use crate::disk::{CREDENTIALS, Disk, IDENTITY};
use crate::identity::Identity;
use crate::meta::{self, COMMITTED, PURGED, VOTE};
use crate::store::{Batch, LOG, META, SNAPSHOT};
use crate::types::{self, Membership, Snapshot, SnapshotMeta, StoredMembership, Vote};
use crate::{divergence, proto as pb, snapshot};

/// How many log indexes lie between two lineages, so that what is named after one is told apart at a glance.
const GAP: u64 = 1000;

/// What one disk holds.
#[derive(Debug, Clone)]
pub struct Holding {
    pub identity: Identity,
    /// Everything its log says, whether a majority is known to have agreed to it or not: what was answered to
    /// anybody is on the disks of a majority, and the newest of those that are left may not have heard so.
    pub state: State,
    /// The last entry of its log.
    pub last: LogId,
    /// How far it knew that a majority had agreed.
    pub committed: u64,
    /// The latest term in which it has voted.
    pub voted: Term,
    /// The voters, as the log says last.
    pub voters: BTreeSet<NodeId>,
    /// Of the state, so that survivors can be compared.
    pub digest: String,
}

impl Disk {
    /// What it holds; nothing when it belongs to no cluster yet. Nothing is changed. Blocks.
    pub fn holding(&self) -> io::Result<Option<Holding>> {
        let Some(identity) = self.identity()? else { return Ok(None) };
        let (mut state, mut last, mut members) = match snapshot::load(&self.db)? {
            None => (State::default(), None, Membership::default()),
            Some(stored) => {
                let members = stored.meta.last_membership.membership().clone();
                (codec::decode_state(&stored.snapshot)?, stored.meta.last_log_id, members)
            }
        };
        let from = last.map_or(0, |last| last.index + 1);
        let mut next = from;
        self.db.scan(LOG, &from.to_be_bytes(), &mut |_, value| {
            let entry = codec::from_entry(codec::decode::<pb::Entry>(Bytes::from(value))?)?;
            let id = entry.log_id;
            if id.index != next {
                return Err(Corrupt(format!("log entry {next} is missing")).into());
            }
            next += 1;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(command) => {
                    let log = LogId { term: Term(id.leader_id.term), index: id.index };
                    state.apply(log, &codec::decode_command(&command)?);
                }
                EntryPayload::Membership(changed) => members = changed,
            }
            last = Some(id);
            Ok(ControlFlow::Continue(()))
        })?;
        let committed = match meta::get_meta(&self.db, COMMITTED)? {
            None => 0,
            Some(bytes) => codec::from_log_id(codec::decode::<pb::LogId>(bytes)?).index,
        };
        let voted = match meta::get_meta(&self.db, VOTE)? {
            None => 0,
            Some(bytes) => codec::from_vote(codec::decode::<pb::Vote>(bytes)?).leader_id.term,
        };
        let digest = blake3::Hash::from_bytes(divergence::digest(&state)).to_hex()[..16].to_owned();
        Ok(Some(Holding {
            identity,
            state,
            last: last
                .map_or(LogId::default(), |id| LogId { term: Term(id.leader_id.term), index: id.index }),
            committed,
            voted: Term(voted),
            voters: members.voter_ids().map(NodeId).collect(),
            digest,
        }))
    }

    /// Makes of this disk that of the only manager of a new lineage of its cluster, which begins with this state
    /// after the entry `last` of the one before. It is all done or nothing. Blocks.
    ///
    /// `node` is which of the state's managers it is; none when it is a new one, whose id none before has had.
    pub fn begin_anew(
        &self,
        state: &State,
        last: LogId,
        lineage: u32,
        node: Option<NodeId>,
        me: Manager,
    ) -> io::Result<Identity> {
        let cluster = state.cluster.clone().ok_or_else(|| Corrupt("it was never founded".into()))?;
        let first = types::LogId::new_term_index(last.term.0, last.index + GAP);
        let node = node.unwrap_or(NodeId(first.index));
        let address = me.address.clone();
        let state = state.begun_anew(lineage, last.index, node, me);
        let identity = Identity { cluster, lineage, node };
        let members = Membership::new(
            vec![BTreeSet::from([node.0])],
            BTreeMap::from([(node.0, BasicNode::new(address))]),
        )
        .map_err(io::Error::other)?;
        let meta = SnapshotMeta {
            last_log_id: Some(first),
            last_membership: StoredMembership::new(Some(first), members),
        };
        let data = Bytes::from(codec::encode_state(&state));
        let written = snapshot::written(&Snapshot { meta, snapshot: data });
        let id = codec::log_id(&first).encode_to_vec();
        let mut batch = Batch::default();
        batch.delete_range(LOG, &0u64.to_be_bytes(), &u64::MAX.to_be_bytes());
        batch.put(SNAPSHOT, snapshot::CURRENT, written);
        batch.put(META, PURGED, id.clone());
        batch.put(META, COMMITTED, id);
        batch.put(META, VOTE, codec::vote(&Vote::new(last.term.0, node.0)).encode_to_vec());
        batch.put(META, IDENTITY, identity.written());
        batch.delete(META, CREDENTIALS);
        self.db.write(batch)?;
        self.db.sync()?;
        self.db.note()?;
        Ok(identity)
    }
}
