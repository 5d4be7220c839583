//! Members that lose their tags, stop, are missing for a while or come back, and instances that are half made.

use super::*;
use crate::limits::{NAMED_GONE, UNPROMISED_LAG};
use crate::observed::Unsure;
use crate::{InstanceRef, RunStatus};

fn pets() -> Story {
    Story::new(spec("v1", Allocation::LogicalIds(vec!["a".into(), "b".into(), "c".into()]))).settles()
}

/// One slot is claimed, and nobody makes its instance yet. The intent, and the fingerprint that the instance is to have.
fn claims_one(story: &mut Story) -> (IntentId, String) {
    story.look();
    let report = story.report();
    let Answer::Admitted(admissions) = story.apply(Change::Report(report)) else { panic!() };
    let [Admission::Granted(intent)] = admissions[..] else { panic!("{admissions:?}") };
    (intent, story.group().template().hash.clone())
}

/// Looks every second for this long; what was planned in between.
fn told_for(story: &mut Story, time: Millis) -> Vec<String> {
    let until = story.now + time;
    let mut told = Vec::new();
    while story.now < until {
        story.now = story.now + Millis(1000);
        story.look();
        told.extend(story.told());
        let report = story.report();
        if !report.is_empty() && report.claims.is_empty() {
            story.apply(Change::Report(report));
        }
    }
    told
}

#[test]
fn who_is_listed_is_there_whatever_its_tags_say() {
    for mut story in [pets(), Story::of(3).settles()] {
        let tags: Vec<_> = story.provider.iter().map(|(_, tags, _)| tags.clone()).collect();
        story.provider.iter_mut().for_each(|(_, tags, _)| tags.clear());
        assert!(told_for(&mut story, Millis::seconds(60)).is_empty());
        let plan = story.plan();
        assert!(plan.gone.is_empty(), "{plan:?}");
        assert!(matches!(&plan.anomalies[..], [Anomaly::TagsLost { members: 3, .. }]), "{plan:?}");
        story.provider.iter_mut().zip(tags).for_each(|(it, tags)| it.1 = tags);
        let mut story = story.settles();
        story.look();
        story.is_as_declared();
        assert!(story.plan().anomalies.is_empty() && story.made == 3);
    }
}

#[test]
fn where_tags_are_lost_an_open_intent_is_not_made_again() {
    let mut story = Story::of(2).settles();
    story.guarantees = Guarantees { class: PluginClass::C, lists_within: Some(Millis(0)) };
    story.commit(spec("v1", Allocation::Size(3)));
    let (intent, hash) = claims_one(&mut story);
    // It was made, nobody heard of it, and the tags of all are gone.
    story.provider.push((
        "late".into(),
        tags_of(&hash, Some(&Slot::Ordinal(2)), Some(intent)),
        Health::Healthy,
    ));
    let tags: Vec<_> = story.provider.iter().map(|(_, tags, _)| tags.clone()).collect();
    story.provider.iter_mut().for_each(|(_, tags, _)| tags.clear());
    assert!(told_for(&mut story, Millis::seconds(120)).is_empty(), "a second one is not made");
    story.provider.iter_mut().zip(tags).for_each(|(it, tags)| it.1 = tags);
    let story = story.settles();
    assert_eq!(story.held_by(&Slot::Ordinal(2)).map(|it| it.instance.id.as_str()), Some("late"));
    story.is_as_declared();
}

#[test]
fn a_pet_that_is_missing_for_a_while_is_not_replaced() {
    let mut story = pets();
    let pet = story.provider.remove(1);
    assert!(told_for(&mut story, Millis(NAMED_GONE.0 - 2000)).is_empty());
    story.provider.push(pet);
    let story = story.settles();
    assert_eq!(story.made, 3);
    story.is_as_declared();
    // One that stays away is replaced.
    let mut story = story;
    story.provider.pop();
    told_for(&mut story, Millis(NAMED_GONE.0 + 2000));
    assert_eq!(story.settles().made, 4);
}

#[test]
fn a_group_says_how_long_its_members_may_be_missing() {
    // Pets for a shorter time than usual, cattle for a longer one.
    for (allocation, lasts) in [
        (Allocation::LogicalIds(vec!["a".into(), "b".into(), "c".into()]), Millis::seconds(10)),
        (Allocation::Size(3), Millis::seconds(45)),
    ] {
        let mut declared = spec("v1", allocation);
        declared.healing.absent_for = Some(lasts);
        let mut story = Story::new(declared).settles();
        let one = story.provider.remove(1);
        assert!(told_for(&mut story, Millis(lasts.0 - 2000)).is_empty(), "{lasts}");
        story.provider.push(one);
        let mut story = story.settles();
        assert_eq!(story.made, 3, "{lasts}");
        story.provider.pop();
        told_for(&mut story, Millis(lasts.0 + 2000));
        assert_eq!(story.settles().made, 4, "{lasts}");
    }
}

#[test]
fn what_an_instance_was_made_for_counts_whatever_its_plugin_calls_it() {
    let mut story = pets();
    story.listed_as = Some("a".into());
    let key = ObjectKey::group(&web());
    assert_eq!(story.apply(Change::Object { key, verb: Verb::Release }), Answer::Done);
    story.commit(spec("v1", Allocation::LogicalIds(vec!["a".into(), "b".into(), "c".into()])));
    let story = story.settles();
    assert_eq!((story.made, story.provider.len()), (3, 3), "each has its own slot again, and nobody went");
    story.is_as_declared();
}

/// Pets of a plugin that shows instances and tags up to 20 s late, whose group was freed and declared again.
fn declared_again() -> Story {
    let mut story = pets();
    story.guarantees.lists_within = Some(Millis::seconds(20));
    let key = ObjectKey::group(&web());
    assert_eq!(story.apply(Change::Object { key, verb: Verb::Release }), Answer::Done);
    story.commit(spec("v1", Allocation::LogicalIds(vec!["a".into(), "b".into(), "c".into()])));
    story
}

#[test]
fn what_a_freed_group_made_right_before_is_awaited() {
    let mut story = declared_again();
    let late = story.provider.remove(1);
    assert!(told_for(&mut story, Millis::seconds(18)).is_empty(), "it need not be listed yet");
    story.provider.push(late);
    let mut story = story.settles();
    assert_eq!((story.made, story.provider.len()), (3, 3));
    story.is_as_declared();
    // Nothing of it may come later.
    story = declared_again();
    story.provider.remove(1);
    assert_eq!(story.settles().made, 4);
}

#[test]
fn a_group_that_is_declared_smaller_and_grows_at_once_finds_what_it_had() {
    for size in [0, 1] {
        let mut story = declared_again();
        let key = ObjectKey::group(&web());
        assert_eq!(story.apply(Change::Object { key, verb: Verb::Release }), Answer::Done);
        let ids: Vec<LogicalId> = ["a", "b", "c"].map(LogicalId::from).into();
        story.commit(spec("v1", Allocation::LogicalIds(ids[..size].to_vec())));
        let late = story.provider.split_off(1);
        told_for(&mut story, Millis::seconds(5));
        story.commit(spec("v1", Allocation::LogicalIds(ids)));
        assert!(told_for(&mut story, Millis::seconds(10)).is_empty(), "the others need not be listed yet");
        story.provider.extend(late);
        let story = story.settles();
        assert_eq!((story.made, story.provider.len()), (3, 3), "of {size}");
        story.is_as_declared();
    }
}

#[test]
fn where_members_of_before_may_be_is_looked_again_after_a_failure_and_by_a_new_leader() {
    let mut story = declared_again();
    story.provider.remove(1);
    told_for(&mut story, Millis::seconds(22));
    story.unbroken_since = story.now;
    assert!(told_for(&mut story, Millis::seconds(4)).is_empty(), "a look failed meanwhile");
    story.observed.first_look = None;
    story.observed.leading_since = story.now;
    assert!(told_for(&mut story, Millis::seconds(24)).is_empty(), "another leads");
    assert_eq!(story.settles().made, 4);
}

/// All may be listed, and not judged yet: then the next listing may lack them, and nobody would know of them.
#[test]
fn what_a_freed_group_had_is_recorded_before_anything_is_made() {
    for (two, one) in [(false, false), (true, false), (false, true)] {
        let mut story = declared_again();
        // Two came into view later than the third, so they are judged later.
        let whole = story.provider.clone();
        if two {
            story.provider.truncate(1);
        } else if one {
            story.provider.remove(0);
        }
        told_for(&mut story, Millis::seconds(19));
        story.provider = whole.clone();
        told_for(&mut story, Millis::seconds(8));
        // And the listing is cut short.
        story.provider.clear();
        assert!(told_for(&mut story, Millis::seconds(4)).is_empty());
        story.provider = whole;
        let story = story.settles();
        assert_eq!((story.made, story.provider.len()), (3, 3), "{two} {one}");
        story.is_as_declared();
    }
}

/// Neither one that has failed for good, nor tags that somebody has taken away, keeps a group from what it lacks for ever.
#[test]
fn a_group_that_is_declared_again_does_not_wait_for_one_member_or_for_tags_for_ever() {
    let mut story = declared_again();
    let mut spec = spec("v1", Allocation::LogicalIds(vec!["a".into(), "b".into(), "c".into()]));
    spec.healing.absent_for = Some(Millis::seconds(24 * 3600));
    story.commit(spec);
    story.provider.remove(2);
    told_for(&mut story, Millis::seconds(21));
    // The first two are members now, and one of them dies; the third is made all the same.
    story.provider.remove(1);
    assert!(!told_for(&mut story, Millis::seconds(60)).is_empty(), "the third is made");

    let mut story = declared_again();
    story.provider.truncate(1);
    told_for(&mut story, Millis::seconds(21));
    story.provider[0].1.clear();
    assert!(told_for(&mut story, Millis::seconds(300)).is_empty(), "tags may be out");
    assert!(!told_for(&mut story, Millis::seconds(400)).is_empty(), "they are gone");
}

/// Tags may be out for a while: all are listed then, and only who is known is known to be of the group.
#[test]
fn listings_without_tags_do_not_tell_what_a_freed_group_has() {
    for (shown_after, out_after, out_for) in [(2, 25, 1), (2, 21, 8), (18, 21, 10), (18, 21, 30)] {
        let mut story = declared_again();
        // The first is known at once; the others have come into view later.
        let late = story.provider.split_off(1);
        told_for(&mut story, Millis::seconds(shown_after));
        story.provider.extend(late);
        told_for(&mut story, Millis::seconds(out_after - shown_after));
        let tags: Vec<_> = story.provider.iter().map(|(_, tags, _)| tags.clone()).collect();
        story.provider.iter_mut().for_each(|(_, tags, _)| tags.clear());
        let made = told_for(&mut story, Millis::seconds(out_for));
        assert!(made.is_empty(), "{shown_after} {out_after} {out_for}: {made:?}");
        story.provider.iter_mut().zip(tags).for_each(|((_, now, _), tags)| *now = tags);
        let story = story.settles();
        assert_eq!((story.made, story.provider.len()), (3, 3), "{shown_after} {out_after} {out_for}");
        story.is_as_declared();
    }
}

#[test]
fn what_lacks_some_of_its_tags_is_not_judged_before_they_have_had_their_time() {
    let all = [tags::CONFIG_HASH, tags::OWNER, tags::INTENT, tags::SLOT, tags::LOGICAL_ID];
    for lacks in 1..1_usize << all.len() {
        let mut story = declared_again();
        let whole = story.provider[1].clone();
        let late = all.iter().enumerate().filter(|(at, _)| lacks >> at & 1 == 1);
        late.for_each(|(_, tag)| drop(story.provider[1].1.remove(*tag)));
        told_for(&mut story, Millis::seconds(15));
        story.provider[1] = whole;
        let story = story.settles();
        assert_eq!((story.made, story.provider.len()), (3, 3), "without {lacks:b} for a while");
        story.is_as_declared();
    }
}

#[test]
fn the_word_of_its_plugin_that_a_pet_is_gone_counts_at_once() {
    let mut story = pets();
    let (gone, ..) = story.provider.remove(1);
    story.said_gone.insert(gone);
    story.now = story.now + Millis(1000);
    story.look();
    assert_eq!(story.plan().gone.len(), 1);
    assert_eq!(story.settles().made, 4);
}

#[test]
fn who_comes_back_after_it_was_replaced_is_reported_and_never_destroyed() {
    let mut story = pets();
    let pet = story.provider.remove(1);
    told_for(&mut story, Millis(NAMED_GONE.0 + 2000));
    let mut story = story.settles();
    story.provider.push(pet.clone());
    assert!(told_for(&mut story, Millis::seconds(60)).is_empty());
    let plan = story.plan();
    assert!(
        matches!(&plan.anomalies[..], [Anomaly::SecondOfName { instance, .. }] if *instance == pet.0),
        "{plan:?}"
    );
    // Cattle too: it stays as a stray.
    let mut story = Story::of(2).settles();
    let one = story.provider.remove(0);
    told_for(&mut story, Millis::seconds(5));
    let mut story = story.settles();
    story.provider.push(one.clone());
    assert!(told_for(&mut story, Millis::seconds(60)).is_empty());
    assert_eq!(story.plan().strays, [InstanceRef::from(one.0.as_str())]);
}

#[test]
fn who_comes_back_takes_its_slot_again_from_one_that_was_never_ready() {
    let mut story = pets();
    let pet = story.provider.remove(1);
    story.said_gone.insert(pet.0.clone());
    let slot = Slot::Logical("b".into());
    while story.held_by(&slot).is_none_or(|it| it.instance.id == pet.0) {
        assert!(story.step(), "another is made");
        story.provider.last_mut().expect("there is one").2 = Health::Unknown;
    }
    story.said_gone.clear();
    story.provider.last_mut().expect("it was just made").2 = Health::Unknown;
    story.provider.push(pet.clone());
    let mut story = story.settles();
    assert_eq!(story.held_by(&slot).map(|it| &it.instance.id), Some(&pet.0));
    story.look();
    story.is_as_declared();
    assert_eq!((story.made, story.provider.len()), (4, 3));
}

#[test]
fn what_an_attempt_left_behind_for_a_moment_is_never_a_member() {
    for (lists_within, level) in [(Some(Millis(0)), 2), (None, 2), (Some(Millis(0)), 1), (None, 1)] {
        let mut story = Story::of(1);
        story.state.level = level;
        story.guarantees = Guarantees { class: PluginClass::C, lists_within };
        let (intent, hash) = claims_one(&mut story);
        let half = tags_of(&hash, Some(&Slot::Ordinal(0)), Some(intent));
        story.provider.push(("half".into(), half, Health::Healthy));
        story.observed.in_flight.insert(intent);
        story.look();
        // Its plugin removes it again and refuses; a listing that began before is at hand still.
        story.observed.in_flight.clear();
        let refused = Outcome::Refused { message: "no address".into(), retryable: true };
        let mut report = Report::new(ObjectKey::group(&web()), story.group().revision, TERM);
        report.facts.push(Fact::Outcome(intent, refused));
        story.apply(Change::Report(report));
        assert!(story.plan().adopt.is_empty());
        if lists_within.is_none() {
            // One that promises nothing may show it for some time.
            story.look();
            assert!(story.plan().adopt.is_empty(), "{:?}", story.plan());
            story.now = story.now + Millis(UNPROMISED_LAG.0 - 1);
            story.look();
            assert!(story.plan().adopt.is_empty());
        }
        story.provider.clear();
        let story = story.settles();
        assert_eq!(story.made, 1);
        story.is_as_declared();
    }
}

#[test]
fn a_listing_that_began_during_an_attempt_does_not_settle_it() {
    let mut story = Story::of(1);
    story.guarantees = Guarantees { class: PluginClass::C, lists_within: Some(Millis(0)) };
    let (intent, hash) = claims_one(&mut story);
    story.provider.push((
        "half".into(),
        tags_of(&hash, Some(&Slot::Ordinal(0)), Some(intent)),
        Health::Healthy,
    ));
    story.look();
    // The attempt ends without an outcome after that listing began.
    let ended_at = story.now + Millis(10);
    story.now = story.now + Millis(20);
    let unsure = Unsure { ended_at, retry_at: story.now, message: "no answer".into() };
    story.observed.unsure.insert(intent, unsure);
    assert!(story.plan().outcomes.is_empty(), "{:?}", story.plan());
    story.look();
    assert_eq!(story.plan().outcomes, [(intent, Outcome::Done("half".into()))]);
}

#[test]
fn a_member_that_does_not_run_is_not_ready_whatever_its_flavor_says() {
    for status in [RunStatus::Stopped, RunStatus::Paused, RunStatus::Failed] {
        let mut story = Story::of(2).settles();
        let sick = story.provider[0].0.clone();
        let message = String::from("exec format error");
        let state = InstanceState { status, ended: true, exit_code: Some(7), since: None, message };
        story.states.insert(sick.clone(), state.clone());
        assert!(told_for(&mut story, Millis::seconds(5)).is_empty(), "nobody is replaced for it");
        assert!(matches!(
            story.held_by(&Slot::Ordinal(0)).map(|it| it.health),
            Some(Verdict::Unhealthy { .. })
        ));
        let plan = story.plan();
        assert!(matches!(&plan.waits[..], [Wait::NotRunning { state: it, .. }] if *it == state), "{plan:?}");
        let status = crate::status::status(&web(), story.group(), Some((&story.observed, &plan)), story.now);
        assert!(!status.converged && status.ready == 1, "{status:?}");
        assert!(status.slots[0].message.contains("exit code 7"), "{status:?}");
        // It runs again.
        story.states.clear();
        told_for(&mut story, Millis::seconds(5));
        story.settles().is_as_declared();
    }
    // One that is booting is ready when it runs.
    let mut story = Story::of(1);
    let state = InstanceState {
        ended: false,
        status: RunStatus::Starting,
        exit_code: None,
        since: None,
        message: "Init runs".into(),
    };
    story.states.insert("i001".into(), state);
    while story.step() && story.now < Timestamp(1_020_000) {}
    assert!(story.held_by(&Slot::Ordinal(0)).is_some_and(|it| it.health == Verdict::Booting));
    assert!(story.plan().waits.iter().any(|it| it.reason() == "Starting"), "{:?}", story.plan());
    story.states.clear();
    story.settles().is_as_declared();
}

#[test]
fn a_group_that_is_freed_settles_its_calls_first_and_makes_nothing_twice_when_it_is_declared_again() {
    let mut story = Story::of(3);
    story.look();
    let report = story.report();
    let Answer::Admitted(admissions) = story.apply(Change::Report(report)) else { panic!() };
    let key = ObjectKey::group(&web());
    assert_eq!(story.apply(Change::Object { key: key.clone(), verb: Verb::Release }), Answer::Done);
    assert_eq!(story.group().lifecycle, Lifecycle::Releasing);
    let status = crate::status::status(&web(), story.group(), None, story.now);
    assert!(status.summary.contains("3 calls are under way"), "{}", status.summary);
    let mut declared = story.clone();
    // Whoever declares it again meanwhile has the calls that are under way.
    declared.commit(spec("v1", Allocation::Size(3)));
    let again = declared.settles();
    again.is_as_declared();
    assert_eq!(again.made, 3);
    // Otherwise it is forgotten when they have ended, and what they made stays.
    for admission in admissions {
        let Admission::Granted(intent) = admission else { panic!("{admission:?}") };
        story.perform(intent);
    }
    story.look();
    assert!(story.told().is_empty());
    let report = story.report();
    story.apply(Change::Report(report));
    assert!(story.state.group(&web()).is_none() && story.provider.len() == 3);
}

#[test]
fn a_listing_that_is_cut_short_does_not_tell_what_a_freed_group_has() {
    let mut story = declared_again();
    let hidden: Vec<_> = story.provider.drain(1..).collect();
    // The first that could tell: two are missing in it.
    assert!(told_for(&mut story, Millis::seconds(22)).is_empty(), "it is looked once more");
    story.provider.extend(hidden);
    let story = story.settles();
    assert_eq!((story.made, story.provider.len()), (3, 3));
    assert_eq!(story.group().declared_again, None, "its members are known now");
}
