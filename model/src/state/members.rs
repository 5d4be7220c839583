//! Who belongs to the cluster, and what each is to be.

use super::{Context, State};
use crate::access::{Authorities, Authority, Newcomer, TokenId};
use crate::command::{Answer, Manager, Refusal, Standing};
use crate::event::Kind;
use crate::ids::{ClusterId, NodeId};

impl State {
    pub(super) fn found(
        &mut self,
        context: &mut Context<'_>,
        cluster: &ClusterId,
        lineage: u32,
        manager: &Manager,
        authority: Option<&Authority>,
    ) -> Answer {
        if self.cluster.is_some() {
            return Answer::Refused(Refusal::AlreadyFounded);
        }
        self.cluster = Some(cluster.clone());
        self.lineage = lineage;
        self.authorities = authority.map(|it| Authorities::new(it.clone(), context.log.index));
        // The log index of this entry could serve, but the founder must know its id before there
        // is a log. No entry before this one can join, so 1 is never given again.
        self.managers.insert(NodeId(1), manager.clone());
        context.tell(None, Kind::ClusterFounded, format!("manager `{}` founded the cluster", manager.name));
        Answer::Joined(NodeId(1))
    }

    pub(super) fn join(
        &mut self,
        context: &mut Context<'_>,
        manager: &Manager,
        token: Option<&TokenId>,
    ) -> Answer {
        if let Some((id, _)) = self.removed.iter().find(|(_, storage)| **storage == manager.storage) {
            return Answer::Refused(Refusal::Removed { node: *id });
        }
        let whom = Newcomer::Manager { storage: &manager.storage, instance: manager.instance.as_ref() };
        // Also of one that is known: it might be somebody else who says so.
        if let Some(Err(why)) = token.map(|token| self.admits(token, &whom)) {
            return Answer::Refused(Refusal::Token(why));
        }
        for (id, known) in &self.managers {
            if known.storage == manager.storage {
                let id = *id;
                self.moves_in(id, manager);
                return Answer::Joined(id);
            }
            if known.name == manager.name {
                return Answer::Refused(Refusal::NameTaken { name: manager.name.clone() });
            }
            if known.address == manager.address {
                return Answer::Refused(Refusal::AddressTaken {
                    address: manager.address.clone(),
                    name: known.name.clone(),
                });
            }
        }
        let id = NodeId(context.log.index);
        if let Some(token) = token {
            self.use_up(token, &whom);
        }
        self.moves_in(id, manager);
        context.tell(None, Kind::ManagerJoined, format!("manager `{}` joined as {id}", manager.name));
        Answer::Joined(id)
    }

    /// Records a manager. Whoever ran on its machine before is gone from there.
    fn moves_in(&mut self, id: NodeId, manager: &Manager) {
        let before =
            |(_, known): &(&NodeId, &Manager)| known.instance.is_some() && known.instance == manager.instance;
        let gone: Vec<NodeId> = self.managers.iter().filter(before).map(|(id, _)| *id).collect();
        for gone in gone {
            self.managers[&gone].instance = None;
        }
        self.managers.insert(id, manager.clone());
    }

    /// The managers that are to vote.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.managers.keys().copied().filter(|id| !self.learners.contains(id))
    }

    pub(super) fn stand(
        &mut self,
        context: &mut Context<'_>,
        nodes: &[NodeId],
        standing: Standing,
    ) -> Answer {
        // All or nothing: everything is checked before anything is stored.
        if let Some(node) = nodes.iter().find(|node| !self.managers.contains_key(*node)) {
            return Answer::Refused(Refusal::NoManager { node: *node });
        }
        if standing != Standing::Voter && self.voters().all(|voter| nodes.contains(&voter)) {
            return Answer::Refused(Refusal::LastVoter);
        }
        for node in nodes {
            let name = self.managers[node].name.clone();
            let (kind, what) = match standing {
                Standing::Voter if self.learners.remove(node).is_some() => {
                    (Kind::ManagerPromoted, "is to vote")
                }
                Standing::Learner if self.learners.insert(*node).is_none() => {
                    (Kind::ManagerDemoted, "is to vote no more")
                }
                Standing::Removed => {
                    self.learners.remove(node);
                    if let Some(gone) = self.managers.remove(node) {
                        self.removed.insert(*node, gone.storage);
                    }
                    (Kind::ManagerRemoved, "is removed")
                }
                Standing::Voter | Standing::Learner => continue,
            };
            context.tell(None, kind, format!("manager `{name}` ({node}) {what}"));
        }
        Answer::Done
    }
}
