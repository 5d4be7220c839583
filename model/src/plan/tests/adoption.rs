//! Instances that are there before anybody made them.

use super::*;
use crate::command::{StrayFate, Strays};
use crate::observed::Backoff;
use crate::report::{Fact, Report};
use crate::state::Member;
use crate::{Health, InstanceId, InstanceRef, Millis, ObjectKey, Outcome, PluginName, Refusal, Slot};

#[test]
fn instances_that_are_there_already_fill_the_slots_first() {
    let mut story = Story::of(3);
    let hash = story.group().template().hash.clone();
    let mut seed = tags_of(tags::BOOTSTRAP, None, None);
    seed.remove(tags::OWNER);
    story.provider.push(("seed".into(), seed, Health::Healthy));
    story.provider.push(("freed".into(), tags_of(&hash, Some(&Slot::Ordinal(2)), None), Health::Healthy));
    let story = story.settles();
    story.is_as_declared();
    assert_eq!((story.provider.len(), story.made), (3, 1));
    let instance = &story.held_by(&Slot::Ordinal(2)).expect("it is held").instance;
    assert_eq!(instance.id.as_str(), "freed", "it keeps the slot it had");
}

#[test]
fn a_look_from_before_the_last_change_makes_nothing_where_a_seed_may_belong() {
    let mut story = Story::of(3);
    let hash = story.group().template().hash.clone();
    story.provider.push(("adopted".into(), tags_of(&hash, None, None), Health::Healthy));
    story.provider.push(("seed".into(), seed_of(None), Health::Healthy));
    story.look();
    assert_eq!(story.told(), ["label seed", "create slot 2"]);
    // The label does not come through, and the adoption is newer than the look.
    let report = story.report();
    let Answer::Admitted(granted) = story.apply(Change::Report(report)) else { panic!() };
    let Admission::Granted(intent) = granted[1] else { panic!() };
    story.perform(intent);
    let Admission::Granted(label) = granted[0] else { panic!() };
    story.observed.in_flight.insert(label);
    assert!(story.told().is_empty(), "{:?}", story.told());
    let waits_for_a_look = |waiting: &Wait| matches!(waiting, Wait::Listing { .. });
    assert!(story.plan().waits.iter().any(waits_for_a_look), "{:?}", story.plan().waits);
    // Nor is it known whether it came through at all: it is tried again.
    story.observed.in_flight.clear();
    story.look();
    assert_eq!(story.told(), [format!("repeat {label}")]);
    let story = story.settles();
    story.is_as_declared();
    assert_eq!((story.provider.len(), story.made), (3, 1));
}

#[test]
fn a_label_that_was_refused_is_tried_again_after_a_pause() {
    let mut story = Story::of(1);
    story.provider.push(("seed".into(), seed_of(None), Health::Healthy));
    story.look();
    let report = story.report();
    let Answer::Admitted(granted) = story.apply(Change::Report(report)) else { panic!() };
    let Admission::Granted(intent) = granted[0] else { panic!() };
    let refused = Outcome::Refused { message: "read-only".into(), retryable: true };
    story.apply(Change::Report(
        Report::new(ObjectKey::group(&web()), story.group().revision, TERM)
            .with_facts([Fact::Outcome(intent, refused)]),
    ));
    let until = story.now + Millis(2000);
    story.observed.held_off.insert(
        "seed".into(),
        Backoff {
            since: story.now,
            failures: 1,
            template: story.group().target,
            until,
            message: "read-only".into(),
        },
    );
    story.look();
    assert!(story.told().is_empty());
    assert!(matches!(&story.plan().waits[0], Wait::Label { .. }), "{:?}", story.plan().waits);
    assert_eq!(story.plan().wake_at, Some(until));
    story.now = until;
    assert_eq!(story.told(), ["label seed"]);
}

/// Instances that are ours and hold no slot, made from `hash`.
fn strays(story: &mut Story, hash: &str, names: &[&str]) {
    for name in names {
        story.provider.push(((*name).into(), tags_of(hash, None, None), Health::Healthy));
    }
}

#[test]
fn a_rollout_beside_strays_takes_nobody_while_somebody_is_missing() {
    let mut story = Story::of(3).settles();
    strays(&mut story, "whatever", &["s1", "s2", "s3"]);
    let mut story = story.wants("v2", Allocation::Size(3));
    let mut rolls = 0;
    for _ in 0..60 {
        let well = |story: &Story| {
            let there = |it: &InstanceRef| story.provider.iter().any(|(known, ..)| *known == it.id);
            story.group().members().filter(|id| there(id)).count()
        };
        // Once more without a new look, as it happens when an answer comes: what it shows is old now.
        let plan = story.plan();
        rolls += plan.actions.iter().filter(|it| matches!(it, Action::Destroy { .. })).count();
        if plan.actions.iter().any(|it| matches!(it, Action::Destroy { .. })) {
            assert!(well(&story) >= 3, "nobody is taken while somebody is missing");
        }
        if !story.step() {
            break;
        }
        assert!(well(&story) >= 2, "at most one is missing at a time: {:?}", story.group().roster);
    }
    assert!(rolls > 0, "it was looked at in between");
    let story = story.settles();
    assert_eq!(story.group().running(), 3);
    assert_eq!(story.group().phase, Phase::Succeeded { at: story.group().target });
    let target = story.group().target;
    assert!(story.group().roster.values().flat_map(Member::instances).all(|it| it.template == target));
}

#[test]
fn members_of_another_template_that_are_taken_in_are_replaced() {
    let mut story = Story::of(3);
    strays(&mut story, "whatever", &["s1", "s2", "s3"]);
    assert!(story.plan().replaced.is_none(), "nobody has looked yet");
    let story = story.settles();
    story.is_as_declared();
    assert_eq!(story.made, 3, "each was taken in, and replaced");
    // And one that comes when everything is done already.
    let mut story = story;
    story.provider.remove(0);
    strays(&mut story, "whatever", &["late"]);
    let story = story.settles();
    story.is_as_declared();
    assert!(story.provider.iter().all(|(id, ..)| id.as_str() != "late"));
}

#[test]
fn an_instance_with_an_unknown_fingerprint_is_adopted_and_then_replaced() {
    let mut story = Story::of(1);
    story.provider.push(("old".into(), tags_of("whatever", None, None), Health::Healthy));
    let story = story.settles();
    story.is_as_declared();
    assert_eq!(story.provider.len(), 1);
    assert_eq!(story.provider[0].0.as_str(), "i001");
}

/// An instance of another cluster, whose group has the same name.
fn made_by_another(story: &mut Story, name: &str) {
    let mut theirs = tags_of(&story.group().template().hash.clone(), None, None);
    theirs.insert(tags::OWNER.into(), "another".into());
    story.provider.push((name.into(), theirs, Health::Healthy));
}

/// What an operator says about strays comes to this.
fn word(story: &Story, names: &[&str], fate: StrayFate) -> Result<Change, NoStray> {
    let named: BTreeSet<InstanceId> = names.iter().map(InstanceId::new).collect();
    word_on_strays(&web(), story.group(), &story.observed, &story.plan(), &named, fate).map(Change::Strays)
}

#[test]
fn strays_are_destroyed_when_an_operator_says_so_and_only_those() {
    let mut story = Story::of(2).settles();
    strays(&mut story, "whatever", &["s1", "s2", "s3"]);
    story = story.settles();
    assert_eq!(story.provider.len(), 5, "nobody destroys them by itself");
    story.look();
    let unknown = word(&story, &["s1", "i001"], StrayFate::Destroyed);
    assert_eq!(unknown, Err(NoStray::Unknown("i001".into())), "a member is no stray");
    let change = word(&story, &["s1", "s3"], StrayFate::Destroyed).expect("they are");
    assert_eq!(story.apply(change.clone()), Answer::Done);
    assert_eq!(story.apply(change), Answer::Done, "saying it twice changes nothing");
    // A drain is refused for a while: what an operator gave up stays given up.
    story.look();
    let (at, message) = (story.now + Millis::seconds(20), "busy".to_owned());
    for name in ["s1", "s3"] {
        story.observed.held_off.insert(
            name.into(),
            Backoff {
                since: story.now,
                failures: 1,
                template: story.group().target,
                until: at,
                message: message.clone(),
            },
        );
    }
    assert!(story.plan().actions.is_empty(), "{:?}", story.plan());
    assert_eq!(story.plan().strays.len(), 3, "and is a stray until it is gone");
    story.now = at;
    let mut story = story.settles();
    assert_eq!(story.provider.len(), 3, "the third stays");
    story.look();
    let change = word(&story, &[], StrayFate::Destroyed).expect("all that are left");
    assert_eq!(story.apply(change), Answer::Done);
    let story = story.settles();
    assert_eq!((story.provider.len(), story.made), (2, 2));
    story.is_as_declared();
}

#[test]
fn strays_are_adopted_when_an_operator_says_so_and_there_is_room() {
    let mut story = Story::of(2).settles();
    // Nobody takes what another cluster made by itself.
    made_by_another(&mut story, "odd");
    let mut story = story.settles();
    story.look();
    assert_eq!(word(&story, &["odd"], StrayFate::Adopted), Err(NoStray::NoSlot("odd".into())));
    story.provider.remove(0);
    told_for_a_while(&mut story);
    let change = word(&story, &["odd"], StrayFate::Adopted).expect("a member is lost");
    assert_eq!(story.apply(change.clone()), Answer::Done);
    assert!(matches!(story.apply(change), Answer::Refused(Refusal::NotAStray { .. })), "it is a member");
    let story = story.settles();
    assert_eq!((story.provider.len(), story.made), (2, 2), "nobody else was made");
    assert!(story.group().members().any(|it| it.id.as_str() == "odd"));
}

/// Until a lost member is known to be lost, and nobody is made in its place yet.
fn told_for_a_while(story: &mut Story) {
    for _ in 0..10 {
        story.now = story.now + Millis(1000);
        story.look();
        let plan = story.plan();
        if !plan.gone.is_empty() {
            let report = Report::new(ObjectKey::group(&web()), story.group().revision, TERM);
            let gone = plan.gone.into_iter().map(|(slot, instance)| Fact::Gone { slot, instance });
            story.apply(Change::Report(report.with_facts(gone)));
            story.look();
            return;
        }
    }
    panic!("it is lost by now");
}

#[test]
fn strays_of_other_clusters_and_of_members_that_another_plugin_lists_are_left_alone() {
    let mut story = Story::of(2).settles();
    made_by_another(&mut story, "theirs");
    let mut story = story.settles();
    story.look();
    assert_eq!(story.plan().strays, [InstanceRef::from("theirs")]);
    let named = word(&story, &["theirs"], StrayFate::Destroyed);
    assert_eq!(named, Err(NoStray::AnotherClusters("theirs".into())));
    let all = word(&story, &[], StrayFate::Destroyed);
    assert!(matches!(all, Ok(Change::Strays(Strays { items, .. })) if items.is_empty()));
    // Another plugin serves the same provider, and its listing has a member that the first one lacks.
    let (other, first) = (PluginName::new("other"), PluginName::new("simulator/compute"));
    let view = story.observed.views[&first].clone();
    story.observed.views.insert(other, view);
    let without = |story: &Story| {
        let mut view = (*story.observed.views[&first]).clone();
        view.seen.retain(|id, _| id.as_str() != "i001");
        view
    };
    let lacking = without(&story);
    story.observed.views.insert(first, std::sync::Arc::new(lacking));
    let plan = story.plan();
    let ids: Vec<&str> = plan.strays.iter().map(|it| it.id.as_str()).collect();
    assert!(!ids.contains(&"i001") && !ids.contains(&"i002"), "{ids:?}");
}

#[test]
fn an_operator_adopts_while_a_group_is_paused() {
    let mut story = Story::of(2).settles();
    made_by_another(&mut story, "theirs");
    let key = ObjectKey::group(&web());
    story.apply(Change::Object { key: key.clone(), verb: Verb::Pause });
    let mut story = story.wants("v1", Allocation::Size(3));
    story.look();
    assert!(story.told().is_empty(), "it is paused");
    let change = word(&story, &["theirs"], StrayFate::Adopted).expect("there is room");
    assert_eq!(story.apply(change), Answer::Done);
    story.apply(Change::Object { key, verb: Verb::Resume });
    let story = story.settles();
    assert_eq!((story.provider.len(), story.made), (3, 2));
}
