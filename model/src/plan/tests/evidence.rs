//! What a look proves about who is there, and what it does not.

use super::*;
use crate::limits::{MANY_GONE, UNPROMISED_LAG};
use crate::report::{Fact, Report};
use crate::{Health, InstanceRef, Millis, ObjectKey, Outcome, Slot};

#[test]
fn a_look_that_began_before_a_member_was_recorded_does_not_bury_it() {
    let mut story = Story::of(1);
    story.look();
    let stale = story.observed.clone();
    story.step();
    let plan = plan(story.group(), &stale, story.now);
    assert!(plan.gone.is_empty() && plan.actions.is_empty(), "{plan:?}");
}

#[test]
fn a_listing_that_may_lag_behind_buries_only_whom_it_has_shown() {
    let mut story = Story::of(3).settles();
    story.guarantees = Guarantees::default();
    let made = story.provider.remove(0);
    let mut shown = story.clone();
    for _ in 0..3 {
        story.look();
        assert!(story.plan().gone.is_empty(), "it may not be listed yet");
    }
    story.now = story.now + crate::limits::LISTINGS_LAG;
    story.look();
    assert!(story.plan().gone.is_empty(), "the looks before that are no evidence");
    story.look();
    assert_eq!(story.plan().gone.len(), 1, "by now it would be listed");
    // One that was listed, and is no more.
    shown.observed.listed_once.insert(InstanceRef::from(made.0.as_str()));
    shown.look();
    shown.look();
    assert_eq!(shown.plan().gone.len(), 1);
}

#[test]
fn one_look_buries_nobody_and_a_second_one_does() {
    let mut story = Story::of(4).settles();
    story.provider.remove(1);
    story.look();
    let plan = story.plan();
    assert!(plan.gone.is_empty() && plan.actions.is_empty(), "{plan:?}");
    assert!(plan.waits.iter().any(|it| matches!(it, Wait::Missing { members: 1, .. })), "{plan:?}");
    story.look();
    assert_eq!((story.plan().gone.len(), story.told()), (1, vec!["create slot 1".to_owned()]));
}

#[test]
fn a_listing_that_lacks_too_much_is_believed_only_when_it_goes_on() {
    for left in [0, 1] {
        let mut story = Story::of(4).settles();
        let all = story.provider.clone();
        story.provider.truncate(left);
        let began = story.now;
        for _ in 0..10 {
            story.now = story.now + Millis(400);
            story.look();
            assert!(story.plan().gone.is_empty() && story.told().is_empty(), "{left} are left");
        }
        // It was a fault: they are all there again.
        story.provider = all.clone();
        story.look();
        assert!(story.report().is_empty() && story.observed.missing.is_empty());
        // It was none: they are gone for good.
        story.provider.truncate(left);
        story.look();
        let since = story.now;
        story.look();
        story.now = since + MANY_GONE;
        story.look();
        assert_eq!(story.plan().gone.len(), 4 - left, "since {began:?}");
        let story = story.settles();
        story.is_as_declared();
    }
}

#[test]
fn three_that_are_missing_at_once_are_doubted_longer_than_two() {
    for (missing, listings_seen) in [(2, 2), (3, 7)] {
        let mut story = Story::of(20).settles();
        story.provider.truncate(20 - missing);
        for look in 1..listings_seen {
            story.now = story.now + Millis(900);
            story.look();
            assert!(story.plan().gone.is_empty(), "{missing} are missing, look {look}");
        }
        story.now = story.now + Millis(900);
        story.look();
        assert_eq!(story.plan().gone.len(), missing);
    }
}

#[test]
fn one_that_is_missing_is_doubted_longer_when_other_groups_miss_theirs_too() {
    let mut story = Story::of(1).settles();
    story.provider.clear();
    story.provider.push(("other".into(), tags_of("x", None, None), Health::Healthy));
    story.provider[0].1.insert(tags::GROUP.into(), "another".into());
    story.shrunk_by = 3;
    for look in 1..7 {
        story.now = story.now + Millis(900);
        story.look();
        assert!(story.plan().gone.is_empty(), "look {look}");
    }
    story.now = story.now + Millis(900);
    story.look();
    assert_eq!(story.plan().gone.len(), 1);
}

#[test]
fn the_destroy_of_one_without_a_slot_is_proven_by_looks_too() {
    let guarantees = Guarantees::default();
    let mut story = Story { guarantees, ..Story::new(spec("v1", ids(&["a"]))) }.settles();
    let hash = story.group().template().hash.clone();
    let made = IntentId { index: LogIndex(1), offset: 0 };
    let second = tags_of(&hash, Some(&Slot::Logical("a".into())), Some(made));
    story.provider.push(("second".into(), second, Health::Healthy));
    // An earlier attempt made it too.
    let group = story.state.groups.get_mut(&web()).expect("the group is there");
    Arc::make_mut(group).repeated.insert(made, Some("i001".into()));
    story.look();
    story.now = story.now + UNPROMISED_LAG;
    story.look();
    let report = story.report();
    assert_eq!(report.claims.len(), 1, "what was made too much goes");
    story.apply(Change::Report(report));
    // It went, and nobody heard of it; every repeat is refused by a plugin that knows nobody of that name.
    story.provider.retain(|(id, ..)| id.as_str() != "second");
    story.observed = Observed { leading_since: story.now, ..Observed::default() };
    for _ in 0..40 {
        story.now = story.now + Millis(4000);
        story.look();
        let plan = story.plan();
        let repeats = plan.actions.iter().any(|action| matches!(action, Action::Repeat { .. }));
        if repeats || !plan.outcomes.is_empty() {
            let report = story.report();
            story.apply(Change::Report(report));
        }
    }
    assert!(story.group().intents.is_empty(), "{:?}", story.group().intents);
}

#[test]
fn a_look_that_fails_between_two_confirms_neither() {
    let mut story = Story::of(4).settles();
    story.provider.remove(1);
    for _ in 0..3 {
        story.look();
        assert!(story.plan().gone.is_empty());
        story.now = story.now + Millis(1000);
        story.unbroken_since = story.now;
    }
    story.look();
    story.look();
    assert_eq!(story.plan().gone.len(), 1);
}

#[test]
fn nobody_is_given_up_while_somebody_may_be_gone_already() {
    let mut story = Story::of(4).settles().wants("v1", Allocation::Size(3));
    story.provider.remove(2);
    story.look();
    assert!(story.told().is_empty(), "{:?}", story.told());
    let story = story.settles();
    story.is_as_declared();
    assert_eq!((story.provider.len(), story.made), (3, 4), "nobody was made or destroyed");
}

#[test]
fn an_instance_that_is_given_out_twice_is_one_member() {
    let mut story = Story::of(2);
    story.look();
    let report = story.report();
    let Answer::Admitted(granted) = story.apply(Change::Report(report)) else { panic!() };
    for admission in granted {
        let Admission::Granted(intent) = admission else { panic!() };
        let mut report = Report::new(ObjectKey::group(&web()), story.group().revision, TERM);
        report.facts.push(Fact::Outcome(intent, Outcome::Done("one".into())));
        story.apply(Change::Report(report));
    }
    assert_eq!(story.group().running(), 1, "{:?}", story.group().roster);
}

#[test]
fn an_added_name_is_looked_for_before_it_is_made() {
    let mut story = Story::new(spec("v1", ids(&["a"]))).settles();
    story.provider.push(("by-hand".into(), seed_of(Some(&Slot::Logical("b".into()))), Health::Healthy));
    let mut story = story.wants("v1", ids(&["a", "b"]));
    assert!(story.told().is_empty(), "{:?}", story.told());
    story.look();
    assert_eq!(story.told(), ["label by-hand"]);
    let story = story.settles();
    story.is_as_declared();
    assert_eq!(story.made, 1);
}

#[test]
fn a_listing_that_lags_behind_takes_nobody_back_in() {
    let mut story = Story::new(spec("v1", ids(&["a"]))).settles().wants("v2", ids(&["a"]));
    let ghost = story.provider[0].clone();
    story.step();
    let destroyed_at = story.now;
    assert!(story.provider.is_empty());
    // The provider still shows it for a while.
    story.provider.push(ghost);
    story.look();
    assert_eq!(story.told(), ["create slot a"]);
    story.step();
    story.now = destroyed_at + crate::limits::LISTINGS_LAG;
    story.look();
    assert!(story.plan().strays.is_empty(), "it was destroyed, and is not reported as a stray");
    story.provider.remove(0);
    let story = story.settles();
    story.is_as_declared();
    assert_eq!(story.made, 2);
}

#[test]
fn a_listing_that_may_hide_somebody_ends_no_destroy() {
    let interrupted = |guarantees: Guarantees| {
        let mut story = Story { guarantees, ..Story::of(2) };
        let all = |story: &Story| story.provider.clone();
        for _ in 0..3 {
            story.step();
        }
        let hidden = all(&story);
        story = story.wants("v1", Allocation::Size(1));
        story.look();
        let report = story.report();
        assert_eq!(report.claims.len(), 1);
        story.apply(Change::Report(report));
        // The leader died before its call. The next one is shown nobody.
        story.observed = Observed::default();
        story.provider.clear();
        (story, hidden)
    };
    // It lags behind: the instance need not be listed yet, however often it is looked.
    let (mut story, hidden) =
        interrupted(Guarantees { class: PluginClass::A, lists_within: Some(Millis(60_000)) });
    for _ in 0..5 {
        story.now = story.now + Millis(2000);
        story.look();
        assert_eq!((story.plan().outcomes, story.told().len()), (vec![], 1), "it is asked for again");
    }
    story.provider = hidden;
    let story = story.settles();
    assert_eq!((story.provider.len(), story.group().running()), (1, 1), "nobody lives unknown");
    // It does not: one look that shows nothing at all is still not enough, and going on it is.
    let (mut story, _) = interrupted(Guarantees { class: PluginClass::A, lists_within: Some(Millis(0)) });
    story.look();
    assert_eq!(story.plan().outcomes, vec![]);
    for _ in 0..3 {
        story.now = story.now + MANY_GONE;
        story.look();
    }
    assert_eq!(story.plan().outcomes.len(), 1);
}

#[test]
fn most_of_those_that_are_shown_are_many_however_many_are_not_shown_yet() {
    let mut story = Story::of(5).settles();
    // Two of five are not listed yet, by a plugin that needs some time for it.
    story.guarantees = Guarantees { class: PluginClass::A, lists_within: Some(Millis::seconds(60)) };
    story.observed.leading_since = story.now;
    let late = story.provider.split_off(3);
    story.look();
    // Then a listing is cut short, twice.
    let cut = story.provider.split_off(1);
    for _ in 0..2 {
        story.now = story.now + Millis(900);
        story.look();
        assert!(story.plan().gone.is_empty(), "{:?}", story.plan());
    }
    story.provider.extend(cut.into_iter().chain(late));
    let story = story.settles();
    assert_eq!(story.made, 5);
}
