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

#[tokio::test(start_paused = true)]
async fn a_stopped_member_is_started_where_its_group_asks_for_it_and_only_there() {
    let (world, manager) = at_rest(3).await;
    world.stop(&slot(1));
    pass(120).await;
    assert_eq!(calls(&world, CallKind::Start).len(), 0, "nobody asked for it");
    let mut spec = group("web", 3, "v1");
    spec.healing.start = true;
    world.next_end(CallKind::Start, [Fate::Refused, Fate::Refused, Fate::Refused]);
    manager.commit(spec).await;
    world.until("it runs again", |table| table.living().all(|it| !it.stopped)).await;
    let starts = calls(&world, CallKind::Start);
    assert_eq!(starts.len(), 4, "three were refused");
    let pauses: Vec<Duration> = starts.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!(pauses.is_sorted() && pauses[0] >= Duration::from_millis(400), "it backs off: {pauses:?}");
    let id = holder(&manager, 1);
    manager.until("it is ready again", is_ready(&id)).await;
    pass(120).await;
    assert_eq!(calls(&world, CallKind::Start).len(), 4);
    let (events, _) = manager.replica.events();
    let started = |it: &&std::sync::Arc<model::event::Event>| it.kind == model::event::Kind::InstanceStarted;
    assert_eq!(events.iter().filter(started).count(), 1, "it is told once");
    assert_eq!(world.see(|table| table.instances.len()), 3, "nobody was made for it");
}

#[tokio::test(start_paused = true)]
async fn a_paused_group_starts_nobody() {
    let (world, manager) = at_rest(1).await;
    let mut spec = group("web", 1, "v1");
    spec.healing.start = true;
    manager.commit(spec).await;
    manager.pause("web").await;
    world.stop(&slot(0));
    pass(120).await;
    assert_eq!(calls(&world, CallKind::Start).len(), 0);
    manager.resume("web").await;
    world.until("it runs again", |table| table.living().all(|it| !it.stopped)).await;
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_ready_by_the_deadline_has_failed_until_it_is() {
    let world = Tabletop::new();
    world.boots_in(Duration::from_secs(90));
    let manager = Alone::with(world.clone()).await;
    let mut spec = group("web", 1, "v1");
    spec.healing.boot_deadline = Some(Millis::seconds(60));
    manager.commit(spec).await;
    let told = || {
        let assessment = manager.assessments.of(&"web".into()).expect("it is looked after");
        let group = manager.group("web");
        let status = model::status::status(
            &"web".into(),
            &group,
            Some((&assessment.observed, &assessment.plan)),
            model::Timestamp(0),
        );
        (status.slots[0].state, status.conditions.iter().any(model::status::Condition::is_trouble))
    };
    pass(50).await;
    assert_eq!(told(), (model::status::SlotState::Booting, false));
    pass(20).await;
    assert_eq!(told(), (model::status::SlotState::Failed, true), "it is said, and nobody is replaced");
    manager.until_ready("web").await;
    assert_eq!(world.see(|table| table.instances.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_listed_yet_is_asked_about_as_its_flavor_prepared_it() {
    let world = Tabletop::new();
    world.promises(foreign(Millis::seconds(60)));
    world.lists_after(Duration::from_secs(50));
    world.boots_in(Duration::from_secs(20));
    let manager = Alone::with(world.clone()).await;
    manager.commit(group("web", 2, "v1")).await;
    manager.until_ready("web").await;
    let asked = world.see(|table| table.asked_with.clone());
    assert!(asked.len() > 20, "{asked:?}");
    let whole = |tags: &model::tags::Tags| {
        tags.get("flavored").is_some_and(|it| it == "yes") && tags.contains_key(model::tags::INTENT)
    };
    assert!(asked.iter().all(whole), "{asked:?}");
}
