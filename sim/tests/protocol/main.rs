//! The protocol of members and intents, explored: every order of what managers, operators, providers and faults do,
//! as far as a budget goes, around the real `State::apply` and the real membership policy (ha-raft §4.3).
//!
//! Three managers, two slots. What Raft promises is taken for granted here, one leader a term and one log. What is
//! looked at is what stands on them: who may become a voter, what is admitted, who may act, what late calls do. The
//! planner is not in it, only the few rules of it that are repeated in `world` with their places; the simulation has
//! the planner.

mod calm;
mod world;

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use model::command::{Declaration, Manager, MemberRole};
use model::intent::Reason;
use model::report::{Claim, Fact};
use model::state::Member;
use model::{Answer, Change, InstanceId, NodeId, Opaque, Outcome, Slot, Term};
use stateright::{Checker, Model, Property};
use world::{Act, Agreed, Budget, Call, Does, Instance, Wish, World, manager, spec};

const TWICE: &str = "I2: one living instance a token, and one a slot";

struct Protocol {
    budget: Budget,
    guarded: bool,
    fenced: bool,
    leased: bool,
}

impl Model for Protocol {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.budget, self.guarded, self.fenced, self.leased)]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        let left = world.left;
        let known = || world.state().managers.keys().copied();
        for id in world.up.iter().copied() {
            if left.crashes > 0 {
                acts.push(Act::Crash(id));
            }
            let votes = world.sets.iter().any(|set| set.contains(&id));
            // Voters wait until the lease of the leader that they heard last has run out (raft/src/replica.rs).
            let waited = world.cut_off.is_none() || !world.leased;
            let majority = world.has_majority(&world.sets);
            if world.leader.is_none() && waited && left.elections > 0 && votes && majority {
                acts.push(Act::Elect(id));
            }
            if world.state().removed.contains_key(&id) && world.leader.is_some() {
                acts.push(Act::JoinAgain(id));
            }
        }
        acts.extend(known().filter(|id| !world.up.contains(id)).map(Act::Restart));
        if left.recoveries > 0
            && world.leader.is_none()
            && world.cut_off.is_none()
            && !world.has_majority(&world.sets)
        {
            for node in known().filter(|id| world.up.contains(id)) {
                acts.extend([false, true].map(|stale| Act::Recover { node, stale }));
            }
        }
        for call in &world.calls {
            acts.push(Act::Effect(call.clone()));
            acts.push(Act::Lose(call.clone()));
        }
        if let Some((_, known)) = &world.cut_off {
            acts.push(Act::LeaseEnds);
            acts.extend(known.keys().copied().map(Act::SendLate));
        }
        if left.vanishings > 0 {
            // The provider may lose anything but the machine that a manager stands on: that is a crash.
            acts.extend(world.cloud.keys().filter(|id| *id != "host").cloned().map(Act::Vanish));
        }
        if world.leader.is_none() || !world.has_majority(&world.sets) {
            return;
        }
        if left.deposals > 0 {
            acts.push(Act::Depose);
        }
        if left.joins > 0 {
            acts.push(Act::Join);
        }
        if left.commits > 0 {
            acts.push(Act::Commit);
        }
        if left.wishes > 0 {
            for id in known() {
                acts.extend(
                    [Wish::Voter, Wish::Learner, Wish::Removed]
                        .map(|describe_spec| Act::Wish(id, describe_spec)),
                );
            }
        }
        let learner =
            |id: &NodeId| !world.sets.iter().any(|set| set.contains(id)) && !world.ready.contains(id);
        acts.extend(world.members.intersection(&world.up).copied().filter(learner).map(Act::CatchUp));
        acts.extend([Act::Keep { silent: false }, Act::Keep { silent: true }]);
        // Nothing is made before a look (model/src/plan.rs).
        if left.claims > 0 && world.looked {
            // One more than there are: it must be denied.
            acts.extend((0..3).map(Act::Claim));
            if world.state().revisions.values().any(|it| it.0 > 1) {
                acts.extend((0..2).map(Act::Replace));
            }
        }
        let both = |it: &Member| it.occupied().is_some() && it.incoming_occupied().is_some();
        acts.extend(world.holders().iter().filter(|(_, it)| both(it)).map(|(slot, _)| Act::TakeOver(*slot)));
        if left.dooms > 0 {
            acts.extend((0..2).map(Act::Doom));
        }
        acts.extend(world.open().into_keys().filter(|id| !world.called.contains(id)).map(Act::Send));
        acts.extend(world.answered.keys().copied().map(Act::Report));
        acts.push(Act::Listed);
    }

    fn next_state(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        match act {
            Act::Crash(id) => {
                world.left.crashes -= 1;
                world.up.remove(&id);
                if world.leader == Some(id) {
                    world.leads_no_more();
                }
            }
            Act::Restart(id) => drop(world.up.insert(id)),
            Act::Depose => {
                world.left.deposals -= 1;
                world.cut_off = Some((world.term, world.open()));
                world.leads_no_more();
            }
            Act::LeaseEnds => world.cut_off = None,
            Act::SendLate(intent) => {
                let (term, known) = world.cut_off.clone()?;
                if world.leader.is_some() {
                    world.break_promise("I8, I9: two leaders may act at once");
                }
                let does = known.get(&intent)?.clone();
                world.calls.insert(Call { intent, lineage: world.lineage(), term, does });
            }
            Act::Commit => {
                world.left.commits -= 1;
                let mut spec = spec();
                spec.template.instance.properties = Opaque::from_json(format!("{}", world.left.commits));
                let item = Declaration { spec: spec.into(), if_revision: None, unvalidated: false };
                world.write(Change::Declare { items: vec![item] });
            }
            Act::Elect(id) => world.elect(id),
            Act::Recover { node: id, stale } => {
                world.left.recoveries -= 1;
                if stale {
                    world.agreed = world.before.clone()?;
                    if !world.state().managers.contains_key(&id) {
                        return None;
                    }
                    // What was decided by the entry that is lost is open again.
                    let open = world.open();
                    world.closed.retain(|id| !open.contains_key(id));
                }
                let me = world.state().managers[&id].clone();
                let (before, until) = (world.lineage(), world.index);
                world.agreed = Agreed::new(world.state().begun_anew(before + 1, until, id, me));
                // Those of before stop as soon as they hear of it (raft/src/peer_service.rs).
                (world.members, world.up) = (BTreeSet::from([id]), BTreeSet::from([id]));
                world.sets = vec![BTreeSet::from([id])];
                world.ready.clear();
                world.index += 1000;
                if world.lineage() <= before {
                    world.break_promise("I15: the lineage went back");
                }
            }
            Act::Join => {
                world.left.joins -= 1;
                match world.write(Change::Join { manager: manager(4), token: None }) {
                    Answer::Joined(id) => drop(world.up.insert(id)),
                    _ => return None,
                }
            }
            Act::JoinAgain(id) => {
                let storage = world.state().removed[&id].clone();
                let again =
                    Manager { storage, name: "again".into(), address: "again:1".into(), ..manager(9) };
                match world.write(Change::Join { manager: again, token: None }) {
                    Answer::Refused(_) => return None,
                    _ => world.break_promise("I13: a removed disk was taken in again"),
                }
            }
            Act::Wish(id, describe_spec) => {
                world.left.wishes -= 1;
                // As the door judges it (manager/src/members.rs, may_stand).
                let view = world.view(false);
                let desired = view.desired(world.state());
                let mut after = desired.clone();
                let role = match describe_spec {
                    Wish::Voter => MemberRole::Voter,
                    Wish::Learner => MemberRole::Learner,
                    Wish::Removed => MemberRole::Removed,
                };
                match describe_spec {
                    Wish::Voter => after.insert(id),
                    Wish::Learner | Wish::Removed => after.remove(&id),
                };
                if after != desired && view.votes(&desired).may_become(&after, true).is_err() {
                    return None;
                }
                world.write(Change::SetMemberRole { nodes: vec![id], role });
            }
            Act::CatchUp(id) => drop(world.ready.insert(id)),
            Act::Keep { silent } => {
                let me = world.leader?;
                if !world.keep(me, silent) {
                    return None;
                }
            }
            Act::Claim(slot) => {
                world.left.claims -= 1;
                let report = world.report().with_claims([Claim::Provision { slot: Slot::Ordinal(slot) }]);
                world.write(Change::Report(report));
            }
            Act::Doom(slot) => {
                world.left.dooms -= 1;
                let held = world.holders().get(&slot)?.occupied()?.clone();
                let (instance, template, reason) = (held.instance, held.template, Reason::RollingUpdate);
                let claim = Claim::Destroy { instance, slot: Some(Slot::Ordinal(slot)), template, reason };
                let report = world.report().with_claims([claim]);
                world.write(Change::Report(report));
            }
            Act::Replace(slot) => {
                world.left.claims -= 1;
                let report = world.report().with_claims([Claim::Replace { slot: Slot::Ordinal(slot) }]);
                world.write(Change::Report(report));
            }
            Act::TakeOver(slot) => world.take_over(slot),
            Act::Send(intent) => {
                let does = world.open().remove(&intent)?;
                let group = world.state().groups.values().next()?;
                if group.intents[&intent].term != Term(world.term) {
                    // It is attempted again, under the same token, and everybody knows first.
                    let again = world.report().with_repeats([intent]);
                    world.write(Change::Report(again));
                }
                world.called.insert(intent);
                world.calls.insert(Call { intent, lineage: world.lineage(), term: world.term, does });
            }
            Act::Effect(call) => world.takes_effect(&call),
            Act::Lose(call) => drop(world.calls.remove(&call)),
            Act::Report(intent) => {
                let instance = InstanceId::new(world.answered.remove(&intent)?);
                let report = world.report().with_facts([Fact::Outcome(intent, Outcome::Done(instance))]);
                world.write(Change::Report(report));
            }
            Act::Listed => world.list(),
            Act::Vanish(id) => {
                world.left.vanishings -= 1;
                world.cloud.remove(&id);
            }
        }
        (world != *before).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1, I3 to I13, I15: no step breaks a promise", |_, world: &World| {
                world.broken.is_none()
            }),
            Property::always(TWICE, |_, world: &World| {
                // One that was made to take a slot over may stand beside the other.
                let replaces = |it: &&Instance| {
                    let does = it.token.and_then(|token| world.granted.get(&token));
                    matches!(does, Some(Does::Replace(_)))
                };
                let mut slots: Vec<u32> =
                    world.cloud.values().filter(|it| !replaces(it)).map(|it| it.slot).collect();
                let mut taking: Vec<u32> = world.cloud.values().filter(replaces).map(|it| it.slot).collect();
                let once = |slots: &mut Vec<u32>| {
                    slots.sort_unstable();
                    slots.windows(2).all(|pair| pair[0] != pair[1])
                };
                once(&mut slots) && once(&mut taking)
            }),
            Property::always("I14: no more are claimed than wanted", |_, world: &World| {
                // One that is to go counts no more; and one more may be there to take a slot over.
                let holders = world.holders();
                let incarnations = holders.values().flat_map(|it| it.incarnations());
                let there = incarnations.filter(|it| it.counts()).count();
                holders.values().filter(|it| it.counts()).count() <= 2 && there <= 3
            }),
            Property::always("L1 to L3: once faults stop, it settles", |_, world: &World| {
                // A sample: whoever can be reached from there is reached from its neighbours too.
                let mut hasher = std::hash::DefaultHasher::new();
                world.hash(&mut hasher);
                !hasher.finish().is_multiple_of(16) || world.settles()
            }),
            Property::sometimes(REPLACED, |_, world: &World| {
                world.sets.len() == 1 && world.disks.len() == 4 && world.state().managers.len() == 3
            }),
            Property::sometimes(MADE_ANEW, |_, world: &World| {
                world.term > 1 && world.closed.len() == 1 && world.cloud.len() == 2
            }),
        ]
    }
}

/// Explores histories of up to `steps` steps; nothing is broken in any, and each of these comes about in some.
fn explore(budget: Budget, steps: usize, come_about: &[&'static str]) {
    let protocol = Protocol { budget, guarded: true, fenced: true, leased: true };
    // The checker counts the first state, and looks at none that is as deep as it may go.
    let checker = protocol.checker().threads(2).target_max_depth(steps + 2).spawn_bfs().join();
    assert!(checker.unique_state_count() > 10_000, "{budget:?}: {} states", checker.unique_state_count());
    for property in checker.model().properties() {
        if property.name.starts_with('I') || property.name.starts_with('L') {
            checker.assert_no_discovery(property.name);
        }
    }
    for name in come_about {
        assert!(checker.discovery(name).is_some(), "{name}: it never comes about");
    }
}

/// What is found when a protection is left out.
fn missed(budget: Budget, guarded: bool, fenced: bool, steps: usize) {
    let protocol = Protocol { budget, guarded, fenced, leased: true };
    let checker = protocol.checker().threads(2).target_max_depth(steps + 2).spawn_bfs().join();
    let found = checker.discoveries();
    assert!(found.contains_key(TWICE), "{:?}", found.keys());
}

const NOTHING: Budget = Budget {
    crashes: 0,
    deposals: 0,
    elections: 0,
    joins: 0,
    wishes: 0,
    claims: 0,
    dooms: 0,
    vanishings: 0,
    recoveries: 0,
    commits: 0,
};

const REPLACED: &str = "a manager is replaced";
const MADE_ANEW: &str = "a slot is made anew by a later leader";

/// Who votes, whatever is wished for and whoever dies.
#[test]
fn members_change_under_every_order_of_wishes_and_faults() {
    let budget = Budget { crashes: 2, deposals: 1, elections: 3, joins: 1, wishes: 2, ..NOTHING };
    explore(budget, 12, &[REPLACED]);
}

/// What is made and destroyed, whoever leads and whatever is late.
#[test]
fn calls_take_effect_under_every_order_of_leaders_and_losses() {
    let budget =
        Budget { crashes: 1, deposals: 1, elections: 2, claims: 2, dooms: 1, vanishings: 1, ..NOTHING };
    explore(budget, 15, &[MADE_ANEW]);
}

/// A template changes while members are made and destroyed.
#[test]
fn a_rollout_goes_on_whoever_leads() {
    let budget = Budget { deposals: 1, elections: 1, claims: 2, dooms: 2, commits: 2, ..NOTHING };
    explore(budget, 12, &[]);
}

/// A majority dies and an operator goes on from one disk, while calls of before are on their way.
#[test]
fn a_lineage_ends_and_another_begins() {
    let budget = Budget { crashes: 2, elections: 2, claims: 2, recoveries: 1, vanishings: 1, ..NOTHING };
    explore(budget, 14, &[]);
}

/// A manager joins and votes while an instance is made.
#[test]
fn members_and_calls_together() {
    let budget = Budget { crashes: 1, elections: 1, joins: 1, wishes: 1, claims: 1, ..NOTHING };
    explore(budget, 11, &[]);
}

/// The exploration finds what it is for: a look that settles an intent while its own call is under way frees its
/// slot too early, and the call fills it a second time.
#[test]
fn a_guard_that_is_left_out_is_missed() {
    missed(Budget { deposals: 1, elections: 1, claims: 2, vanishings: 1, ..NOTHING }, false, true, 14);
}

/// And a late call of a deposed leader, or of a lineage that is over, fills a slot that was filled since.
#[test]
fn a_fence_that_is_left_out_is_missed() {
    missed(Budget { deposals: 1, elections: 1, claims: 2, vanishings: 1, ..NOTHING }, true, false, 14);
    let lost = Budget { crashes: 2, elections: 2, claims: 2, recoveries: 1, ..NOTHING };
    missed(lost, true, false, 13);
}

/// And so does a leader that acts while another one has been elected.
#[test]
fn a_lease_that_is_left_out_is_missed() {
    let budget = Budget { deposals: 1, elections: 1, claims: 1, ..NOTHING };
    let protocol = Protocol { budget, guarded: true, fenced: true, leased: false };
    let checker = protocol.checker().threads(2).target_max_depth(10).spawn_bfs().join();
    let (_, path) =
        checker.discoveries().into_iter().find(|(name, _)| name.starts_with("I1,")).expect("it is missed");
    assert_eq!(path.last_state().broken, Some("I8, I9: two leaders may act at once"));
}
