//! What there is in one history: what the managers agree on, who is up, what is on its way, what the provider has.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use model::command::{Declaration, LEVEL, Manager, MemberRole, Program};
use model::intent::Task;
use model::membership::{MembershipView, Step};
use model::quorum::{fault_tolerance, majority};
use model::report::{Fact, Report};
use model::state::{Incarnation, Member, Occupied};
use model::{
    Actor, Allocation, Answer, Change, Command, GroupSpec, InstanceId, IntentId, LogId, NodeId, ObjectKey,
    Opaque, Outcome, Part, Phase, RequestId, Revision, Slot, State, Template, Term, Timestamp, Updating,
};

/// How much may go wrong and be wished for in one history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) crashes: u8,
    pub(crate) deposals: u8,
    pub(crate) elections: u8,
    pub(crate) joins: u8,
    pub(crate) wishes: u8,
    pub(crate) claims: u8,
    pub(crate) dooms: u8,
    pub(crate) vanishings: u8,
    pub(crate) recoveries: u8,
    pub(crate) commits: u8,
}

/// What the managers agree on. Two histories that lead to the same are one.
#[derive(Clone)]
pub(crate) struct Agreed(Arc<(State, u64)>);

impl Agreed {
    pub(crate) fn new(state: State) -> Self {
        let mut hasher = std::hash::DefaultHasher::new();
        // What was answered to whom is no part of what follows.
        let parts = (&state.groups, &state.managers, &state.learners, &state.removed, &state.lineages);
        format!("{parts:?}").hash(&mut hasher);
        Self(Arc::new((state, hasher.finish())))
    }

    pub(crate) fn state(&self) -> &State {
        &self.0.0
    }
}

impl Hash for Agreed {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.1.hash(hasher);
    }
}

impl PartialEq for Agreed {
    fn eq(&self, other: &Self) -> bool {
        self.0.1 == other.0.1
    }
}

impl std::fmt::Debug for Agreed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        let groups: Vec<_> =
            state.groups.values().map(|it| (&it.roster, it.intents.keys().collect::<Vec<_>>())).collect();
        write!(f, "{groups:?} {:?} {:?}", state.managers.keys().collect::<Vec<_>>(), state.learners)
    }
}

/// A call to the provider that is on its way: it may take effect at any time, or be lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) intent: IntentId,
    pub(crate) lineage: u32,
    pub(crate) term: u64,
    pub(crate) does: Does,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Does {
    Make(u32),
    /// An instance that is to take its slot over.
    Replace(u32),
    Unmake(String),
}

/// An instance at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    pub(crate) token: Option<IntentId>,
    pub(crate) slot: u32,
}

#[derive(Debug, Clone, PartialEq, Hash)]
pub(crate) struct World {
    pub(crate) agreed: Agreed,
    /// What they agreed on before the last entry.
    pub(crate) before: Option<Agreed>,
    /// Whether the present leader has looked at the provider.
    pub(crate) looked: bool,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) sets: Vec<BTreeSet<NodeId>>,
    pub(crate) members: BTreeSet<NodeId>,
    pub(crate) up: BTreeSet<NodeId>,
    /// Learners that have caught up.
    pub(crate) ready: BTreeSet<NodeId>,
    /// Who leads, and holds the lease.
    pub(crate) leader: Option<NodeId>,
    /// A leader that was cut off and may act still: its term, and the intents that it knows to be open.
    pub(crate) cut_off: Option<(u64, BTreeMap<IntentId, Does>)>,
    pub(crate) calls: BTreeSet<Call>,
    /// What the present leader was answered, and has not reported.
    pub(crate) answered: BTreeMap<IntentId, String>,
    /// What the present leader has called for.
    pub(crate) called: BTreeSet<IntentId>,
    pub(crate) cloud: BTreeMap<String, Instance>,
    /// The latest lineage and term that the provider has heard of.
    pub(crate) fence: (u32, u64),
    pub(crate) left: Budget,
    /// Whether an intent whose own call is under way is left alone by looks.
    pub(crate) guarded: bool,
    /// Whether the provider keeps out whoever led before.
    pub(crate) fenced: bool,
    /// Whether nobody is elected before the lease of the last leader has run out.
    pub(crate) leased: bool,
    /// Everything that was ever granted, and what is over.
    pub(crate) granted: BTreeMap<IntentId, Does>,
    pub(crate) closed: BTreeSet<IntentId>,
    /// Every disk that ever had an id.
    pub(crate) disks: BTreeMap<NodeId, String>,
    /// The first promise that a step broke.
    pub(crate) broken: Option<&'static str>,
}

pub(crate) fn manager(n: u64) -> Manager {
    Manager {
        name: format!("m{n}"),
        address: format!("m{n}:1"),
        storage: format!("disk{n}"),
        // The second runs on a member of the group that it manages.
        instance: (n == 2).then(|| "host".into()),
        program: Program { version: String::new(), level: LEVEL },
    }
}

pub(crate) fn spec() -> GroupSpec {
    let part = |plugin: &str| Part { plugin: plugin.into(), properties: Opaque::null() };
    GroupSpec {
        id: "web".into(),
        allocation: Allocation::Size(2),
        template: Template { instance: part("p"), flavor: part("f") },
        updating: Updating::default(),
        healing: Default::default(),
    }
}

impl World {
    pub(crate) fn new(left: Budget, guarded: bool, fenced: bool, leased: bool) -> Self {
        let mut world = World {
            agreed: Agreed::new(State::default()),
            before: None,
            looked: true,
            index: 0,
            term: 1,
            sets: Vec::new(),
            members: BTreeSet::new(),
            up: BTreeSet::new(),
            ready: BTreeSet::new(),
            leader: None,
            cut_off: None,
            calls: BTreeSet::new(),
            answered: BTreeMap::new(),
            called: BTreeSet::new(),
            cloud: BTreeMap::from([("host".to_owned(), Instance { token: None, slot: 0 })]),
            fence: (1, 1),
            left,
            guarded,
            fenced,
            leased,
            granted: BTreeMap::new(),
            closed: BTreeSet::new(),
            disks: BTreeMap::new(),
            broken: None,
        };
        world.write(Change::Bootstrap {
            cluster: "c".into(),
            lineage: 1,
            manager: manager(1),
            authority: None,
        });
        world.write(Change::Join { manager: manager(2), token: None });
        world.write(Change::Join { manager: manager(3), token: None });
        let item = Declaration { spec: spec().into(), if_revision: None, unvalidated: false };
        world.write(Change::Declare { items: vec![item] });
        let host = model::report::Adoption {
            slot: Slot::Ordinal(0),
            instance: "host".into(),
            template: Revision(1),
        };
        let adopted = world.report().with_facts([Fact::Adopted(host)]);
        world.write(Change::Report(adopted));
        let voters: BTreeSet<NodeId> = world.state().managers.keys().copied().collect();
        (world.members, world.up) = (voters.clone(), voters.clone());
        world.leader = voters.first().copied();
        world.sets = vec![voters];
        world
    }

    pub(crate) fn state(&self) -> &State {
        self.agreed.state()
    }

    pub(crate) fn lineage(&self) -> u32 {
        self.state().lineages.now
    }

    pub(crate) fn report(&self) -> Report {
        let revision = self.state().groups.values().next().map_or(Revision(1), |group| group.revision);
        Report::new(ObjectKey::group(&"web".into()), revision, Term(self.term))
    }

    /// The leader proposes; whoever leads has a majority.
    pub(crate) fn write(&mut self, change: Change) -> Answer {
        let mut state = self.state().clone();
        let before: BTreeSet<IntentId> = self.open().into_keys().collect();
        let log = LogId { term: Term(self.term), index: model::LogIndex(self.index + 1) };
        let command = Command {
            id: RequestId(u128::from(self.index + 1)),
            by: Actor("model".into()),
            at: Timestamp(0),
            change,
        };
        let mut other = self.state().clone();
        let (answer, others) = (state.apply(log, &command).answer, other.apply(log, &command).answer);
        if (&state, &answer) != (&other, &others) {
            self.break_promise("I11: two replicas differ after the same entry");
        }
        for (id, before) in &self.state().groups.clone() {
            let after = state.groups.get(id);
            let reached = |phase: &Phase| (phase.target(), phase.is_over());
            let goes_on = after.is_none_or(|after| {
                after.revision >= before.revision && reached(&after.phase) >= reached(&before.phase)
            });
            if !goes_on {
                self.break_promise("I12: a rollout went back");
            }
        }
        let agreed = Agreed::new(state);
        if agreed == self.agreed {
            return answer;
        }
        self.index += 1;
        self.before = Some(std::mem::replace(&mut self.agreed, agreed));
        for (id, manager) in self.state().managers.clone() {
            let known = self.disks.entry(id).or_insert_with(|| manager.storage.clone());
            if *known != manager.storage {
                self.break_promise("I6: an id was given to another disk");
            }
        }
        let open = self.open();
        for (id, does) in &open {
            if self.granted.insert(*id, does.clone()).is_some_and(|was| was != *does)
                || self.closed.contains(id)
            {
                self.break_promise("I10: an intent was opened twice, or became another");
            }
        }
        for id in before.into_iter().filter(|id| !open.contains_key(id)) {
            if !self.closed.insert(id) {
                self.break_promise("I10: an intent was closed twice");
            }
        }
        answer
    }

    pub(crate) fn break_promise(&mut self, which: &'static str) {
        self.broken.get_or_insert(which);
    }

    pub(crate) fn open(&self) -> BTreeMap<IntentId, Does> {
        let Some(group) = self.state().groups.values().next() else { return BTreeMap::new() };
        let takes_over = |id: IntentId| {
            group.roster.values().any(|it| it.incoming.as_deref() == Some(&Incarnation::Pending(id)))
        };
        let does = |id: IntentId, task: &Task| match task {
            Task::Provision { slot: Slot::Ordinal(slot), .. } if takes_over(id) => Does::Replace(*slot),
            Task::Provision { slot: Slot::Ordinal(slot), .. } => Does::Make(*slot),
            Task::Destroy { instance, .. } => Does::Unmake(instance.to_string()),
            other => unreachable!("nobody asks for {other:?}"),
        };
        // What it was granted for it remains, though the one that it was to replace may be gone.
        let granted =
            |id: IntentId, task: &Task| self.granted.get(&id).cloned().unwrap_or_else(|| does(id, task));
        group.intents.iter().map(|(id, intent)| (*id, granted(*id, &intent.task))).collect()
    }

    /// Who holds each slot.
    pub(crate) fn holders(&self) -> BTreeMap<u32, Member> {
        let Some(group) = self.state().groups.values().next() else { return BTreeMap::new() };
        let ordinal = |slot: &Slot| match slot {
            Slot::Ordinal(n) => *n,
            Slot::Logical(_) => unreachable!("they are cattle"),
        };
        group.roster.iter().map(|(slot, member)| (ordinal(slot), member.clone())).collect()
    }

    pub(crate) fn has_majority(&self, sets: &[BTreeSet<NodeId>]) -> bool {
        sets.iter().all(|set| set.intersection(&self.up).count() >= majority(set.len()))
    }

    pub(crate) fn view(&self, silent: bool) -> MembershipView {
        let voters: BTreeSet<NodeId> = self.sets.iter().flatten().copied().collect();
        MembershipView {
            sets: self.sets.clone(),
            members: self.members.clone(),
            reached: self.members.intersection(&self.up).copied().collect(),
            ready: self.ready.intersection(&self.up).copied().filter(|id| !voters.contains(id)).collect(),
            silent: if silent { voters.difference(&self.up).copied().collect() } else { BTreeSet::new() },
        }
    }

    pub(crate) fn leads_no_more(&mut self) {
        self.leader = None;
        self.looked = false;
        self.answered.clear();
        self.called.clear();
    }

    /// One step of the leader for its members.
    pub(crate) fn keep(&mut self, me: NodeId, silent: bool) -> bool {
        let view = self.view(silent);
        let Ok(step) = view.next(self.state(), me) else { return false };
        match step {
            Step::Rest => return false,
            Step::SetVoters(desired) => {
                let works = self.has_majority(&self.sets);
                let was_joint = self.sets.len() > 1;
                // As openraft goes: by a joint set, or out of one that has it.
                let last = self.sets.last().expect("there are voters").clone();
                let next =
                    if self.sets.contains(&desired) { vec![desired.clone()] } else { vec![last, desired] };
                if !works {
                    self.break_promise("I5: a change of the voters was begun without a majority");
                }
                if was_joint && next.len() > 1 && !next[1].is_subset(&self.state().voters().collect()) {
                    self.break_promise(
                        "I5: another change was begun before one was ended, and nobody asked for it",
                    );
                }
                if !self.has_majority(&next) {
                    self.break_promise("I7: the leader's own step lost the majority");
                }
                self.members.extend(next.iter().flatten().copied());
                self.sets = next;
                self.ready.retain(|id| !self.sets.iter().any(|set| set.contains(id)));
            }
            Step::HandOver(among) => {
                let next = among.iter().find(|id| **id != me && self.up.contains(*id)).copied();
                let Some(next) = next.filter(|_| self.left.elections > 0) else { return false };
                self.leads_no_more();
                self.elect(next);
            }
            Step::AddLearner(id) => drop(self.members.insert(id)),
            Step::GiveUp(dead) => {
                let voters = view.voters();
                let without: BTreeSet<NodeId> = voters.difference(&dead).copied().collect();
                if fault_tolerance(&without, &view.reached) < fault_tolerance(&voters, &view.reached) {
                    self.break_promise("I7: the cluster bears less after giving somebody up");
                }
                self.write(Change::SetMemberRole {
                    nodes: dead.into_iter().collect(),
                    role: MemberRole::Removed,
                });
            }
            Step::Drop(gone) => {
                if gone.iter().any(|id| self.sets.iter().any(|set| set.contains(id))) {
                    self.break_promise("I5: a voter was dropped");
                }
                self.members.retain(|id| !gone.contains(id));
                self.ready.retain(|id| !gone.contains(id));
            }
        }
        true
    }

    pub(crate) fn elect(&mut self, who: NodeId) {
        self.left.elections -= 1;
        self.term += 1;
        self.leader = Some(who);
    }

    /// What the leader's look at the provider tells, reported at once.
    pub(crate) fn list(&mut self) {
        self.fence = self.fence.max((self.lineage(), self.term));
        self.looked = true;
        let mut report = self.report();
        for (id, does) in self.open() {
            // Its own call is under way: whatever a look shows, the call may do something yet (model/src/plan/settle.rs).
            let under_way = self
                .calls
                .iter()
                .any(|it| it.intent == id && (it.lineage, it.term) == (self.lineage(), self.term))
                || self.answered.contains_key(&id);
            if under_way && self.guarded {
                continue;
            }
            match does {
                Does::Make(_) | Does::Replace(_) => {
                    let made = self.cloud.iter().find(|(_, it)| it.token == Some(id));
                    if let Some((instance, _)) = made {
                        report.facts.push(Fact::Outcome(id, Outcome::Done(InstanceId::new(instance))));
                    }
                }
                Does::Unmake(instance) if !self.cloud.contains_key(&instance) => {
                    report.facts.push(Fact::Outcome(id, Outcome::Done(InstanceId::new(instance))));
                }
                Does::Unmake(_) => {}
            }
        }
        for (slot, member) in self.holders() {
            for Occupied { instance, .. } in member.instances() {
                if !self.cloud.contains_key(instance.id.as_str())
                    && !self.open().values().any(|it| *it == Does::Unmake(instance.to_string()))
                {
                    report.facts.push(Fact::Gone { slot: Slot::Ordinal(slot), instance: instance.clone() });
                }
            }
        }
        // What an entry that was lost had made fills its place.
        let known: BTreeSet<String> = self.running();
        for (id, instance) in self.cloud.iter().filter(|(id, _)| !known.contains(*id)) {
            let told = report.outcomes().any(|(_, it)| *it == Outcome::Done(InstanceId::new(id)));
            let awaited = self.open().keys().any(|intent| instance.token == Some(*intent));
            let empty = self.is_free(instance.slot);
            if !told && !awaited && empty {
                let (slot, instance) = (Slot::Ordinal(instance.slot), InstanceId::new(id));
                let adoption = model::report::Adoption { slot, instance, template: Revision(1) };
                report.facts.push(Fact::Adopted(adoption));
            }
        }
        if !report.is_empty() {
            self.write(Change::Report(report));
        }
    }

    /// The instances that hold a slot.
    pub(crate) fn running(&self) -> BTreeSet<String> {
        let holders = self.holders();
        holders.values().flat_map(Member::instances).map(|it| it.instance.to_string()).collect()
    }

    pub(crate) fn is_free(&self, slot: u32) -> bool {
        self.holders().get(&slot).is_none_or(Member::is_free)
    }

    pub(crate) fn takes_effect(&mut self, call: &Call) {
        self.calls.remove(call);
        match self.granted.get(&call.intent) {
            Some(does) if *does == call.does => {}
            _ => self.break_promise("I1: an effect without an intent"),
        }
        // The plugin knows tokens, and who led last (class A, with a fence).
        if (call.lineage, call.term) < self.fence && self.fenced {
            return;
        }
        self.fence = (call.lineage, call.term);
        let answer = match &call.does {
            Does::Make(slot) | Does::Replace(slot) => {
                let made =
                    self.cloud.iter().find(|(_, it)| it.token == Some(call.intent)).map(|(id, _)| id.clone());
                made.unwrap_or_else(|| {
                    let id = format!("i{}", call.intent);
                    self.cloud.insert(id.clone(), Instance { token: Some(call.intent), slot: *slot });
                    id
                })
            }
            Does::Unmake(instance) => {
                let hosts =
                    self.state().managers.iter().find(|(_, it)| {
                        it.instance.as_ref().is_some_and(|host| host.id.as_str() == instance)
                    });
                if hosts.is_some() {
                    self.break_promise("I4: the machine of a manager was destroyed");
                }
                self.cloud.remove(instance);
                instance.clone()
            }
        };
        if self.leader.is_some() && (call.lineage, call.term) == (self.lineage(), self.term) {
            self.answered.insert(call.intent, answer);
        }
    }
}
