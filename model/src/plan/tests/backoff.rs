//! What failed, when it is tried again, and when that is said.

use super::*;
use crate::observed::Backoff;
use crate::status::{ConditionType, status};

#[test]
fn another_template_does_not_wait_for_the_pause_of_the_one_that_it_replaces() {
    let mut story = Story::of(1);
    story.look();
    let backoff = |story: &Story, since: Timestamp| Backoff {
        since,
        failures: 9,
        template: story.group().target,
        until: story.now + Millis::seconds(30),
        message: "no such image".into(),
    };
    let failed = backoff(&story, story.now);
    story.observed.backoff.insert(Slot::Ordinal(0), failed);
    assert_eq!(story.told(), Vec::<String>::new(), "it waits");
    story.commit(spec("v2", Allocation::Size(1)));
    story.look();
    assert_eq!(story.told(), ["create slot 0"], "the pause was that of v1");
}

#[test]
fn a_group_that_does_not_get_on_for_longer_than_its_pauses_is_stalled() {
    let stalled = |story: &Story| {
        let status = status(&web(), story.group(), Some((&story.observed, &story.plan())), story.now);
        let found = status.conditions.into_iter().find(|it| it.kind == ConditionType::Stalled);
        found.map(|it| (it.is_trouble(), it.reason.to_string(), it.since))
    };
    let mut story = Story::of(1);
    story.look();
    assert_eq!(stalled(&story), None);
    let since = story.now;
    story.observed.backoff.insert(
        Slot::Ordinal(0),
        Backoff {
            since,
            failures: 2,
            template: story.group().target,
            until: since + Millis::seconds(90),
            message: "no such image".into(),
        },
    );
    story.now = since + Millis(29_999);
    assert_eq!(stalled(&story), None, "a few failures are no reason to call anybody");
    story.now = since + Millis(30_000);
    for failures in [0, 1] {
        let mut once = story.clone();
        once.observed.backoff.get_mut(&Slot::Ordinal(0)).expect("it failed").failures = failures;
        assert_eq!(
            stalled(&once),
            None,
            "the second attempt may take long, and what was denied is no failure"
        );
    }
    let (is_trouble, why, told_since) = stalled(&story).expect("it is stalled");
    assert!(is_trouble && why.contains("no such image"), "{why}");
    assert_eq!(told_since, Some(since));
    let mut paused = story.clone();
    paused.apply(Change::Object { key: ObjectKey::group(&web()), verb: Verb::Pause });
    assert_eq!(stalled(&paused), None, "an operator wants it so");
    story.commit(spec("v2", Allocation::Size(1)));
    assert_eq!(stalled(&story), None, "v2 has not been tried");
}

#[test]
fn a_failed_slot_is_tried_again_after_its_pause_and_says_why() {
    let mut story = Story::of(2);
    story.look();
    let until = story.now + Millis(500);
    story.observed.backoff.insert(
        Slot::Ordinal(0),
        Backoff {
            since: story.now,
            failures: 1,
            template: story.group().target,
            until,
            message: "quota".into(),
        },
    );
    assert_eq!(story.told(), ["create slot 1"]);
    assert!(matches!(&story.plan().waits[..], [Wait::Backoff { message, .. }] if message == "quota"));
    assert_eq!(story.plan().wake_at, Some(until));
    story.now = until;
    assert_eq!(story.told(), ["create slot 0", "create slot 1"]);
}
