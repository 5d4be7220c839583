//! Reads the disk of a stopped replica, and makes it the first of a new lineage after the loss of a majority.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use model::command::Manager;
use model::event::{Event, Kind};
use model::{LogId, LogIndex, NodeId, State, Term};
use openraft::EntryPayload;
use openraft::impls::BasicNode;
use prost::Message;

use crate::codec::{self, Corrupt};
use crate::disk::{CREDENTIALS, Disk, IDENTITY};
use crate::identity::Identity;
use crate::machine::stored;
use crate::meta::{self, COMMITTED, PURGED, VOTE};
use crate::store::{Batch, LOG, META, SNAPSHOT};
use crate::types::{self, Membership, Snapshot, SnapshotMeta, StoredMembership, Vote};
use crate::{divergence, proto as pb, snapshot};

/// The gap of log indexes between two lineages, so that ids are never used twice.
const GAP: u64 = 1000;

/// The contents of a disk.
#[derive(Debug, Clone)]
pub struct Holding {
    pub identity: Identity,
    /// The state after all entries of its log, committed or not: every acknowledged entry is in the newest
    /// log of a majority, even if that replica does not know that it is committed.
    pub state: State,
    /// The last entry of its log.
    pub last: LogId,
    /// The last entry that it knew to be committed.
    pub committed: u64,
    /// The latest term in which it has voted.
    pub voted: Term,
    /// The voters in the latest membership of the log.
    pub voters: BTreeSet<NodeId>,
    /// The digest of the state, to compare survivors.
    pub digest: String,
    /// The latest events up to there.
    pub events: Vec<Event>,
}

impl Disk {
    /// Reads the contents; none if it does not belong to a cluster. Changes nothing. Blocks.
    pub fn holding(&self) -> io::Result<Option<Holding>> {
        let Some(identity) = self.identity()? else { return Ok(None) };
        let mut events = Vec::new();
        let (mut state, mut last, mut members) = match snapshot::load(&self.db)? {
            None => (State::default(), None, Membership::default()),
            Some(stored) => {
                let members = stored.meta.last_membership.membership().clone();
                events = codec::decode_events(&stored.snapshot)?;
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
                    let log = LogId { term: Term(id.leader_id.term), index: LogIndex(id.index) };
                    events.extend(state.apply(log, &codec::decode_command(&command)?).events);
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
            last: last.map_or(LogId::default(), |id| LogId {
                term: Term(id.leader_id.term),
                index: LogIndex(id.index),
            }),
            committed,
            voted: Term(voted),
            voters: members.voter_ids().map(NodeId).collect(),
            digest,
            events,
        }))
    }

    /// Makes this the disk of the only manager of a new lineage of its cluster, which begins with this state
    /// after the entry `last` of the previous one. Atomic. Blocks.
    ///
    /// `node` is its manager in the state; none for a new one with a new id.
    pub fn begin_anew(
        &self,
        state: &State,
        events: Vec<Event>,
        last: LogId,
        lineage: u32,
        node: Option<NodeId>,
        me: Manager,
    ) -> io::Result<Identity> {
        let cluster =
            state.cluster.clone().ok_or_else(|| Corrupt("the cluster was never bootstrapped".into()))?;
        let first = types::LogId::new_term_index(last.term.0, last.index.0 + GAP);
        let node = node.unwrap_or(NodeId(first.index));
        let address = me.address.clone();
        let mut events = events;
        events.push(Event {
            index: LogIndex(first.index),
            at: state.time,
            group: None,
            by: format!("manager:{}", me.name),
            kind: Kind::ClusterRecovered,
            message: format!(
                "manager `{}` begins lineage {lineage} alone, with the state after entry {}",
                me.name, last.index
            ),
        });
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
        let events: Vec<&Event> = events.iter().collect();
        let data = Bytes::from(codec::encode_snapshot(&state, stored(&events)));
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
