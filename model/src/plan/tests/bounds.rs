//! What a group may not do however much it wants to, and what only an operator can decide.

use super::*;
use crate::LogIndex;
use crate::answer::{Denial, Refusal};
use crate::command::{Machine, Manager, Program, Settle};
use crate::intent::Reason;
use crate::limits::LONGEST_CALL;
use crate::observed::Backoff;
use crate::report::{Claim, Report};
use crate::{Health, InstanceId, InstanceRef, IntentId, Millis, ObjectKey, Outcome, Revision, Slot};

fn set(story: &mut Story, key: &str, value: &str) -> Answer {
    story.apply(Change::SetVariable { key: key.into(), value: value.into() })
}

/// The first claim of a plan, admitted, whose call nobody made.
fn left_open(story: &mut Story) -> IntentId {
    story.look();
    let report = story.report();
    let Answer::Admitted(granted) = story.apply(Change::Report(report)) else { panic!() };
    let Admission::Granted(intent) = granted[0] else { panic!("{granted:?}") };
    intent
}

fn settle(story: &mut Story, intent: IntentId, attempt: u32, made: Option<&str>) -> Answer {
    story.apply(Change::Settle(Settle { group: web(), intent, attempt, made: made.map(InstanceId::new) }))
}

#[test]
fn what_a_blind_plugin_did_is_never_guessed() {
    let mut story =
        Story { guarantees: Guarantees { class: PluginClass::D, lists_within: None }, ..Story::of(1) };
    let intent = left_open(&mut story);
    for _ in 0..1000 {
        story.now = story.now + Millis::seconds(60);
        story.look();
        assert!(story.report().is_empty() && story.told().is_empty(), "{:?}", story.plan());
    }
    let waits = |story: &Story| {
        story.plan().waits.iter().any(|it| matches!(it, Wait::Operator { slot: Slot::Ordinal(0), .. }))
    };
    assert!(waits(&story));
    // The tags come late: then it is known.
    let mut late = story.clone();
    late.provider.push(("late".into(), tags_of("h", Some(&Slot::Ordinal(0)), Some(intent)), Health::Healthy));
    late.look();
    assert_eq!(late.plan().outcomes, [(intent, Outcome::Done("late".into()))]);
    // The operator found nothing: the slot is filled under another intent.
    let mut missing = story.clone();
    assert_eq!(settle(&mut missing, intent, 1, None), Answer::Done);
    missing.look();
    assert_eq!(missing.told(), ["create slot 0"]);
    // The operator found it.
    assert_eq!(settle(&mut story, intent, 1, Some("found")), Answer::Done);
    assert_eq!(story.group().running(), 1);
}

#[test]
fn an_operators_word_counts_only_for_the_attempt_it_is_about() {
    let mut story = Story::of(1);
    let intent = left_open(&mut story);
    story.apply(Change::Report(
        Report::new(ObjectKey::group(&web()), Revision(1), TERM).with_repeats(vec![intent]),
    ));
    let refused = Answer::Refused(Refusal::NotInDoubt { group: web(), intent });
    assert_eq!(settle(&mut story, intent, 1, None), refused, "it is attempted again");
    assert_eq!(settle(&mut story, IntentId { index: LogIndex(99), offset: 0 }, 1, None).clone(), {
        let intent = IntentId { index: LogIndex(99), offset: 0 };
        Answer::Refused(Refusal::NotInDoubt { group: web(), intent })
    });
    assert_eq!(settle(&mut story, intent, 2, None), Answer::Done);
    assert_eq!(settle(&mut story, intent, 2, None), refused, "it is settled");
}

#[test]
fn a_member_that_a_blind_plugin_does_not_show_is_not_buried() {
    let mut story =
        Story { guarantees: Guarantees { class: PluginClass::D, lists_within: None }, ..Story::of(1) };
    left_open(&mut story);
    let intent = *story.group().intents.keys().next().expect("it is open");
    settle(&mut story, intent, 1, Some("found"));
    for _ in 0..100 {
        story.now = story.now + Millis::seconds(60);
        story.look();
        assert!(story.plan().gone.is_empty() && story.told().is_empty());
    }
}

#[test]
fn nobody_is_ready_by_a_flavors_word_before_it_is_known_what_the_plugin_proves() {
    let mut story =
        Story { guarantees: Guarantees { class: PluginClass::D, lists_within: None }, ..Story::of(1) };
    let intent = left_open(&mut story);
    let tags = tags_of("h", Some(&Slot::Ordinal(0)), Some(intent));
    story.perform(intent);
    story.look();
    assert_eq!(story.plan().ready.len(), 1, "it is listed");
    // The next leader hears of its health first, and its plugin does not list it.
    let health = std::mem::take(&mut story.observed).health;
    story.observed.health = health.clone();
    assert!(story.plan().ready.is_empty());
    story.provider.clear();
    story.look();
    story.observed.health = health;
    assert!(story.plan().ready.is_empty());
    story.provider.push(("i001".into(), tags, Health::Healthy));
    story.look();
    assert_eq!(story.plan().ready.len(), 1);
}

#[test]
fn what_a_late_first_attempt_made_too_much_is_destroyed_and_nothing_else() {
    let mut story = Story::of(1);
    let intent = left_open(&mut story);
    story.observed = Observed::default();
    assert!(story.step(), "it is looked for, and made again");
    let mut story = story.settles();
    assert_eq!(story.provider.len(), 1);
    // The first attempt takes effect now, however late; and there is an old stray of ours.
    let late = tags_of(&story.group().template().hash, Some(&Slot::Ordinal(0)), Some(intent));
    story.provider.push(("late".into(), late, Health::Healthy));
    let stray = tags_of("old", Some(&Slot::Ordinal(0)), Some(IntentId { index: LogIndex(1), offset: 7 }));
    story.provider.push(("stray".into(), stray, Health::Healthy));
    let story = story.settles();
    let left: Vec<_> = story.provider.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(left, ["i001", "stray"]);
    assert_eq!(story.plan().strays, [InstanceRef::from("stray")]);
}

#[test]
fn no_group_gets_past_the_ceiling() {
    let mut story = Story::of(4);
    assert_eq!(set(&mut story, "infrakit/max-instances", "3"), Answer::Done);
    let mut story = story.settles();
    assert_eq!(story.made, 3);
    assert!(story.plan().waits.contains(&Wait::Ceiling), "{:?}", story.plan().waits);
    assert!(story.plan().wake_at.is_some());
    // Nor does a leader that does not know it.
    let claims = vec![Claim::Provision { slot: Slot::Ordinal(3) }];
    let answer = story
        .apply(Change::Report(Report::new(ObjectKey::group(&web()), Revision(1), TERM).with_claims(claims)));
    assert_eq!(answer, Answer::Admitted(vec![Admission::Denied(Denial::Ceiling)]));
    // A rollout does not take a member whose place it could not fill; this one can.
    let story = story.wants("v2", Allocation::Size(3)).settles();
    story.is_as_declared();
    let mut story = story.wants("v2", Allocation::Size(4));
    set(&mut story, "infrakit/max-instances", "none");
    let story = story.settles();
    story.is_as_declared();
}

#[test]
fn a_cluster_with_too_much_under_way_says_so_and_looks_again() {
    let mut story = Story::of(2);
    story.look();
    story.observed.bounds.open = 0;
    // One is reserved for every group, so that none waits for the hung plugin of another.
    let plan = story.plan();
    assert!(plan.waits.contains(&Wait::Others), "{plan:?}");
    assert_eq!((story.told(), plan.wake_at), (vec!["create slot 0".into()], Some(story.now + HEALTH_EVERY)));
    // Until all managers know it, none is.
    story.observed.bounds.level = 1;
    assert!(story.told().is_empty());
    story.observed.bounds.open = 1;
    assert_eq!(story.told(), ["create slot 0"]);
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let mut story = Story::of(0);
    for (key, value) in [
        ("infrakit/max-instances", "many"),
        ("infrakit/max-instances", "-1"),
        ("infrakit/plugin/x/class", "A"),
        ("infrakit/plugin//class", "C"),
        ("infrakit/anything", "1"),
    ] {
        let answer = set(&mut story, key, value);
        assert!(matches!(answer, Answer::Refused(Refusal::BadSetting { .. })), "{key} {value}: {answer:?}");
    }
    for (key, value) in [("mine", "x"), ("infrakit/plugin/x/class", "D"), ("infrakit/max-instances", "none")]
    {
        assert_eq!(set(&mut story, key, value), Answer::Done, "{key} {value}");
    }
    let said = Guarantees { class: PluginClass::A, lists_within: Some(Millis(1)) };
    let of = |plugin: &str| story.state.guarantees(&plugin.into(), said).class;
    assert_eq!((of("x/compute"), of("y")), (PluginClass::D, PluginClass::A));
}

#[test]
fn a_provider_that_eats_what_it_is_given_is_not_fed_for_ever() {
    let mut story = Story::of(5).settles();
    let began = story.now;
    // Every instance dies as soon as it is there.
    while story.now.since(began) < Millis::seconds(600) {
        story.provider.clear();
        story.step();
    }
    let most = 100 + 3 * 5;
    assert!(story.made <= 2 * most, "{} were made in ten minutes", story.made);
    assert!(story.made > most / 2, "healing goes on: {}", story.made);
    // A burst uses it up, and a leader that does not know it is refused.
    let mut story = Story::of(5).settles();
    for _ in 0..most {
        let claims = vec![Claim::Provision { slot: Slot::Ordinal(0) }];
        let held = story.held_by(&Slot::Ordinal(0)).map(|it| it.instance.clone());
        let instance = held.unwrap_or_else(|| "x".into());
        let gone = [Fact::Gone { slot: Slot::Ordinal(0), instance }];
        story.apply(Change::Report(
            Report::new(ObjectKey::group(&web()), Revision(1), TERM).with_facts(gone).with_claims(claims),
        ));
        let intent = story.group().intents.keys().next().copied();
        if let Some(intent) = intent {
            let made = Outcome::Done(format!("n{}", story.index).as_str().into());
            let outcomes = [Fact::Outcome(intent, made)];
            story.apply(Change::Report(
                Report::new(ObjectKey::group(&web()), Revision(1), TERM).with_facts(outcomes),
            ));
        }
    }
    let claims = vec![Claim::Provision { slot: Slot::Ordinal(9) }];
    let gone = [Fact::Gone { slot: Slot::Ordinal(1), instance: "i002".into() }];
    let answer = story.apply(Change::Report(
        Report::new(ObjectKey::group(&web()), Revision(1), TERM).with_facts(gone).with_claims(claims),
    ));
    assert_eq!(answer, Answer::Admitted(vec![Admission::Denied(Denial::TooFast)]));
    story.provider.clear();
    story.look();
    let waits = story.plan();
    assert!(waits.actions.is_empty(), "{waits:?}");
    // A commit of a changed spec is somebody's word that it is meant.
    let story = story.wants("v1", Allocation::Size(6)).settles();
    story.is_as_declared();
}

#[test]
fn a_clock_that_is_set_back_neither_stops_nor_frees_a_group() {
    let mut story = Story::of(5).settles();
    let mut group = story.group().clone();
    group.paid_until = story.now + Millis::seconds(100_000);
    assert_eq!(group.may_make(story.now), 0);
    let from = group.may_make_from(story.now);
    assert!(from.since(story.now) < Millis::seconds(10), "it refills from now on: {from:?}");
    story.now = Timestamp(0);
    assert!(group.may_make(Timestamp(u64::MAX / 2)) <= 120);
}

#[test]
fn a_managers_own_machine_is_never_destroyed() {
    let mut story = Story::of(3).settles();
    let manager = Manager {
        name: "m1".into(),
        address: "m1:1".into(),
        storage: "d1".into(),
        instance: Some("i001".into()),
        program: Program { version: String::new(), level: crate::command::LEVEL },
    };
    story.apply(Change::Join { manager, token: None });
    // It would be the first by its id.
    let mut story = story.wants("v1", Allocation::Size(2)).settles();
    assert!(story.provider.iter().any(|(id, ..)| id.as_str() == "i001"));
    let destruction = Claim::Destroy {
        instance: "i001".into(),
        slot: Some(Slot::Ordinal(0)),
        template: Revision(1),
        reason: Reason::Terminate,
    };
    let report =
        Report::new(ObjectKey::group(&web()), story.group().revision, TERM).with_claims(vec![destruction]);
    let answer = story.apply(Change::Report(report));
    assert_eq!(answer, Answer::Admitted(vec![Admission::Denied(Denial::HostsManager)]));
    let mut story = story.wants("v1", Allocation::Size(0));
    for _ in 0..10 {
        story.step();
    }
    let left: Vec<_> = story.provider.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(left, ["i001"]);
    let waits = |it: &Wait| matches!(it, Wait::Manager { manager, .. } if manager == "m1");
    assert!(story.plan().waits.iter().any(waits), "{:?}", story.plan().waits);
}

#[test]
fn a_managers_machine_is_that_of_its_plugin() {
    let join = |story: &mut Story, name: &str, plugin: &str| {
        let manager = Manager {
            name: name.into(),
            address: format!("{name}:1"),
            storage: name.into(),
            instance: Some(Machine { id: "i001".into(), plugin: Some(plugin.into()) }),
            program: Program { version: String::new(), level: crate::command::LEVEL },
        };
        story.apply(Change::Join { manager, token: None });
    };
    let machines = |story: &Story| story.state.managers.values().filter(|it| it.instance.is_some()).count();
    // Another plugin numbers alike: that machine is no member of this group, and does not hold it up.
    let mut story = Story::of(1).settles();
    join(&mut story, "m1", "docker");
    let mut gone = story.clone().wants("v1", Allocation::Size(0)).settles();
    assert!(gone.provider.is_empty());
    gone.look();
    // Its own, by its type or as a whole; and whoever moves in at one plugin does not move out at the other.
    for own in ["simulator/compute", "simulator"] {
        let mut story = story.clone();
        join(&mut story, "m2", own);
        assert_eq!(machines(&story), 2, "{own}");
        let mut story = story.wants("v1", Allocation::Size(0));
        for _ in 0..5 {
            story.step();
        }
        assert_eq!(story.provider.len(), 1, "{own}");
        join(&mut story, "m3", own);
        assert_eq!(machines(&story), 2, "the successor of m2 on {own}");
    }
    // Managers of the level before know ids alone.
    story.state.level = 1;
    join(&mut story, "m4", "simulator");
    assert_eq!(machines(&story), 1);
    let known = story.state.managers.values().find(|it| it.name == "m4").and_then(|it| it.instance.clone());
    assert_eq!(known, Some("i001".into()));
}

#[test]
fn what_this_cluster_cannot_have_made_is_reported_and_left() {
    let mut story = Story::new(spec("v1", ids(&["a"]))).settles();
    let hash = story.group().template().hash.clone();
    let a = Slot::Logical("a".into());
    // From the future: another cluster with this id has gone on further.
    let to_come = IntentId { index: LogIndex(1_000_000), offset: 0 };
    story.provider.push(("other".into(), tags_of(&hash, Some(&a), Some(to_come)), Health::Healthy));
    for _ in 0..5 {
        story.step();
    }
    assert_eq!(story.provider.len(), 2, "a second instance of a pet, and still not destroyed");
    assert_eq!(
        story.plan().anomalies,
        [Anomaly::UnknownIntent { instance: "other".into(), token: to_come.to_string() }]
    );
    assert_eq!(story.plan().strays, [InstanceRef::from("other")]);
}

#[test]
fn two_instances_with_one_token_are_reported_and_left() {
    let mut story = Story::of(1).settles();
    let (_, tags, _) = story.provider[0].clone();
    let intent = intent_of(&tags).expect("it has a token");
    story.provider.push(("duplicate".into(), tags, Health::Healthy));
    story.look();
    let view = story.observed.views.values_mut().next().expect("it was looked at");
    let view = Arc::make_mut(view);
    view.by_intent.insert(intent, "i001".into());
    view.duplicates.push((intent, "duplicate".into()));
    let plan = story.plan();
    let instances = ["duplicate".into(), "i001".into()];
    assert_eq!(plan.anomalies, [Anomaly::SharedToken { intent, instances }]);
    assert!(plan.actions.is_empty(), "{plan:?}");
    assert_eq!(plan.strays, [InstanceRef::from("duplicate")]);
}

/// A pet, and a second instance of it.
fn with_second_of_a_pet(name: &str) -> Story {
    let mut story = Story::new(spec("v1", ids(&["a"]))).settles();
    let hash = story.group().template().hash.clone();
    let made = IntentId { index: LogIndex(1), offset: 0 };
    let tags = tags_of(&hash, Some(&Slot::Logical("a".into())), Some(made));
    story.provider.push((name.into(), tags, Health::Healthy));
    story
}

/// A second attempt made another one, which is not the one that is kept.
fn with_duplicate_of_a_pet(name: &str) -> Story {
    let mut story = with_second_of_a_pet(name);
    let made = IntentId { index: LogIndex(1), offset: 0 };
    let group = story.state.groups.get_mut(&web()).expect("the group is there");
    std::sync::Arc::make_mut(group).repeated.insert(made, Some("i001".into()));
    story
}

#[test]
fn a_second_instance_of_a_pet_that_a_manager_runs_on_is_left() {
    let mut story = with_duplicate_of_a_pet("host");
    let manager = Manager {
        name: "m1".into(),
        address: "m1:1".into(),
        storage: "d1".into(),
        instance: Some("host".into()),
        program: Program { version: String::new(), level: crate::command::LEVEL },
    };
    story.apply(Change::Join { manager: manager.clone(), token: None });
    story.look();
    let plan = story.plan();
    assert!(plan.actions.is_empty() && plan.strays == [InstanceRef::from("host")], "{plan:?}");
    // Another manager runs there now, or the first one's successor: one record is enough.
    let successor = Manager { name: "m2".into(), address: "m2:1".into(), storage: "d2".into(), ..manager };
    story.apply(Change::Join { manager: successor, token: None });
    let there: Vec<_> = story.state.managers.values().filter(|it| it.instance.is_some()).collect();
    assert_eq!((there.len(), there[0].name.as_str()), (1, "m2"));
}

#[test]
fn the_end_of_a_stray_that_was_refused_is_asked_for_again_after_a_pause() {
    let mut story = with_duplicate_of_a_pet("duplicate");
    story.look();
    assert_eq!(story.told(), ["destroy duplicate: terminate"]);
    let until = story.now + Millis(500);
    story.observed.held_off.insert(
        "duplicate".into(),
        Backoff {
            since: story.now,
            failures: 1,
            template: story.group().target,
            until,
            message: "no".into(),
        },
    );
    let plan = story.plan();
    assert!(plan.actions.is_empty() && plan.wake_at == Some(until), "{plan:?}");
    assert!(plan.waits.iter().any(|it| matches!(it, Wait::Stray { .. })), "{plan:?}");
}

#[test]
fn a_label_for_whoever_is_gone_or_not_wanted_any_more_holds_up_nobody() {
    for destroyed in [false, true] {
        let mut story = Story::of(1);
        story.provider.push(("seed".into(), seed_of(None), Health::Healthy));
        let label = left_open(&mut story);
        story.observed = Observed::default();
        if destroyed {
            story.apply(Change::Object { key: ObjectKey::group(&web()), verb: Verb::Destroy });
        } else {
            story.provider.clear();
        }
        story.look();
        let outcomes = story.plan().outcomes;
        assert!(matches!(&outcomes[..], [(id, Outcome::Refused { .. })] if *id == label), "{outcomes:?}");
    }
}

#[test]
fn an_operator_cannot_give_one_instance_two_slots() {
    let mut story = Story::of(2);
    let first = left_open(&mut story);
    story.perform(first);
    let held = story.group().members().next().cloned().expect("one is there");
    let open = *story.group().intents.keys().next().expect("one is open");
    let refused = Answer::Refused(Refusal::NotInDoubt { group: web(), intent: open });
    assert_eq!(settle(&mut story, open, 1, Some(held.id.as_str())), refused);
}

#[test]
fn nobody_goes_for_a_rollout_whose_place_could_not_be_filled() {
    let mut story = Story::of(3).settles();
    set(&mut story, "infrakit/max-instances", "2");
    let mut story = story.wants("v2", Allocation::Size(3));
    for _ in 0..5 {
        story.step();
    }
    assert_eq!(story.provider.len(), 3);
    assert!(story.plan().waits.contains(&Wait::Ceiling), "{:?}", story.plan().waits);
    set(&mut story, "infrakit/max-instances", "3");
    story.settles().is_as_declared();
}

#[test]
fn an_operators_word_counts_when_it_was_asked_for_and_names_what_may_be_there() {
    let mut story =
        Story { guarantees: Guarantees { class: PluginClass::D, lists_within: None }, ..Story::of(2) };
    let first = left_open(&mut story);
    story.perform(first);
    let held = story.group().members().next().cloned().expect("one is there");
    let open = *story.group().intents.keys().next().expect("one is open");
    let word = |story: &Story, made: Option<&str>| {
        let made = made.map(InstanceId::new);
        operators_word(&web(), story.group(), &story.observed, &story.plan(), "1", made)
    };
    // The leader that made the call is gone, and the next one has just begun.
    story.observed.leading_since = story.now;
    story.look();
    assert_eq!(word(&story, None), Err(Unasked::Slot), "its call may still take effect");
    story.now = story.now + LONGEST_CALL;
    let mut foreign = tags_of("h", None, None);
    foreign.insert(tags::OWNER.into(), "another".into());
    story.provider.push(("foreign".into(), foreign, Health::Healthy));
    story.provider.push(("bare".into(), seed_of(None), Health::Healthy));
    story.look();
    let views = story.observed.views.values_mut();
    for view in views {
        let seen = Arc::make_mut(view).seen.get_mut(&InstanceId::new("foreign"));
        seen.expect("it is listed").ours = false;
    }
    assert_eq!(word(&story, Some(held.id.as_str())), Err(Unasked::BelongsElsewhere));
    assert_eq!(word(&story, Some("foreign")), Err(Unasked::BelongsElsewhere));
    assert_eq!(word(&story, Some("nowhere")), Err(Unasked::NotShown));
    for made in [Some("bare"), None] {
        let settle = word(&story, made).expect("it was asked for");
        assert_eq!((settle.intent, settle.attempt, settle.made), (open, 1, made.map(InstanceId::new)));
    }
}

/// What was made after the backup that this lineage began with.
fn made_since(story: &Story, slot: &Slot) -> tags::Tags {
    let mut tags = tags_of(&story.group().template().hash, Some(slot), None);
    tags.insert(tags::INTENT.into(), LOST.into());
    tags
}

/// Goes on as after a backup was restored.
fn begin_anew(story: &mut Story) {
    let me = Manager {
        name: "m1".into(),
        address: "m1:1".into(),
        storage: "d1".into(),
        instance: None,
        program: Program { version: String::new(), level: crate::command::LEVEL },
    };
    story.state = story.state.begun_anew(2, LogIndex(story.index), crate::NodeId(story.index + 1000), me);
    story.index += 1000;
    story.observed = Observed { leading_since: story.now, ..Observed::default() };
}

#[test]
fn a_pet_that_was_healed_since_the_backup_is_taken_in_and_never_destroyed() {
    let mut story = Story::new(spec("v1", ids(&["a"]))).settles();
    begin_anew(&mut story);
    // Whoever is recorded is gone; another holds the name.
    story.provider.clear();
    let tags = made_since(&story, &Slot::Logical("a".into()));
    story.provider.push(("since".into(), tags, Health::Healthy));
    let story = story.settles();
    let alive: Vec<&str> = story.provider.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(alive, ["since"], "it was neither destroyed nor doubled");
    let holder = story.held_by(&Slot::Logical("a".into()));
    assert!(holder.is_some_and(|it| it.instance.id.as_str() == "since"), "{holder:?}");
}

#[test]
fn of_two_that_hold_a_name_since_a_backup_nobody_is_destroyed_by_itself() {
    let mut story = Story::new(spec("v1", ids(&["a"]))).settles();
    begin_anew(&mut story);
    let tags = made_since(&story, &Slot::Logical("a".into()));
    story.provider.push(("since".into(), tags, Health::Healthy));
    story.look();
    let plan = story.plan();
    assert!(plan.actions.is_empty() && plan.strays == [InstanceRef::from("since")], "{plan:?}");
    assert!(matches!(&plan.anomalies[..], [Anomaly::SecondOfName { .. }]), "an operator is told: {plan:?}");
}

#[test]
fn an_intent_that_was_open_in_a_backup_is_not_repeated_over_what_filled_its_slot_since() {
    for slot in [Slot::Ordinal(0), Slot::Logical("a".into())] {
        let allocation = match &slot {
            Slot::Ordinal(_) => Allocation::Size(1),
            Slot::Logical(_) => ids(&["a"]),
        };
        for filled in [true, false] {
            let mut story = Story::new(spec("v1", allocation.clone()));
            story.apply(Change::Report(
                Report::new(ObjectKey::group(&web()), Revision(1), TERM)
                    .with_claims(vec![Claim::Provision { slot: slot.clone() }]),
            ));
            begin_anew(&mut story);
            if filled {
                let tags = made_since(&story, &slot);
                story.provider.push(("since".into(), tags, Health::Healthy));
            }
            let story = story.settles();
            assert_eq!(story.provider.len(), 1, "{slot} {filled}");
            assert_eq!(story.provider[0].0.as_str() == "since", filled, "{slot} {filled}");
        }
    }
}
