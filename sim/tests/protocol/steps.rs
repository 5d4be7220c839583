//! What each act changes. Whatever turns out to be impossible, or changes nothing, is no step.

use std::collections::BTreeSet;

use model::command::{Declaration, Manager, MemberRole};
use model::intent::Reason;
use model::report::{Claim, Fact};
use model::{Answer, Change, InstanceId, IntentId, NodeId, Opaque, Outcome, Slot, Term};

use crate::acts::{Act, Wish};
use crate::world::{Agreed, Call, World, manager, spec};

impl World {
    pub(crate) fn step(&mut self, act: Act) -> Option<()> {
        match act {
            Act::Crash(id) => self.crash(id),
            Act::Restart(id) => drop(self.up.insert(id)),
            Act::Depose => self.depose(),
            Act::LeaseEnds => self.cut_off = None,
            Act::SendLate(intent) => self.send_late(intent)?,
            Act::Commit => self.commit(),
            Act::Elect(id) => self.elect(id),
            Act::Recover { node, stale } => self.recover(node, stale)?,
            Act::Join => self.join()?,
            Act::JoinAgain(id) => self.join_again(id)?,
            Act::Wish(id, wish) => self.grant(id, wish)?,
            Act::CatchUp(id) => drop(self.ready.insert(id)),
            Act::Keep { silent } => {
                let me = self.leader?;
                self.keep(me, silent).then_some(())?;
            }
            Act::Claim(slot) => self.claim(Claim::Provision { slot: Slot::Ordinal(slot) }),
            Act::Replace(slot) => self.claim(Claim::Replace { slot: Slot::Ordinal(slot) }),
            Act::TakeOver(slot) => self.take_over(slot),
            Act::Doom(slot) => self.doom(slot)?,
            Act::Send(intent) => self.send(intent)?,
            Act::Effect(call) => self.takes_effect(&call),
            Act::Lose(call) => drop(self.calls.remove(&call)),
            Act::Report(intent) => self.report_answer(intent)?,
            Act::Listed => self.list(),
            Act::Vanish(id) => self.vanish(&id),
        }
        Some(())
    }

    fn crash(&mut self, id: NodeId) {
        self.left.crashes -= 1;
        self.up.remove(&id);
        if self.leader == Some(id) {
            self.leads_no_more();
        }
    }

    fn depose(&mut self) {
        self.left.deposals -= 1;
        self.cut_off = Some((self.term, self.open()));
        self.leads_no_more();
    }

    fn send_late(&mut self, intent: IntentId) -> Option<()> {
        let (term, known) = self.cut_off.clone()?;
        if self.leader.is_some() {
            self.break_promise("I8, I9: two leaders may act at once");
        }
        let does = known.get(&intent)?.clone();
        self.calls.insert(Call { intent, lineage: self.lineage(), term, does });
        Some(())
    }

    fn commit(&mut self) {
        self.left.commits -= 1;
        let mut spec = spec();
        spec.template.instance.properties = Opaque::from_json(format!("{}", self.left.commits));
        let item = Declaration { spec: spec.into(), if_revision: None, unvalidated: false };
        self.write(Change::Declare { items: vec![item] });
    }

    fn recover(&mut self, id: NodeId, stale: bool) -> Option<()> {
        self.left.recoveries -= 1;
        if stale {
            self.agreed = self.before.clone()?;
            if !self.state().managers.contains_key(&id) {
                return None;
            }
            // What was decided by the entry that is lost is open again.
            let open = self.open();
            self.closed.retain(|id| !open.contains_key(id));
        }
        let me = self.state().managers[&id].clone();
        let (before, until) = (self.lineage(), self.index);
        self.agreed = Agreed::new(self.state().begun_anew(before + 1, model::LogIndex(until), id, me));
        // Those of before stop as soon as they hear of it (raft/src/peer_service.rs).
        (self.members, self.up) = (BTreeSet::from([id]), BTreeSet::from([id]));
        self.sets = vec![BTreeSet::from([id])];
        self.ready.clear();
        self.index += 1000;
        if self.lineage() <= before {
            self.break_promise("I15: the lineage went back");
        }
        Some(())
    }

    fn join(&mut self) -> Option<()> {
        self.left.joins -= 1;
        match self.write(Change::Join { manager: manager(4), token: None }) {
            Answer::Joined(id) => drop(self.up.insert(id)),
            _ => return None,
        }
        Some(())
    }

    fn join_again(&mut self, id: NodeId) -> Option<()> {
        let storage = self.state().removed[&id].clone();
        let again = Manager { storage, name: "again".into(), address: "again:1".into(), ..manager(9) };
        match self.write(Change::Join { manager: again, token: None }) {
            Answer::Refused(_) => return None,
            _ => self.break_promise("I13: a removed disk was taken in again"),
        }
        Some(())
    }

    /// As the door judges it (manager/src/members.rs, check_role).
    fn grant(&mut self, id: NodeId, wish: Wish) -> Option<()> {
        self.left.wishes -= 1;
        let view = self.view(false);
        let desired = view.desired(self.state());
        let mut after = desired.clone();
        let role = match wish {
            Wish::Voter => MemberRole::Voter,
            Wish::Learner => MemberRole::Learner,
            Wish::Removed => MemberRole::Removed,
        };
        match wish {
            Wish::Voter => after.insert(id),
            Wish::Learner | Wish::Removed => after.remove(&id),
        };
        if after != desired && view.votes(&desired).may_become(&after, true).is_err() {
            return None;
        }
        self.write(Change::SetMemberRole { nodes: vec![id], role });
        Some(())
    }

    fn claim(&mut self, claim: Claim) {
        self.left.claims -= 1;
        let report = self.report().with_claims([claim]);
        self.write(Change::Report(report));
    }

    fn doom(&mut self, slot: u32) -> Option<()> {
        self.left.dooms -= 1;
        let held = self.holders().get(&slot)?.occupied()?.clone();
        let (instance, template, reason) = (held.instance.id, held.template, Reason::RollingUpdate);
        let claim = Claim::Destroy { instance, slot: Some(Slot::Ordinal(slot)), template, reason };
        let report = self.report().with_claims([claim]);
        self.write(Change::Report(report));
        Some(())
    }

    fn send(&mut self, intent: IntentId) -> Option<()> {
        let does = self.open().remove(&intent)?;
        let group = self.state().groups.values().next()?;
        if group.intents[&intent].term != Term(self.term) {
            // It is attempted again, under the same token, and everybody knows first.
            let again = self.report().with_repeats([intent]);
            self.write(Change::Report(again));
        }
        self.called.insert(intent);
        self.calls.insert(Call { intent, lineage: self.lineage(), term: self.term, does });
        Some(())
    }

    fn report_answer(&mut self, intent: IntentId) -> Option<()> {
        let instance = InstanceId::new(self.answered.remove(&intent)?);
        let report = self.report().with_facts([Fact::Outcome(intent, Outcome::Done(instance))]);
        self.write(Change::Report(report));
        Some(())
    }

    fn vanish(&mut self, id: &str) {
        self.left.vanishings -= 1;
        self.cloud.remove(id);
    }
}
