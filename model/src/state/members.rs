//! The members of the cluster, and their roles.

use std::sync::Arc;

use super::State;
use super::context::Context;
use crate::access::{Authorities, Authority, TokenId};
use crate::answer::{Answer, Refusal};
use crate::command::{Manager, MemberRole};
use crate::event::Kind;
use crate::ids::{ClusterId, NodeId};

impl State {
    pub(super) fn bootstrap(
        &mut self,
        context: &mut Context<'_>,
        cluster: &ClusterId,
        lineage: u32,
        manager: &Manager,
        authority: Option<&Authority>,
    ) -> Answer {
        if self.cluster.is_some() {
            return Answer::Refused(Refusal::AlreadyBootstrapped);
        }
        self.cluster = Some(cluster.clone());
        self.lineages = lineage.into();
        self.level = manager.program.level;
        self.authorities = authority.map(|it| Authorities::new(it.clone(), context.log.index));
        // The log index of this entry could be the id, but the first manager must know its id before
        // there is a log. No entry before this one can be a join, so 1 is never assigned again.
        self.managers.insert(NodeId(1), manager.clone());
        context.emit(
            None,
            Kind::ClusterBootstrapped,
            format!("manager `{}` bootstrapped the cluster", manager.name),
        );
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
        let whom = manager.newcomer();
        // Also for a known manager: another one might claim to be it.
        if let Some(Err(why)) = token.map(|token| self.admits(token, &whom)) {
            return Answer::Refused(Refusal::Token(why));
        }
        if manager.program.level < self.level {
            return Answer::Refused(Refusal::TooOld { level: self.level });
        }
        for known in self.managers.values().filter(|known| known.storage != manager.storage) {
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
        let known = self.managers.iter().find(|(_, known)| known.storage == manager.storage);
        if let Some((id, before)) = known.map(|(id, known)| (*id, known.clone())) {
            self.moves_in(id, manager);
            if before.address != manager.address {
                let what = format!("manager `{}` has the new address {}", manager.name, manager.address);
                context.emit(None, Kind::ManagerMoved, what);
            }
            self.levels_up(context);
            return Answer::Joined(id);
        }
        let id = NodeId(context.log.index.0);
        if let Some(token) = token {
            self.use_up(token, &whom);
        }
        self.moves_in(id, manager);
        context.emit(None, Kind::ManagerJoined, format!("manager `{}` joined as {id}", manager.name));
        self.levels_up(context);
        Answer::Joined(id)
    }

    /// Raises the feature level to the lowest one of all managers.
    fn levels_up(&mut self, context: &mut Context<'_>) {
        let all = self.managers.values().map(|manager| manager.program.level).min();
        if let Some(level) = all.filter(|level| *level > self.level) {
            self.rises_to(level);
            let what = format!("every manager supports feature level {level}, which is in use from now on");
            context.emit(None, Kind::LevelRaised, what);
        }
    }

    /// From feature level 2 on, instances are known with their plugins. Until then only the ids are written, and the
    /// plugin of a stray that is being destroyed follows from its template: as a snapshot of this moment is read.
    pub(super) fn rises_to(&mut self, level: u32) {
        if self.level < 2 && level >= 2 {
            let ids: Vec<_> = self.groups.keys().cloned().collect();
            for id in ids {
                if let Some(group) = self.groups.get_mut(&id) {
                    Arc::make_mut(group).name_plugins_of_strays();
                }
            }
        }
        self.level = level;
    }

    /// Records a manager. A manager that ran on its machine before no longer runs there.
    fn moves_in(&mut self, id: NodeId, manager: &Manager) {
        let mut manager = manager.clone();
        if let Some(machine) = &mut manager.instance {
            if self.level < 2 {
                machine.plugin = None;
            }
            let before = |known: &Manager| known.instance.as_ref().is_some_and(|it| it.may_equal(machine));
            let gone: Vec<NodeId> =
                self.managers.iter().filter(|(_, known)| before(known)).map(|(id, _)| *id).collect();
            for gone in gone {
                self.managers[&gone].instance = None;
            }
        }
        self.managers.insert(id, manager);
    }

    /// The managers with the role of a voter.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.managers.keys().copied().filter(|id| !self.learners.contains(id))
    }

    pub(super) fn lead(&mut self, context: &mut Context<'_>, node: NodeId) -> Answer {
        let Some(manager) = self.managers.get(&node) else {
            return Answer::Refused(Refusal::NoManager { node });
        };
        let what = format!("manager `{}` leads in term {}", manager.name, context.log.term);
        context.emit(None, Kind::LeaderElected, what);
        Answer::Done
    }

    pub(super) fn duplicate(&mut self, context: &mut Context<'_>, node: NodeId) -> Answer {
        let Some(manager) = self.managers.get(&node) else {
            return Answer::Refused(Refusal::NoManager { node });
        };
        let what =
            format!("two processes run as manager `{}`: one of them on a copy of its data", manager.name);
        context.emit(None, Kind::ManagerDuplicated, what);
        Answer::Done
    }

    pub(super) fn set_member_role(
        &mut self,
        context: &mut Context<'_>,
        nodes: &[NodeId],
        role: MemberRole,
    ) -> Answer {
        // All or nothing: everything is checked before anything is stored.
        if let Some(node) = nodes.iter().find(|node| !self.managers.contains_key(*node)) {
            return Answer::Refused(Refusal::NoManager { node: *node });
        }
        if role != MemberRole::Voter && self.voters().all(|voter| nodes.contains(&voter)) {
            return Answer::Refused(Refusal::LastVoter);
        }
        for node in nodes {
            let name = self.managers[node].name.clone();
            let (kind, what) = match role {
                MemberRole::Voter if self.learners.remove(node).is_some() => {
                    (Kind::ManagerPromoted, "is promoted to voter")
                }
                MemberRole::Learner if self.learners.insert(*node).is_none() => {
                    (Kind::ManagerDemoted, "is demoted to learner")
                }
                MemberRole::Removed => {
                    self.learners.remove(node);
                    if let Some(gone) = self.managers.remove(node) {
                        self.removed.insert(*node, gone.storage);
                    }
                    (Kind::ManagerRemoved, "is removed from the cluster")
                }
                MemberRole::Voter | MemberRole::Learner => continue,
            };
            context.emit(None, kind, format!("manager `{name}` ({node}) {what}"));
        }
        self.levels_up(context);
        Answer::Done
    }
}
