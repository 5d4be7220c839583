//! Who is asked how it is, how often, and which answers are verdicts.

use std::collections::BTreeMap;

use model::state::{Member, Occupied};
use model::{Health, State};

use super::*;

/// How often each was asked, from the `since`th question on.
fn asked(world: &Tabletop, since: usize) -> BTreeMap<InstanceId, usize> {
    let mut counts = BTreeMap::new();
    for call in calls(world, CallKind::Health).into_iter().skip(since) {
        *counts.entry(call.instance.expect("a question is about somebody")).or_default() += 1;
    }
    counts
}

fn is_ready(id: &InstanceId) -> impl Fn(&State) -> bool + use<> {
    let id = id.clone();
    move |state| {
        let group = state.group(&"web".into());
        let is_it = |it: &&Occupied| it.instance.id == id;
        group.is_some_and(|group| {
            group.roster.values().flat_map(Member::instances).find(is_it).is_some_and(Occupied::is_ready)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn one_bad_answer_is_a_hiccup_and_a_streak_is_one_verdict_that_recovers() {
    let (world, manager) = at_rest(3).await;
    let sick = holder(&manager, 1);
    let written = || manager.replica.published().index.0;
    let before = written();
    world.is_next(&sick, [Health::Unhealthy]);
    pass(60).await;
    assert_eq!(written(), before, "a hiccup is not written down");
    world.is(&sick, Health::Unhealthy);
    let well = is_ready(&sick);
    manager.until("it is called unhealthy", |state| !well(state)).await;
    pass(60).await;
    assert_eq!(written(), before + 1, "a streak of any length is one verdict");
    // Not to know is not to be well.
    world.is(&sick, Health::Unknown);
    pass(30).await;
    assert_eq!(written(), before + 1);
    world.is(&sick, Health::Healthy);
    manager.until("it is well again", &well).await;
    pass(60).await;
    assert_eq!(written(), before + 2);
    assert_eq!(deeds(&world), 3, "nobody is replaced for being ill");
}

#[tokio::test(start_paused = true)]
async fn members_at_rest_are_asked_in_turn_and_one_that_is_not_ready_every_second() {
    let (world, manager) = at_rest(3).await;
    pass(20).await;
    let since = calls(&world, CallKind::Health).len();
    pass(60).await;
    for (id, times) in asked(&world, since) {
        assert!((5..=7).contains(&times), "{id} is at rest, and was asked {times} times in a minute");
    }
    let sick = holder(&manager, 1);
    world.is(&sick, Health::Unhealthy);
    let well = is_ready(&sick);
    manager.until("it is called unhealthy", |state| !well(state)).await;
    let since = calls(&world, CallKind::Health).len();
    pass(60).await;
    let counts = asked(&world, since);
    assert_eq!(counts.len(), 3);
    for (id, times) in counts {
        let told = if id == sick { 50..=61 } else { 5..=7 };
        assert!(told.contains(&times), "{id} was asked {times} times in a minute, not {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_group_is_gone_through_without_a_flood_and_nobody_is_left_out() {
    let (world, _manager) = at_rest(150).await;
    pass(20).await;
    let since = calls(&world, CallKind::Health).len();
    pass(60).await;
    let counts = asked(&world, since);
    assert_eq!(counts.len(), 150, "everybody had a turn");
    let (least, most) = (counts.values().min(), counts.values().max());
    assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "and nobody two: {counts:?}");
    assert!(counts.values().sum::<usize>() <= 60 * 20, "at most twenty in a second");
}
