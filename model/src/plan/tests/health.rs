//! Groups that are paused, and members that fall ill.

use super::*;

#[test]
fn a_paused_group_is_left_alone_and_goes_on_when_it_is_resumed() {
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(4));
    let key = ObjectKey::group(&web());
    assert_eq!(story.apply(Change::Object { key: key.clone(), verb: Verb::Pause }), Answer::Done);
    story.provider.remove(1);
    for _ in 0..5 {
        story.step();
        let plan = story.plan();
        assert!(plan.actions.is_empty() && plan.adopt.is_empty(), "{plan:?}");
        assert!(matches!(plan.waits[0], Wait::Paused { .. }));
    }
    let claims = [Claim::Provision { slot: Slot::Ordinal(3) }];
    let report = Report::new(key.clone(), story.group().revision, TERM).with_claims(claims);
    let answer = story.apply(Change::Report(report));
    assert_eq!(answer, Answer::Admitted(vec![Admission::Denied(Denial::Paused)]), "no leader gets past it");
    assert_eq!((story.provider.len(), story.made), (2, 3));
    story.apply(Change::Object { key, verb: Verb::Resume });
    let story = story.settles();
    story.is_as_declared();
    assert_eq!(story.provider.len(), 4);
}

#[test]
fn a_member_that_falls_ill_is_not_called_ready_and_why_it_stays_is_said() {
    let mut story = Story::of(2).settles();
    let instance = story.held_by(&Slot::Ordinal(1)).expect("it is held").instance.clone();
    let since = story.now;
    let answer = |story: &mut Story, health, streak| {
        let sample = HealthSample { health, since, streak, message: "503".into() };
        story.observed.health.insert(instance.clone(), sample);
        let report = story.report();
        story.apply(Change::Report(report));
        (story.held_by(&Slot::Ordinal(1)).expect("it is held").health, story.plan())
    };
    let (health, plan) = answer(&mut story, Health::Unhealthy, 1);
    assert_eq!(health, Verdict::Ready, "one answer is no verdict");
    assert_eq!(plan.ask.len(), 1, "it is asked again");
    let (health, plan) = answer(&mut story, Health::Unhealthy, 2);
    assert_eq!(health, Verdict::Unhealthy { since });
    assert!(plan.actions.is_empty() && matches!(plan.waits[0], Wait::Unhealthy { .. }), "{plan:?}");
    assert!(plan.waits[0].to_string().contains("not replaced for its health"));
    assert!(plan.is_at_rest(), "nothing is in motion because of it");
    let (health, _) = answer(&mut story, Health::Unknown, 3);
    assert_eq!(health, Verdict::Unhealthy { since }, "not to know is not to be well");
    let (health, _) = answer(&mut story, Health::Healthy, 2);
    assert_eq!(health, Verdict::Ready);
}

#[test]
fn everybody_at_rest_is_asked_in_turn() {
    let mut story = Story::of(200).settles();
    story.observed.health.clear();
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let plan = story.plan();
        assert!(plan.patrol.len() <= crate::limits::LARGEST_ROUND);
        if let Some((slot, _)) = plan.patrol.last() {
            story.observed.patrolled = Some(slot.clone());
            story.observed.patrolled_at = story.now;
        }
        asked.extend(plan.patrol.into_iter().map(|(slot, _)| slot));
        story.now = plan.wake_at.expect("the next turn comes");
    }
    assert_eq!(asked.len(), 200);
    assert!(story.now.since(story.observed.patrolled_at) < Millis::seconds(10));
}
