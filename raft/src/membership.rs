//! Membership and leadership in Raft, and their changes.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::NodeId;
use openraft::ChangeMembers;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::impls::BasicNode;

use crate::error::Error;
use crate::replica::{Replica, Role, fatal};
use crate::types::Types;

/// A member, as this replica sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberStatus {
    pub node: NodeId,
    pub address: String,
    pub voter: bool,
    /// Its lag in entries; known to the leader only.
    pub lag: Option<u64>,
    /// The time since its last acknowledgement; known to the leader only.
    pub last_ack: Option<Duration>,
    /// By how many milliseconds its wall clock is ahead of the leader's; known to the leader only.
    pub clock_ahead_ms: Option<i64>,
    /// Two processes were heard as this member at once: one of them runs on a copy of the other's disk.
    pub duplicated: bool,
}

impl Replica {
    /// The address of a member.
    pub fn address_of(&self, node: NodeId) -> Option<String> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let first = metrics.membership_config.get_node(&node.0)?;
        Some(self.peers.addresses.of(&self.published().state, node, &first.addr))
    }

    /// Where this manager itself is, for those who may look for it elsewhere.
    pub fn is_at(&self, address: &str) {
        self.peers.addresses.is_at(address);
    }

    /// Where this manager itself is; empty if nobody has said so.
    pub fn own_address(&self) -> String {
        self.peers.addresses.own()
    }

    /// Ends this replica, which must not be a member, for this reason.
    pub fn expel(&self, why: String) {
        self.peers.expelled.say(why);
    }

    /// Where candidates say that they are: places to look for members.
    pub fn rumours(&self) -> Vec<String> {
        self.peers.addresses.rumours()
    }

    /// A member was found at this address: it is called there until the state has a newer one.
    pub fn found_at(&self, node: NodeId, address: &str) {
        self.peers.addresses.found(&self.published().state, node, address);
    }

    /// The members that were found elsewhere than where the state has them, and where.
    pub fn found_elsewhere(&self) -> Vec<(NodeId, String)> {
        self.peers.addresses.elsewhere()
    }

    /// A member does not answer any more where it was found: it is called where the state has it.
    pub fn lost_at(&self, node: NodeId) {
        self.peers.addresses.lost(node);
    }

    /// The members, as this replica knows them.
    pub fn members(&self) -> Vec<MemberStatus> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched().clone();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let state = self.published().state;
        let duplicated = self.peers.processes.duplicated_anywhere();
        metrics
            .membership_config
            .nodes()
            .map(|(id, node)| {
                let replicated = metrics.replication.as_ref().and_then(|all| all.get(id));
                let acked = metrics.heartbeat.as_ref().and_then(|all| all.get(id)).and_then(Option::as_ref);
                MemberStatus {
                    node: NodeId(*id),
                    address: self.peers.addresses.of(&state, NodeId(*id), &node.addr),
                    voter: voters.contains(id),
                    lag: replicated.map(|at| last.saturating_sub(at.as_ref().map_or(0, |id| id.index))),
                    last_ack: acked.map(|at| at.elapsed()),
                    clock_ahead_ms: self.peers.clocks.ahead(NodeId(*id)),
                    duplicated: duplicated.contains(&NodeId(*id)),
                }
            })
            .collect()
    }

    /// The sets of voters of which each needs a majority: one, or two while a change is under way.
    pub fn voter_sets(&self) -> Vec<BTreeSet<NodeId>> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let sets = metrics.membership_config.membership().get_joint_config();
        sets.iter().map(|set| set.iter().copied().map(NodeId).collect()).collect()
    }

    /// Whether a change of the voters was begun and not ended.
    pub fn is_changing(&self) -> bool {
        self.voter_sets().len() > 1
    }

    /// Whether a manager votes, before or after a change that is under way.
    pub(crate) fn votes(&self, node: NodeId) -> bool {
        self.voter_sets().iter().any(|set| set.contains(&node))
    }

    /// Adds a learner, and returns immediately.
    pub async fn add_learner(&self, node: NodeId, address: &str) -> Result<(), Error> {
        let added = self.raft.add_learner(node.0, BasicNode::new(address), false).await;
        added.map(|_| ()).map_err(membership_error)
    }

    /// Makes these members the voters, in one joint change; previous voters become learners. Also completes a
    /// change that an earlier leader has begun.
    pub async fn set_voters(&self, nodes: &BTreeSet<NodeId>) -> Result<(), Error> {
        let ids = nodes.iter().map(|node| node.0).collect();
        let changed = self.raft.change_membership(ChangeMembers::ReplaceAllVoters(ids), true).await;
        changed.map(|_| ()).map_err(membership_error)
    }

    /// Removes these learners.
    pub async fn drop_learners(&self, nodes: &BTreeSet<NodeId>) -> Result<(), Error> {
        let ids = nodes.iter().map(|node| node.0).collect();
        let changed = self.raft.change_membership(ChangeMembers::RemoveNodes(ids), false).await;
        changed.map(|_| ()).map_err(membership_error)
    }

    /// Transfers leadership to a voter, and waits until it leads. From now on this replica has no lease in
    /// its term, because the other does not wait for its end; nor does openraft replicate or send heartbeats
    /// for it. If the other does not take over, there is an election.
    pub async fn give_lead_to(&self, node: NodeId) -> Result<(), Error> {
        let term = self.leads_in().ok_or(Error::NotLeader { leader: None })?;
        self.given_away.fetch_max(term.0, Ordering::SeqCst);
        self.raft.trigger().transfer_leader(node.0).await.map_err(fatal)?;
        if let Some(now) = self.leads_in() {
            // It was deposed and elected again in between: this leadership is transferred too.
            self.given_away.fetch_max(now.0, Ordering::SeqCst);
        }
        let mut role = self.watch_role();
        let taken = async {
            let taken = role.wait_for(|role| match *role {
                Role::Leader { term: now } => now > term,
                Role::Other { term: now, leader } => now > term && leader.is_some(),
            });
            taken.await.map(|role| *role)
        };
        match tokio::time::timeout(self.lease * 2, taken).await {
            Ok(Ok(Role::Other { leader: Some(leader), .. })) if leader == node => Ok(()),
            Ok(Ok(Role::Leader { term } | Role::Other { term, .. })) => {
                Err(Error::Unavailable(format!("another leader was elected in term {term}")))
            }
            Ok(Err(_)) => Err(Error::Fatal("the replica has stopped".into())),
            Err(_) => Err(Error::Unavailable(format!("manager {node} did not take over in time"))),
        }
    }
}

fn membership_error(error: RaftError<Types, ClientWriteError<Types>>) -> Error {
    match error {
        RaftError::APIError(error) => Error::Unavailable(error.to_string()),
        RaftError::Fatal(error) => Error::Fatal(error.to_string()),
    }
}
