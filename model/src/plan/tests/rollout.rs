//! How a changed template comes true: start-first where there is room, stop-first for names and at the ceiling.

use super::*;
use crate::answer::Refusal;
use crate::command::Steer;
use crate::limits::{HEALTHY_WITHIN, PROGRESS_WITHIN};
use crate::observed::Backoff;
use crate::rollout::{Cause, NoSteer};
use crate::spec::{Amount, Canary, OnFailure};

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

fn updated(version: &str, size: u32, updating: Updating) -> GroupSpec {
    GroupSpec { updating, ..spec(version, Allocation::Size(size)) }
}

fn members(count: u32) -> Option<Amount> {
    Some(Amount::Members(count))
}

impl Story {
    /// One turn: every instance of this image is as healthy as that, the plan is applied, and `calls` of the open calls
    /// end, chosen by `chance`.
    fn turn(&mut self, image: &str, health: Health, calls: usize, chance: &mut impl FnMut(u64) -> u64) {
        let hash = spec(image, Allocation::Size(1)).template.fingerprint();
        for (_, tags, now) in &mut self.provider {
            if tags.get(tags::CONFIG_HASH) == Some(&hash) {
                *now = health;
            }
        }
        self.now = self.now + Millis(1000);
        self.look();
        self.observed.health.values_mut().for_each(|sample| sample.streak = 3);
        let report = self.report();
        if !report.is_empty() {
            let Answer::Admitted(admissions) = self.apply(Change::Report(report)) else { panic!("so") };
            for admission in admissions {
                assert!(
                    matches!(admission, Admission::Granted(_)),
                    "a plan is always admissible: {admission:?}"
                );
            }
        }
        for _ in 0..calls {
            let open: Vec<IntentId> = self.group().intents.keys().copied().collect();
            if !open.is_empty() {
                self.perform(open[chance(open.len() as u64) as usize]);
            }
        }
    }

    fn of_image(&self, image: &str) -> usize {
        let hash = spec(image, Allocation::Size(1)).template.fingerprint();
        self.provider.iter().filter(|(_, tags, _)| tags.get(tags::CONFIG_HASH) == Some(&hash)).count()
    }

    fn steers(&mut self, steer: Steer) -> Answer {
        self.apply(Change::Object { key: ObjectKey::group(&web()), verb: Verb::Rollout(steer) })
    }
}

fn seeded(mut seed: u64) -> impl FnMut(u64) -> u64 {
    seed = seed.wrapping_mul(2654435761).max(1);
    move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    }
}

/// Whatever a group allows, and in whatever order calls end: never fewer ready members, never more instances, and it ends.
#[test]
fn a_rollout_keeps_its_limits_at_every_step_and_ends() {
    for seed in 1..=600u64 {
        let mut chance = seeded(seed);
        let size = 1 + chance(8) as u32;
        let (surge, unavailable) = (chance(4) as u32, chance(4) as u32);
        let updating = Updating {
            max_surge: members(surge),
            max_unavailable: if surge == 0 { members(unavailable.max(1)) } else { members(unavailable) },
            ..Updating::default()
        };
        let may = updating.disruption(&Allocation::Size(size));
        let mut story = Story::new(updated("v1", size, updating)).settles();
        story.commit(updated("v2", size, updating));
        let told = format!("seed {seed}: {size} members, surge {surge}, unavailable {unavailable}");
        for turn in 0.. {
            let calls = chance(5) as usize;
            story.turn("v2", Health::Healthy, calls, &mut chance);
            let group = story.group();
            assert!(story.provider.len() <= size as usize + may.surge, "{told}: too many");
            assert!(group.roster.ready() + may.unavailable >= size as usize, "{told}: too few are ready");
            let shown = crate::status::status(&web(), group, None, story.now);
            assert_eq!(shown.ready, group.roster.ready(), "{told}: what is shown is what is so");
            if (group.phase == Phase::Succeeded { at: group.target }) && group.intents.is_empty() {
                break;
            }
            assert!(turn < 400, "{told}: it does not end: {:?}", story.plan());
        }
        assert_eq!((story.of_image("v2"), story.of_image("v1")), (size as usize, 0), "{told}");
    }
}

#[test]
fn a_surge_of_five_replaces_five_at_once() {
    let updating = Updating { max_surge: members(5), ..Updating::default() };
    let mut story = Story::new(updated("v1", 20, updating)).settles();
    story.commit(updated("v2", 20, updating));
    story.look();
    assert_eq!(story.told().len(), 5, "{:?}", story.told());
    let mut steps = 0;
    while story.step() {
        steps += 1;
    }
    story.is_as_declared();
    assert!(steps <= 20, "{steps} steps: make five, see them ready, end five, four times");
}

/// A version that never becomes healthy touches no more members than may fail, and all is as it was afterwards.
#[test]
fn a_broken_version_touches_no_more_than_may_fail_and_is_taken_back() {
    for canary in [None, Some(Canary { count: 1, bake: Millis::seconds(10), manual: false })] {
        let updating = Updating {
            max_surge: members(5),
            max_failures: Some(100),
            on_failure: OnFailure::Rollback,
            canary,
            ..Updating::default()
        };
        let mut chance = seeded(7);
        let mut story = Story::new(updated("v1", 20, updating)).settles();
        story.commit(updated("v2", 20, updating));
        let (mut touched, before) = (0, story.made);
        for turn in 0.. {
            story.turn("v2", Health::Unhealthy, 50, &mut chance);
            touched = touched.max(story.of_image("v2"));
            assert_eq!(story.group().roster.ready(), 20, "nobody is taken away for it");
            if matches!(story.group().phase, Phase::RolledBack { .. }) {
                break;
            }
            assert!(turn < 2000, "it is not taken back: {:?} {:?}", story.group().phase, story.plan());
        }
        let most = 2;
        assert!(
            touched <= most && (story.made - before) as usize <= most,
            "{touched} touched, {} made",
            story.made - before
        );
        assert_eq!((story.of_image("v1"), story.provider.len()), (20, 20));
        let group = story.group();
        assert_eq!(group.revision, Revision(3), "what is declared is what is wanted");
        assert_eq!(group.spec.template, spec("v1", Allocation::Size(20)).template);
        assert!(
            matches!(group.rollout.cause, Some(Cause::Failures(_) | Cause::NoProgress)),
            "{:?}",
            group.rollout
        );
    }
}

#[test]
fn a_rollout_that_fails_pauses_and_an_operator_says_how_it_goes_on() {
    let mut chance = seeded(3);
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
    for _ in 0..=HEALTHY_WITHIN.0 / 1000 + 10 {
        story.turn("v2", Health::Unhealthy, 9, &mut chance);
    }
    let group = story.group();
    assert_eq!(group.phase, Phase::Paused { to: group.target });
    assert_eq!(group.rollout.cause, Some(Cause::Failures(1)));
    assert!(story.plan().waits.iter().any(|it| it.reason() == "TooManyFailures"), "{:?}", story.plan());
    assert_eq!((story.of_image("v1"), story.of_image("v2")), (3, 1));
    // It goes on, and the one that failed has its time once more.
    assert_eq!(story.steers(Steer::Resume), Answer::Done);
    story.turn("v2", Health::Healthy, 9, &mut chance);
    let healed = story.settles();
    healed.is_as_declared();
    // Taken back, of another story that came to the same.
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
    for _ in 0..=HEALTHY_WITHIN.0 / 1000 + 10 {
        story.turn("v2", Health::Unhealthy, 9, &mut chance);
    }
    assert_eq!(story.steers(Steer::Abort), Answer::Done);
    for _ in 0..10 {
        story.turn("v2", Health::Unhealthy, 9, &mut chance);
    }
    assert_eq!(story.group().phase, Phase::RolledBack { at: story.group().target });
    assert_eq!((story.of_image("v1"), story.of_image("v2"), story.made), (3, 0, 4), "nobody was made for it");
}

#[test]
fn nothing_that_gets_on_ends_at_the_deadline_whoever_leads() {
    for on_failure in OnFailure::ALL {
        let updating = Updating {
            on_failure,
            healthy_deadline: Some(Millis::seconds(20)),
            progress_deadline: Some(Millis::seconds(30)),
            ..Updating::default()
        };
        let mut story = Story::new(updated("v1", 3, updating)).settles();
        story.commit(updated("v2", 3, updating));
        let mut chance = seeded(5);
        // No call ever ends.
        for _ in 0..40 {
            story.turn("v2", Health::Healthy, 0, &mut chance);
        }
        let group = story.group();
        let expected = match on_failure {
            OnFailure::Pause => Phase::Paused { to: group.target },
            OnFailure::Continue => Phase::Failed { to: group.target },
            OnFailure::Rollback => Phase::RollingBack { to: group.target },
        };
        assert_eq!((group.phase, group.rollout.cause.clone()), (expected, Some(Cause::NoProgress)));
        for _ in 0..40 {
            story.turn("v2", Health::Healthy, 9, &mut chance);
        }
        let after = story.group();
        let end = match on_failure {
            OnFailure::Pause => Phase::Paused { to: after.target },
            OnFailure::Continue => Phase::Failed { to: after.target },
            OnFailure::Rollback => Phase::RolledBack { at: after.target },
        };
        assert_eq!(after.phase, end, "{:?}", story.plan());
    }
}

#[test]
fn canaries_come_first_and_the_others_follow_when_they_are_proven() {
    for manual in [false, true] {
        let canary = Some(Canary { count: 2, bake: Millis::seconds(20), manual });
        let updating = Updating { max_surge: members(5), canary, ..Updating::default() };
        let mut chance = seeded(11);
        let mut story = Story::new(updated("v1", 6, updating)).settles();
        story.commit(updated("v2", 6, updating));
        for _ in 0..15 {
            story.turn("v2", Health::Healthy, 9, &mut chance);
            assert!(story.of_image("v2") <= 2, "only the canaries");
        }
        assert_eq!(story.group().phase, Phase::Baking { to: story.group().target });
        assert!(matches!(story.steers(Steer::Resume), Answer::Done), "it goes on");
        for _ in 0..30 {
            story.turn("v2", Health::Healthy, 9, &mut chance);
        }
        if manual {
            assert_eq!(story.of_image("v2"), 2, "they wait for an operator");
            assert!(story.plan().waits.iter().any(|it| it.reason() == "PromotionAwaited"));
            assert_eq!(story.steers(Steer::Promote), Answer::Done);
        }
        let story = story.settles();
        story.is_as_declared();
        assert_eq!(story.of_image("v2"), 6);
    }
}

#[test]
fn a_canary_that_falls_ill_while_it_is_watched_stops_the_rollout_at_once() {
    let canary = Some(Canary { count: 1, bake: Millis::seconds(60), manual: false });
    let updating = Updating { canary, on_failure: OnFailure::Rollback, ..Updating::default() };
    let mut chance = seeded(13);
    let mut story = Story::new(updated("v1", 3, updating)).settles();
    story.commit(updated("v2", 3, updating));
    for _ in 0..10 {
        story.turn("v2", Health::Healthy, 9, &mut chance);
    }
    assert_eq!(story.group().phase, Phase::Baking { to: story.group().target });
    for _ in 0..20 {
        story.turn("v2", Health::Unhealthy, 9, &mut chance);
    }
    assert_eq!(story.group().phase, Phase::RolledBack { at: story.group().target }, "{:?}", story.plan());
    assert_eq!(story.of_image("v1"), 3);
}

/// A leader that is killed at any step of a canary leaves a rollout that ends alike.
#[test]
fn whoever_leads_ends_a_rollout_alike() {
    let canary = Some(Canary { count: 1, bake: Millis::seconds(5), manual: false });
    let updating = Updating { max_surge: members(2), canary, ..Updating::default() };
    let mut ends = BTreeSet::new();
    for killed_at in 0..40 {
        let mut chance = seeded(17);
        let mut story = Story::new(updated("v1", 4, updating)).settles();
        story.commit(updated("v2", 4, updating));
        for turn in 0..120 {
            if turn == killed_at {
                story.observed = Observed { leading_since: story.now, ..Observed::default() };
            }
            story.turn("v2", Health::Healthy, 2, &mut chance);
        }
        ends.insert(format!("{:?} {} {}", story.group().phase, story.of_image("v2"), story.made));
    }
    assert_eq!(ends.len(), 1, "{ends:?}");
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut story = Story::of(2).settles();
    let refused = |why| Answer::Refused(Refusal::Rollout { group: web(), why });
    for (steer, why) in [
        (Steer::Pause, NoSteer::NotGoingOn),
        (Steer::Resume, NoSteer::NotPaused),
        (Steer::Promote, NoSteer::NoCanary),
        (Steer::Abort, NoSteer::NotGoingOn),
    ] {
        let before = story.group().clone();
        assert_eq!(story.steers(steer), refused(why));
        assert_eq!(*story.group(), before);
    }
    // One that is being destroyed is not declared again by it.
    let mut story = Story::of(2).settles().wants("v2", Allocation::Size(2));
    story.apply(Change::Object { key: ObjectKey::group(&web()), verb: Verb::Destroy });
    assert_eq!(story.steers(Steer::Abort), refused(NoSteer::NotGoingOn));
    assert_eq!(story.group().lifecycle, Lifecycle::Destroying);
    // The first rollout of a group has nothing to go back to.
    let mut story = Story::of(2);
    assert_eq!(story.steers(Steer::Abort), refused(NoSteer::NothingBefore));
    // A rule of updates that changes replaces nobody.
    let mut story = Story::of(2).settles();
    let updating = Updating { max_surge: members(2), ..Updating::default() };
    story.commit(updated("v1", 2, updating));
    story.look();
    assert!(story.told().is_empty());
    assert_eq!(story.group().phase, Phase::Succeeded { at: story.group().target });
}

#[test]
fn the_pause_of_a_group_is_not_the_fault_of_its_new_members() {
    let mut chance = seeded(19);
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
    for _ in 0..5 {
        story.turn("v2", Health::Unhealthy, 9, &mut chance);
    }
    let key = ObjectKey::group(&web());
    story.apply(Change::Object { key: key.clone(), verb: Verb::Pause });
    story.now = story.now + HEALTHY_WITHIN * 10;
    story.apply(Change::Object { key, verb: Verb::Resume });
    for _ in 0..5 {
        story.turn("v2", Health::Unhealthy, 9, &mut chance);
    }
    assert!(matches!(story.group().phase, Phase::Running { .. }), "{:?}", story.group().rollout);
}

#[test]
fn a_slot_that_cannot_be_made_says_so_and_a_paused_rollout_asks_nobody_all_the_time() {
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
    story.look();
    let until = story.now + Millis::seconds(30);
    let failed = Backoff {
        until,
        since: story.now,
        failures: 3,
        template: story.group().target,
        message: "no such image".into(),
    };
    story.observed.backoff.insert(Slot::Ordinal(0), failed);
    let plan = story.plan();
    assert!(plan.actions.is_empty(), "it is tried again before others are: {:?}", plan.actions);
    assert!(plan.waits.iter().any(|it| it.reason() == "SlotBackoff"), "{:?}", plan.waits);
    story.steers(Steer::Pause);
    story.observed.patrolled_at = story.now;
    let plan = story.plan();
    assert!(plan.ask.is_empty() && plan.is_at_rest(), "{plan:?}");
}

/// The ways in which a rollout could stand still without a word: none of them lasts, and each says why.
#[test]
fn nothing_stands_still_without_a_word() {
    // Canaries that are the whole group are watched, too.
    let canary = Some(Canary { count: 1, bake: Millis::seconds(30), manual: true });
    let updating = Updating { canary, ..Updating::default() };
    let mut chance = seeded(23);
    let mut story = Story::new(updated("v1", 1, updating)).settles();
    story.commit(updated("v2", 1, updating));
    for _ in 0..60 {
        story.turn("v2", Health::Healthy, 9, &mut chance);
    }
    assert_eq!(story.group().phase, Phase::Baking { to: story.group().target });
    story.steers(Steer::Promote);
    story.settles().is_as_declared();

    // Members that are watched for longer than a rollout may stand still.
    let updating = Updating { monitor: PROGRESS_WITHIN * 2, ..Updating::default() };
    let mut story = Story::new(updated("v1", 2, updating)).settles();
    story.commit(updated("v2", 2, updating));
    for _ in 0..(PROGRESS_WITHIN * 2).0 / 1000 + 60 {
        story.turn("v2", Health::Healthy, 9, &mut chance);
    }
    assert_eq!(story.group().phase, Phase::Succeeded { at: story.group().target });

    // A pet that fails has nobody of before beside it, and says so.
    let mut story = Story::new(spec("v1", ids(&["a"]))).settles().wants("v2", ids(&["a"]));
    for _ in 0..HEALTHY_WITHIN.0 / 1000 + 20 {
        story.turn("v2", Health::Unhealthy, 9, &mut chance);
    }
    assert_eq!(story.group().phase, Phase::Paused { to: story.group().target });
    assert!(story.plan().waits.iter().any(|it| it.reason() == "TooManyFailures"), "{:?}", story.plan().waits);

    // An old member that is ill anyway does not keep a rollback from ending.
    let mut story = Story::of(4).settles().wants("v2", Allocation::Size(4));
    for _ in 0..6 {
        story.turn("v2", Health::Healthy, 9, &mut chance);
    }
    assert!(story.of_image("v1") > 0 && story.of_image("v2") > 0, "in the middle");
    let ill = story.group().roster.values().filter_map(Member::occupied);
    let ill = ill.filter(|it| it.template == Revision(1)).last().expect("one of v1").instance.id.clone();
    story.steers(Steer::Abort);
    for _ in 0..60 {
        story.provider.iter_mut().filter(|it| it.0 == ill).for_each(|it| it.2 = Health::Unhealthy);
        story.turn("v2", Health::Healthy, 9, &mut chance);
    }
    assert_eq!((story.of_image("v2"), story.of_image("v1")), (0, 4), "{:?}", story.plan());
}

#[test]
fn what_a_rollback_goes_back_to_is_kept_however_often_the_group_is_committed() {
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
    story.steers(Steer::Pause);
    for size in 0..30 {
        story.commit(spec("v2", Allocation::Size(3 + size % 2)));
    }
    assert!(story.group().revisions.len() <= crate::limits::MOST_REVISIONS);
    assert_eq!(story.group().goes_back_to(), Some(Revision(1)));
    assert_eq!(story.steers(Steer::Abort), Answer::Done);
    // A rollback that is paused is one when it goes on.
    story.steers(Steer::Pause);
    story.steers(Steer::Resume);
    assert!(matches!(story.group().phase, Phase::RollingBack { .. }));
    let story = story.settles();
    assert!(matches!(story.group().phase, Phase::RolledBack { .. }), "{:?}", story.group().phase);
}
