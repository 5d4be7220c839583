//! How a changed template comes true: start-first where there is room, stop-first for names and at the ceiling.

use super::*;

#[test]
fn a_new_template_makes_the_next_one_first_and_takes_the_old_when_it_is_healthy() {
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
    story.look();
    assert_eq!(story.told(), ["replace slot 0"]);
    story.step();
    let sick = story.provider.iter_mut().find(|(id, ..)| id.as_str() == "i004").expect("it was made");
    sick.2 = Health::Unhealthy;
    for _ in 0..3 {
        story.step();
        assert!(story.told().is_empty(), "the new one is not well yet");
        assert!(story.plan().waits.iter().any(|w| matches!(w, Wait::Health { .. })));
        assert_eq!(story.provider.len(), 4, "nobody is taken away for it");
    }
    story.provider.iter_mut().for_each(|(_, _, health)| *health = Health::Healthy);
    story.step();
    story.look();
    assert_eq!(story.told(), ["destroy i001: rolling_update"]);
    let story = story.settles();
    story.is_as_declared();
    assert_eq!((story.made, story.provider.len()), (6, 3));
    assert_eq!(story.generation(&Slot::Ordinal(2)), Generation(2), "each keeps its slot");
}

#[test]
fn pets_are_replaced_one_at_a_time_and_the_old_goes_first() {
    let mut story = Story::new(spec("v1", ids(&["a", "b"]))).settles().wants("v2", ids(&["a", "b"]));
    story.look();
    assert_eq!(story.told(), ["destroy i001: rolling_update"]);
    story.step();
    story.look();
    assert_eq!(story.told(), ["create slot a"]);
    story.settles().is_as_declared();
}

#[test]
fn what_older_managers_do_not_know_is_not_planned() {
    let mut story = Story::of(2).settles();
    story.state.level = 1;
    let mut story = story.wants("v2", Allocation::Size(2));
    story.look();
    assert_eq!(story.told(), ["destroy i001: rolling_update"], "as they do it");
    let healthy = story.held_by(&Slot::Ordinal(1)).expect("it is held").instance.clone();
    let sample =
        HealthSample { health: Health::Unhealthy, since: story.now, streak: 9, message: "no".into() };
    story.observed.health.insert(healthy, sample);
    assert!(story.plan().unhealthy.is_empty());
    assert_eq!(story.report().level(), 0);
    story.settles().is_as_declared();
}

#[test]
fn a_template_that_changes_while_one_is_taken_over_ends_with_the_last() {
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
    story.step();
    assert_eq!(story.provider.len(), 4);
    let story = story.wants("v3", Allocation::Size(3)).settles();
    story.is_as_declared();
    assert_eq!(story.provider.len(), 3);
}

#[test]
fn a_group_that_gets_smaller_while_one_is_taken_over_ends_with_as_many_as_are_wanted() {
    for size in 0..3 {
        let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
        story.step();
        let story = story.wants("v2", Allocation::Size(size)).settles();
        story.is_as_declared();
        assert_eq!(story.provider.len(), size as usize);
    }
}

#[test]
fn at_the_ceiling_the_old_goes_first() {
    let mut story = Story::of(2).settles();
    story.apply(Change::SetVariable { key: "infrakit/max-instances".into(), value: "2".into() });
    let mut story = story.wants("v2", Allocation::Size(2));
    story.look();
    assert_eq!(story.told(), ["destroy i001: rolling_update"]);
    story.settles().is_as_declared();
}
