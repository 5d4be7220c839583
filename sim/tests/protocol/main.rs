//! The protocol of members and intents, explored: every order of what managers, operators, providers and faults do,
//! as far as a budget goes, around the real `State::apply` and the real membership policy (ha-raft §4.3).
//!
//! Three managers, two slots. What Raft promises is taken for granted here, one leader a term and one log. What is
//! looked at is what stands on them: who may become a voter, what is admitted, who may act, what late calls do. The
//! planner is not in it, only the few rules of it that are repeated in `world` with their places; the simulation has
//! the planner.

mod acts;
mod calm;
mod steps;
mod world;

use std::hash::{Hash, Hasher};

use acts::Act;
use stateright::{Checker, Model, Property};
use world::{Budget, Does, Instance, World};

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
        world.acts(acts);
    }

    fn next_state(&self, before: &World, act: Act) -> Option<World> {
        let mut world = before.clone();
        world.step(act)?;
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
