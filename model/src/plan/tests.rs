//! Stories of the planner, told in the domain's words.

mod adoption;
mod backoff;
mod bounds;
mod evidence;
mod forecast;
mod health;
mod laws;
mod presence;
mod replacement;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::answer::{Admission, Answer, Denial};
use crate::command::{Change, Command, Declaration, Verb};
use crate::ids::{ClusterId, Generation, InstanceRef, LogId, LogIndex, RequestId};
use crate::intent::{Intent, Task};
use crate::limits::LONGEST_CALL;
use crate::observed::{Description, HealthSample, InstanceState, Seen, View};
use crate::part::{Opaque, Part};
use crate::plugin::{Guarantees, PluginClass};
use crate::report::{Claim, Fact, Report};
use crate::rollout::Phase;
use crate::spec::{GroupSpec, HealthGate, Template, Updating};
use crate::state::{Member, Occupied, State, Verdict};
use crate::{
    Actor, GroupId, Health, InstanceId, IntentId, LogicalId, Millis, ObjectKey, Outcome, Revision, Slot,
    Term, Timestamp, tags,
};

/// A group, the provider it lives on, and the clock, told in the domain's words.
#[derive(Clone)]
struct Story {
    state: State,
    index: u64,
    now: Timestamp,
    /// When the provider failed last.
    unbroken_since: Timestamp,
    /// How many fewer the provider lists, of all groups.
    shrunk_by: usize,
    observed: Observed,
    /// What is at the provider: instance id, tags, health.
    provider: Vec<(InstanceId, tags::Tags, Health)>,
    made: u32,
    /// What its plugin promises.
    guarantees: Guarantees,
    /// What its plugin says about whether they run.
    states: BTreeMap<InstanceId, InstanceState>,
    /// Of whom its plugin said that they are gone.
    said_gone: BTreeSet<InstanceId>,
    /// The logical id by which its plugin lists all of them.
    listed_as: Option<LogicalId>,
}

const TERM: Term = Term(1);
const CLUSTER: &str = "0123456789abcdef0123456789abcdef";

fn web() -> GroupId {
    GroupId::new("web")
}

fn spec(version: &str, allocation: Allocation) -> GroupSpec {
    let part = |plugin: &str, properties: String| Part {
        plugin: plugin.into(),
        properties: Opaque::from_json(properties),
    };
    GroupSpec {
        id: web(),
        allocation,
        template: Template {
            instance: part("simulator/compute", format!("{{\"image\":\"{version}\"}}")),
            flavor: part("vanilla", "null".into()),
        },
        updating: Updating::default(),
        healing: Default::default(),
    }
}

impl Story {
    fn new(spec: GroupSpec) -> Self {
        let mut story = Story {
            state: State {
                cluster: Some(ClusterId::new("0123456789abcdef0123456789abcdef")),
                lineages: 1.into(),
                level: crate::command::LEVEL,
                ..State::default()
            },
            index: 0,
            now: Timestamp(1_000_000),
            unbroken_since: Timestamp(0),
            shrunk_by: 0,
            observed: Observed::default(),
            provider: Vec::new(),
            made: 0,
            guarantees: Guarantees { class: PluginClass::A, lists_within: Some(Millis(0)) },
            states: BTreeMap::new(),
            said_gone: BTreeSet::new(),
            listed_as: None,
        };
        story.commit(spec);
        story
    }

    fn of(size: u32) -> Self {
        Self::new(spec("v1", Allocation::Size(size)))
    }

    fn apply(&mut self, change: Change) -> Answer {
        self.index += 1;
        let command =
            Command { id: RequestId(u128::from(self.index)), by: Actor("test".into()), at: self.now, change };
        let answer = self.state.apply(LogId { term: TERM, index: LogIndex(self.index) }, &command).answer;
        self.state.check().unwrap_or_else(|broken| panic!("{broken}: {:?}", self.state));
        answer
    }

    fn commit(&mut self, spec: GroupSpec) {
        let answer = self.apply(Change::Declare {
            items: vec![Declaration { spec: spec.into(), if_revision: None, unvalidated: false }],
        });
        assert!(matches!(answer, Answer::Committed(_)), "{answer:?}");
    }

    fn wants(mut self, version: &str, allocation: Allocation) -> Self {
        self.commit(spec(version, allocation));
        self
    }

    fn generation(&self, slot: &Slot) -> Generation {
        self.group().roster.get(slot).expect("the slot was held").generation
    }

    /// Who holds a slot.
    fn held_by(&self, slot: &Slot) -> Option<&Occupied> {
        self.group().roster.get(slot).and_then(Member::occupied)
    }

    fn group(&self) -> &GroupState {
        self.state.group(&web()).expect("the group is there")
    }

    /// A fresh look at the provider.
    fn look(&mut self) {
        let seen = self.provider.iter().map(|(id, tags, _)| {
            let state = self.states.get(id).cloned();
            let description = Arc::new(Description {
                id: id.clone(),
                logical_id: self.listed_as.clone(),
                tags: tags.clone(),
                properties: None,
                state,
            });
            let ours = tags.get(tags::OWNER).is_some_and(|owner| owner == CLUSTER);
            let bootstrap = tags.get(tags::CONFIG_HASH).is_some_and(|hash| hash == tags::BOOTSTRAP);
            let lost = tags.get(tags::INTENT).is_some_and(|token| token == LOST);
            (id.clone(), Seen { description, ours, intent: intent_of(tags), bootstrap, lost })
        });
        let by_intent = self.provider.iter().filter_map(|(id, tags, _)| Some((intent_of(tags)?, id.clone())));
        let view = View {
            taken_at: self.now,
            unbroken_since: self.unbroken_since,
            shrunk_by: self.shrunk_by,
            after: LogIndex(self.index),
            guarantees: self.guarantees,
            total: self.provider.len(),
            seen: seen.collect(),
            by_intent: by_intent.collect(),
            untagged: self
                .provider
                .iter()
                .filter(|(_, tags, _)| !tags.contains_key(tags::GROUP))
                .map(|(id, ..)| id.clone())
                .collect(),
            said_gone: self.said_gone.clone(),
            not_running: self.states.keys().cloned().collect(),
            ..View::default()
        };
        self.observed.bounds = self.state.bounds(LogIndex(self.index), &web());
        let plugin = self.group().template().template.instance.plugin.clone();
        let group = self.state.group(&web()).expect("the group is there").clone();
        see(&mut self.observed, &plugin, Arc::new(view), &group);
        let now = self.now;
        self.observed.health = self
            .provider
            .iter()
            .map(|(id, _, health)| {
                (
                    InstanceRef::from(id.as_str()),
                    HealthSample { health: *health, since: now, streak: 1, message: String::new() },
                )
            })
            .collect();
    }

    /// What the next plan writes.
    fn report(&self) -> Report {
        self.plan().report(&web(), (self.group().revision, self.group().target), TERM, [])
    }

    fn plan(&self) -> Plan {
        plan(self.group(), &self.observed, self.now)
    }

    /// Does what the plan says, everything coming true; false when there was nothing to do.
    fn step(&mut self) -> bool {
        self.now = self.now + Millis(1000);
        self.look();
        let plan = self.plan();
        let report = plan.report(&web(), (self.group().revision, self.group().target), TERM, []);
        if report.is_empty() {
            let listings_seen =
                |it: &Wait| matches!(it, Wait::Listing { .. } | Wait::Known { .. } | Wait::Missing { .. });
            return plan.waits.iter().any(listings_seen);
        }
        let claims = report.claims.len();
        let repeats = report.repeats.clone();
        let Answer::Admitted(admissions) = self.apply(Change::Report(report)) else {
            panic!("a round is answered so")
        };
        assert_eq!(admissions.len(), claims);
        for admission in admissions {
            let Admission::Granted(intent) = admission else {
                panic!("a plan is always admissible: {admission:?}")
            };
            self.perform(intent);
        }
        for intent in repeats {
            self.perform(intent);
        }
        true
    }

    fn perform(&mut self, id: IntentId) {
        let group = self.group();
        let intent = group.intents.get(&id).expect("it was granted").clone();
        let hash = group.template_of(intent.task.template()).hash.clone();
        let outcome = match &intent.task {
            Task::Provision { slot, .. } => {
                let known =
                    self.provider.iter().find(|(_, tags, _)| tags.get(tags::INTENT) == Some(&id.to_string()));
                let instance = match known {
                    Some((instance, ..)) => instance.clone(),
                    None => {
                        self.made += 1;
                        let instance = InstanceId::new(format!("i{:03}", self.made));
                        let tags = tags_of(&hash, Some(slot), Some(id));
                        self.provider.push((instance.clone(), tags, Health::Healthy));
                        instance
                    }
                };
                Outcome::Done(instance)
            }
            Task::Destroy { instance, .. } => {
                self.provider.retain(|(id, ..)| *id != instance.id);
                Outcome::Done(instance.id.clone())
            }
            Task::Label { instance, .. } => {
                for (_, tags, _) in self.provider.iter_mut().filter(|(id, ..)| id == instance) {
                    tags.insert(tags::CONFIG_HASH.into(), hash.clone());
                }
                Outcome::Done(instance.clone())
            }
        };
        let mut report = Report::new(ObjectKey::group(&web()), self.group().revision, TERM);
        report.facts.push(Fact::Outcome(id, outcome));
        self.apply(Change::Report(report));
    }

    fn settles(mut self) -> Self {
        for _ in 0..60 {
            if !self.step() {
                return self;
            }
        }
        panic!("it did not come to rest: {:?}\n{:?}", self.plan(), self.group());
    }

    /// Everything is as declared, at the provider as in the roster.
    fn is_as_declared(&self) {
        let group = self.group();
        let hash = &group.template().hash;
        let current: Vec<_> =
            self.provider.iter().filter(|(_, tags, _)| tags.get(tags::CONFIG_HASH) == Some(hash)).collect();
        assert_eq!(group.running(), group.desired(), "{group:?}");
        assert!(current.len() >= group.desired(), "{:?}", self.provider);
        assert_eq!(group.phase, Phase::Succeeded { at: group.target }, "{group:?}");
        let mut held: Vec<_> = group.members().collect();
        let count = held.len();
        held.sort();
        held.dedup();
        assert_eq!(held.len(), count, "no instance holds two slots");
        assert!(held.iter().all(|id| self.provider.iter().any(|(there, ..)| *there == id.id)), "no ghosts");
    }

    fn told(&self) -> Vec<String> {
        self.plan()
            .actions
            .iter()
            .map(|action| match action {
                Action::Provision { slot } => format!("create slot {slot}"),
                Action::Replace { slot } => format!("replace slot {slot}"),
                Action::Destroy { instance, reason, .. } => {
                    format!("destroy {instance}: {}", reason.as_str())
                }
                Action::Repeat { intent } => format!("repeat {intent}"),
                Action::Label { instance } => format!("label {instance}"),
            })
            .collect()
    }
}

/// The token of what an earlier lineage made and this one does not know.
const LOST: &str = "lost";

fn intent_of(tags: &tags::Tags) -> Option<IntentId> {
    let (index, offset) = tags.get(tags::INTENT)?.split_once('-')?;
    Some(IntentId { index: LogIndex(index.parse().ok()?), offset: offset.parse().ok()? })
}

fn tags_of(hash: &str, slot: Option<&Slot>, intent: Option<IntentId>) -> tags::Tags {
    let mut tags = tags::Tags::from([
        (tags::GROUP.to_owned(), "web".to_owned()),
        (tags::CONFIG_HASH.to_owned(), hash.to_owned()),
        (tags::OWNER.to_owned(), CLUSTER.to_owned()),
    ]);
    if let Some(slot) = slot {
        tags.insert(tags::SLOT.into(), slot.to_string());
        if let Slot::Logical(id) = slot {
            tags.insert(tags::LOGICAL_ID.into(), id.to_string());
        }
    }
    if let Some(intent) = intent {
        tags.insert(tags::INTENT.into(), intent.to_string());
    }
    tags
}

fn seed_of(slot: Option<&Slot>) -> tags::Tags {
    let mut seed = tags_of(tags::BOOTSTRAP, slot, None);
    seed.remove(tags::OWNER);
    seed
}

fn ids(names: &[&str]) -> Allocation {
    Allocation::LogicalIds(names.iter().map(|name| (*name).into()).collect())
}

#[test]
fn nothing_is_made_before_somebody_has_looked() {
    let mut story = Story::of(2);
    assert!(story.told().is_empty());
    assert!(matches!(story.plan().waits[0], Wait::Listing { .. }));
    story.look();
    assert_eq!(story.told(), ["create slot 0", "create slot 1"]);
}

#[test]
fn a_group_comes_true_and_then_rests() {
    let story = Story::of(3).settles();
    story.is_as_declared();
    assert!(story.plan().is_at_rest());
    assert!(story.report().is_empty(), "nothing is written when nothing changes");
}

#[test]
fn a_lost_member_is_replaced_in_its_slot_with_the_next_generation() {
    let mut story = Story::of(3).settles();
    story.provider.remove(1);
    let story = story.settles();
    story.is_as_declared();
    assert_eq!(story.generation(&Slot::Ordinal(1)), Generation(2));
    assert_eq!(story.generation(&Slot::Ordinal(0)), Generation(1));
}

#[test]
fn scaling_in_takes_the_sick_then_the_old_then_the_highest_slot() {
    let mut story = Story::of(4).settles();
    story.provider[2].2 = Health::Unhealthy;
    let mut story = story.wants("v1", Allocation::Size(2));
    story.look();
    assert_eq!(story.told(), ["destroy i003: terminate", "destroy i004: terminate"]);
    let story = story.settles().wants("v1", Allocation::Size(0)).settles();
    assert!(story.provider.is_empty());
    story.is_as_declared();
    let story = story.wants("v1", Allocation::Size(1)).settles();
    assert_eq!(story.generation(&Slot::Ordinal(0)), Generation(2), "the lowest free slot is used again");
}

#[test]
fn the_gate_waits_for_its_count_or_its_duration() {
    for (gate, listings_seen) in [(HealthGate::Count(3), 3), (HealthGate::Duration(Millis(2000)), 3)] {
        let mut describe_spec = spec("v2", Allocation::Size(2));
        describe_spec.updating.gate = gate;
        let mut story = Story::of(2).settles();
        story.commit(describe_spec);
        story.step(); // destroys the first
        story.step(); // makes its replacement
        story.step(); // ready
        let begun = story.now;
        for look in 1..=listings_seen {
            story.now = begun + Millis(1000 * (look - 1));
            story.look();
            for sample in story.observed.health.values_mut() {
                *sample = HealthSample {
                    health: Health::Healthy,
                    since: begun,
                    streak: look as u32,
                    message: String::new(),
                };
            }
            assert_eq!(story.told().is_empty(), look < listings_seen, "{gate:?} at look {look}");
        }
    }
}

#[test]
fn going_back_to_the_old_template_replaces_only_what_was_already_new() {
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
    story.step();
    story.step();
    story.step();
    let story = story.wants("v1", Allocation::Size(3)).settles();
    story.is_as_declared();
    assert!(story.provider.iter().any(|(id, ..)| id.as_str() == "i003"), "untouched members stay");
}

#[test]
fn changing_the_plugin_leaves_nobody_behind() {
    let mut story = Story::of(2).settles();
    let mut describe_spec = spec("v1", Allocation::Size(2));
    describe_spec.template.instance.plugin = "file".into();
    story.commit(describe_spec);
    story.look();
    let old = story.held_by(&Slot::Ordinal(0)).expect("it is held").template;
    assert_eq!(story.group().template_of(old).template.instance.plugin.as_str(), "simulator/compute");
    assert_eq!(
        story.told(),
        ["replace slot 0"],
        "by the new plugin, and the old one's is destroyed by the old"
    );
}

#[test]
fn pets_keep_their_names_and_no_other_stays() {
    let story = Story::new(spec("v1", ids(&["a", "b", "c"]))).settles();
    story.is_as_declared();
    let mut story = story.wants("v1", ids(&["c", "a", "d"]));
    story.look();
    assert_eq!(story.told(), ["destroy i002: terminate", "create slot d"]);
    let story = story.settles();
    story.is_as_declared();
    assert_eq!(story.made, 4);
}

#[test]
fn a_second_instance_of_a_pet_is_reported_and_never_destroyed() {
    let mut story = Story::new(spec("v1", ids(&["a"]))).settles();
    let hash = story.group().template().hash.clone();
    let duplicate = tags_of(&hash, Some(&Slot::Logical("a".into())), None);
    let mut foreign = duplicate.clone();
    foreign.remove(tags::OWNER);
    let mut other_cluster = duplicate.clone();
    other_cluster.insert(tags::OWNER.into(), "another".into());
    story.provider.push(("z-foreign".into(), foreign, Health::Healthy));
    story.provider.push(("z-twin".into(), duplicate, Health::Healthy));
    story.look();
    assert!(story.told().is_empty(), "which of the two is in use, an operator decides");
    let story = story.settles();
    let left: Vec<_> = story.provider.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(left, ["i001", "z-foreign", "z-twin"]);
    let plan = story.plan();
    assert_eq!(plan.strays, ["z-foreign".into(), "z-twin".into()]);
    assert!(
        matches!(&plan.anomalies[..], [Anomaly::SecondOfName { instance, .. }] if instance.as_str() == "z-twin")
    );
}

#[test]
fn an_open_intent_is_settled_by_its_token_and_never_doubled() {
    let mut story = Story::of(1);
    story.look();
    let report = story.report();
    let Answer::Admitted(granted) = story.apply(Change::Report(report)) else { panic!() };
    let Admission::Granted(intent) = granted[0] else { panic!() };
    // The leader died here. The next one finds nothing: the same intent, once more.
    story.look();
    assert_eq!(story.told(), [format!("repeat {intent}")]);
    // It had come true after all: the token on the instance says so.
    let hash = story.group().template().hash.clone();
    story.provider.push(("late".into(), tags_of(&hash, None, Some(intent)), Health::Healthy));
    let story = story.settles();
    story.is_as_declared();
    assert_eq!((story.provider.len(), story.made), (1, 0), "its plugin knows the token");
}

#[test]
fn a_plugin_that_does_not_know_tokens_is_asked_again_only_when_the_first_call_is_surely_over() {
    let mut story = Story::of(1);
    story.look();
    let report = story.report();
    story.apply(Change::Report(report));
    story.observed.leading_since = story.now;
    let begun = story.now;
    let told_at = |story: &mut Story, after: Millis| {
        story.now = begun + after;
        story.look();
        let view = story.observed.views.values_mut().next().expect("it was looked");
        Arc::make_mut(view).guarantees = Guarantees::default();
        story.told()
    };
    assert!(told_at(&mut story, Millis(0)).is_empty());
    assert!(told_at(&mut story, LONGEST_CALL.min(Millis(LONGEST_CALL.0 - 1))).is_empty());
    assert!(story.plan().wake_at.is_some(), "it will look again by itself");
    assert_eq!(told_at(&mut story, LONGEST_CALL).len(), 1);
}

#[test]
fn open_intents_are_repeated_even_when_no_more_may_be_opened() {
    let most = crate::limits::MOST_OPEN;
    let mut story = Story::of(most as u32);
    for _ in 0..2 {
        story.look();
        let report = story.report();
        story.apply(Change::Report(report));
        story.observed.in_flight = story.group().intents.keys().copied().collect();
    }
    assert_eq!(story.group().intents.len(), most, "every slot has an intent");
    // The leader dies, and its successor makes no call yet.
    story.observed.in_flight.clear();
    let story = story.settles();
    story.is_as_declared();
    assert_eq!(story.made as usize, most);
}

#[test]
fn members_of_unknown_origin_stay_known_when_the_plugin_changes() {
    let mut story = Story::of(2);
    for name in ["old1", "old2"] {
        story.provider.push((name.into(), tags_of("whatever", None, None), Health::Unhealthy));
    }
    story.step();
    assert_eq!(story.group().running(), 2, "both are adopted");
    let mut describe_spec = spec("v1", Allocation::Size(2));
    describe_spec.template.instance.plugin = "file".into();
    story.commit(describe_spec);
    let old = story.group().template_of(Revision(0));
    assert_eq!(
        old.template.instance.plugin.as_str(),
        "simulator/compute",
        "they are destroyed where they live"
    );
    let plan = story.plan();
    assert!(plan.gone.is_empty(), "another plugin's listing says nothing about them: {plan:?}");
}

#[test]
fn destroying_leaves_nothing_and_then_forgets_the_group() {
    let mut story = Story::of(3).settles();
    story.provider.push(("foreign".into(), tags::Tags::new(), Health::Healthy));
    story.apply(Change::Object { key: ObjectKey::group(&web()), verb: Verb::Destroy });
    for _ in 0..5 {
        if story.state.group(&web()).is_none() {
            break;
        }
        story.step();
    }
    assert!(story.state.group(&web()).is_none());
    assert_eq!(story.provider.len(), 1, "only the foreign one is left");
}
