//! What a history comes to once faults stop.

use std::collections::BTreeSet;

use model::intent::Reason;
use model::report::{Claim, Fact};
use model::{Change, InstanceId, NodeId, Outcome, Slot};

use crate::world::{Call, World};

impl World {
    /// Ends a replacement: the one that takes over is ready, and the other goes.
    pub(crate) fn take_over(&mut self, slot: u32) {
        let Some(member) = self.holders().remove(&slot) else { return };
        let (Some(old), Some(new)) = (member.occupied(), member.incoming_occupied()) else { return };
        if old.terminating.is_some() {
            return;
        }
        let slot = Slot::Ordinal(slot);
        let ready = Fact::Ready { slot: slot.clone(), instance: new.instance.clone() };
        let claim = Claim::Destroy {
            instance: old.instance.id.clone(),
            slot: Some(slot),
            template: old.template,
            reason: Reason::RollingUpdate,
        };
        let report = self.report().with_facts([ready]).with_claims([claim]);
        self.write(Change::Report(report));
    }

    /// When faults stop, everything becomes as it should be: after how many rounds, or never.
    pub(crate) fn settles(&self) -> bool {
        let mut world = self.clone();
        world.left.elections = 20;
        world.cut_off = None;
        world.up = world.members.iter().copied().chain(world.state().managers.keys().copied()).collect();
        for _ in 0..60 {
            if world.leader.is_none() {
                let candidates = world.sets.last().expect("there are voters").clone();
                let who = candidates.into_iter().find(|id| world.sets.iter().all(|set| set.contains(id)));
                let who = who.or_else(|| world.sets.iter().flatten().copied().next());
                world.elect(who.expect("somebody can be elected"));
            }
            let me = world.leader.expect("it was elected above");
            world.ready.extend(world.members.iter().copied());
            world.keep(me, false);
            if world.leader.is_none() {
                continue;
            }
            for call in world.calls.clone() {
                world.takes_effect(&call);
            }
            world.list();
            for slot in 0..2 {
                if world.is_free(slot) {
                    let claimed =
                        world.report().with_claims([Claim::Provision { slot: Slot::Ordinal(slot) }]);
                    world.write(Change::Report(claimed));
                }
                world.take_over(slot);
            }
            for (intent, does) in world.open() {
                world.takes_effect(&Call { intent, lineage: world.lineage(), term: world.term, does });
            }
            let outcomes = std::mem::take(&mut world.answered);
            let outcomes =
                outcomes.into_iter().map(|(id, it)| Fact::Outcome(id, Outcome::Done(InstanceId::new(it))));
            let reported = world.report().with_facts(outcomes);
            if !reported.is_empty() {
                world.write(Change::Report(reported));
            }
            world.list();
        }
        let voters: BTreeSet<NodeId> = world.state().voters().collect();
        let slots: BTreeSet<u32> = world.cloud.values().map(|it| it.slot).collect();
        world.broken.is_none()
            && world.sets == [voters]
            && world.members.iter().all(|id| world.state().managers.contains_key(id))
            && world.open().is_empty()
            && world.cloud.len() == 2
            && slots.len() == 2
    }
}
