//! The written form of openraft's and our own values: protobuf, with a format version, and one hook
//! through which everything that rests on a disk passes.

mod access;
mod answer;
mod command;
mod report;
mod roster;
mod spec;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::impls::BasicNode;
use prost::Message;

use crate::proto as pb;
use crate::types::{Encoded, Entry, LogId, Membership, StoredMembership, Vote};

pub(crate) use command::{decode_command, encode_command, from_manager, manager};
pub(crate) use roster::message;
pub(crate) use state::{
    decode_events, decode_state, encode_snapshot, encode_state, guess_of_state, write_events, write_state,
};

/// The newest version of the written forms that this program reads.
pub(crate) const FORMAT: u32 = 2;

/// The version that is written at a feature level: programs that do not know it refuse it by its number.
pub(crate) fn format_at(level: u32) -> u32 {
    if level >= 2 { 2 } else { 1 }
}

/// Bytes that are not what they should be: a corrupt disk, or a newer program's form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Corrupt(pub(crate) String);

impl Corrupt {
    pub(crate) fn missing(what: &str) -> Self {
        Self(format!("`{what}` is missing"))
    }
}

impl From<prost::DecodeError> for Corrupt {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

impl From<Corrupt> for std::io::Error {
    fn from(corrupt: Corrupt) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, corrupt)
    }
}

pub(crate) fn log_id(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, index: id.index }
}

pub(crate) fn from_log_id(id: pb::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

pub(crate) fn vote(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn from_vote(vote: pb::Vote) -> Vote {
    if vote.committed { Vote::new_committed(vote.term, vote.node) } else { Vote::new(vote.term, vote.node) }
}

pub(crate) fn membership(membership: &Membership) -> pb::Membership {
    pb::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|config| pb::VoterSet { ids: config.iter().copied().collect() })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, node)| pb::Node { id: *id, address: node.addr.clone() })
            .collect(),
    }
}

pub(crate) fn from_membership(membership: pb::Membership) -> Result<Membership, Corrupt> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|config| config.ids.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, BasicNode> =
        membership.nodes.into_iter().map(|node| (node.id, BasicNode::new(node.address))).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|error| Corrupt(format!("membership: {error}")))
}

pub(crate) fn stored_membership(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id),
        membership: Some(membership(stored.membership())),
    }
}

pub(crate) fn from_stored_membership(stored: pb::StoredMembership) -> Result<StoredMembership, Corrupt> {
    let members = from_membership(stored.membership.ok_or_else(|| Corrupt::missing("membership"))?)?;
    Ok(StoredMembership::new(stored.log_id.map(from_log_id), members))
}

pub(crate) fn entry(entry: &Entry) -> pb::Entry {
    pb::Entry {
        id: Some(log_id(&entry.log_id)),
        payload: Some(match &entry.payload {
            EntryPayload::Blank => pb::entry::Payload::Blank(pb::Blank {}),
            EntryPayload::Normal(sealed) => pb::entry::Payload::Command(sealed.0.clone()),
            EntryPayload::Membership(members) => pb::entry::Payload::Membership(membership(members)),
        }),
    }
}

pub(crate) fn from_entry(entry: pb::Entry) -> Result<Entry, Corrupt> {
    Ok(Entry {
        log_id: from_log_id(entry.id.ok_or_else(|| Corrupt::missing("entry id"))?),
        payload: match entry.payload.ok_or_else(|| Corrupt::missing("entry payload"))? {
            pb::entry::Payload::Blank(_) => EntryPayload::Blank,
            pb::entry::Payload::Command(bytes) => EntryPayload::Normal(Encoded(bytes)),
            pb::entry::Payload::Membership(members) => EntryPayload::Membership(from_membership(members)?),
        },
    })
}

pub(crate) fn decode<M: Message + Default>(bytes: impl Into<Bytes>) -> Result<M, Corrupt> {
    Ok(M::decode(bytes.into())?)
}

#[cfg(test)]
mod tests;
