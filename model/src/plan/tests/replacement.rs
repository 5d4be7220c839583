//! Slots that are taken over, in the midst of everything else that may happen.

use super::*;

/// What the next plan claims is granted, and nothing of it has come true yet.
fn grant(story: &mut Story) -> Vec<IntentId> {
    story.now = story.now + Millis(1000);
    story.look();
    let report = story.report();
    let Answer::Admitted(answers) = story.apply(Change::Report(report)) else { panic!("it is answered so") };
    let granted = answers.into_iter().map(|answer| match answer {
        Admission::Granted(intent) => intent,
        Admission::Denied(why) => panic!("a plan is admissible: {why}"),
    });
    granted.collect()
}

/// Every open call is under way.
fn calls(story: &mut Story) {
    story.observed.in_flight = story.group().intents.keys().copied().collect();
}

/// Goes on until the plan begins with this.
fn until_told(story: &mut Story, what: &str) {
    for _ in 0..60 {
        story.look();
        if story.told().first().is_some_and(|told| told.starts_with(what)) {
            return;
        }
        story.step();
    }
    panic!("it never says `{what}`: {:?}", story.plan());
}

/// Plans and reports a few times while the calls that are open stay so.
fn goes_on(story: &mut Story) {
    for _ in 0..4 {
        story.now = story.now + Millis(1000);
        story.look();
        calls(story);
        let report = story.report();
        if !report.is_empty() {
            story.apply(Change::Report(report));
        }
    }
}

#[test]
fn scaling_in_while_a_slot_is_taken_over_takes_nobody_in_its_place() {
    let mut story = Story::of(2).settles().wants("v2", Allocation::Size(2));
    until_told(&mut story, "destroy");
    story.step();
    until_told(&mut story, "replace slot 1");
    grant(&mut story);
    story.commit(spec("v2", Allocation::Size(1)));
    goes_on(&mut story);
    let new = story.held_by(&Slot::Ordinal(0)).expect("it is held");
    assert_eq!(new.terminating, None, "the one that is to stay");
    story.observed.in_flight.clear();
    story.settles().is_as_declared();
}

#[test]
fn scaling_in_while_one_is_replaced_takes_nobody_else() {
    let mut story = Story::of(2);
    story.state.level = 1;
    let mut story = story.settles().wants("v2", Allocation::Size(2));
    until_told(&mut story, "destroy i001: rolling_update");
    grant(&mut story);
    story.commit(spec("v2", Allocation::Size(1)));
    goes_on(&mut story);
    let other = story.held_by(&Slot::Ordinal(1)).expect("it is held");
    assert_eq!(other.terminating, None, "only one would be left otherwise");
}

#[test]
fn a_replacement_ends_though_the_ceiling_is_reached() {
    let mut story = Story::of(2);
    story.apply(Change::SetVariable { key: "infrakit/max-instances".into(), value: "3".into() });
    let mut story = story.settles().wants("v2", Allocation::Size(2));
    until_told(&mut story, "replace");
    story.step();
    story.commit(spec("v2", Allocation::Size(3)));
    let story = story.settles();
    story.is_as_declared();
    assert_eq!(story.provider.len(), 3);
}

#[test]
fn one_that_falls_ill_before_it_takes_over_is_not_followed_by_a_claim_that_is_denied() {
    let mut story = Story::of(2).settles().wants("v2", Allocation::Size(2));
    until_told(&mut story, "replace");
    story.step();
    let (slot, instance) = {
        let incoming = story.group().roster.values().find_map(Member::incoming_occupied);
        let instance = incoming.expect("it was made").instance.clone();
        (story.group().roster.slot_of(&instance).expect("it is known").clone(), instance)
    };
    let since = story.now;
    let facts = [
        Fact::Ready { slot: slot.clone(), instance: instance.clone() },
        Fact::Unhealthy { slot, instance, since },
    ];
    story.apply(Change::Report(
        Report::new(ObjectKey::group(&web()), story.group().revision, TERM).with_facts(facts),
    ));
    story.look();
    assert!(story.report().claims.is_empty(), "one healthy answer is no verdict: {:?}", story.plan());
    for sample in story.observed.health.values_mut() {
        sample.streak = 2;
    }
    let report = story.report();
    story.apply(Change::Report(report));
    story.settles().is_as_declared();
}

#[test]
fn no_leader_gets_two_of_one_name_or_more_than_one_too_many() {
    let mut story = Story::new(spec("v1", ids(&["a"]))).settles().wants("v2", ids(&["a"]));
    let report = |story: &Story| Report::new(ObjectKey::group(&web()), story.group().revision, TERM);
    let twice = report(&story).with_claims([Claim::Replace { slot: Slot::Logical("a".into()) }]);
    let denied = |why| Answer::Admitted(vec![Admission::Denied(why)]);
    assert_eq!(story.apply(Change::Report(twice)), denied(Denial::EnoughMembers));
    let mut story = Story::of(4).settles().wants("v2", Allocation::Size(4));
    let lost = (0..2).map(|n| {
        let slot = Slot::Ordinal(n);
        let instance = story.held_by(&slot).expect("it is held").instance.clone();
        Fact::Gone { slot, instance }
    });
    let many = report(&story)
        .with_facts(lost.collect::<Vec<_>>())
        .with_claims((2..4).map(|n| Claim::Replace { slot: Slot::Ordinal(n) }))
        .with_claims((0..2).map(|n| Claim::Provision { slot: Slot::Ordinal(n) }));
    story.apply(Change::Report(many));
    assert_eq!(story.group().roster.incarnations(), 5);
}

#[test]
fn a_member_of_whom_nothing_is_known_is_asked_again_in_turn_also_while_it_is_paused() {
    let mut story = Story::of(2).settles();
    story.observed.health.clear();
    story.apply(Change::Object { key: ObjectKey::group(&web()), verb: Verb::Pause });
    story.now = story.now + Millis::seconds(100);
    let plan = story.plan();
    assert_eq!((plan.patrol.len(), plan.wake_at), (2, Some(story.now + Millis::seconds(10))));
}

#[test]
fn an_id_that_is_given_out_again_in_the_same_report_holds_no_second_slot() {
    let mut story = Story::of(2).settles();
    let held = story.held_by(&Slot::Ordinal(1)).expect("it is held").instance.clone();
    let report = |story: &Story| Report::new(ObjectKey::group(&web()), story.group().revision, TERM);
    let destroy = Claim::Destroy {
        instance: held.id.clone(),
        slot: Some(Slot::Ordinal(1)),
        template: Revision(1),
        reason: crate::intent::Reason::Terminate,
    };
    let claims = report(&story).with_claims([destroy, Claim::Provision { slot: Slot::Ordinal(2) }]);
    let Answer::Admitted(answers) = story.apply(Change::Report(claims)) else { panic!("it is answered so") };
    let done = answers.iter().map(|answer| match answer {
        Admission::Granted(intent) => Fact::Outcome(*intent, Outcome::Done(held.id.clone())),
        Admission::Denied(why) => panic!("{why}"),
    });
    let outcomes = report(&story).with_facts(done.collect::<Vec<_>>());
    story.apply(Change::Report(outcomes));
    assert_eq!(story.held_by(&Slot::Ordinal(2)), None, "as 0.2.0 has it, so that all managers agree");
}

/// Whatever comes while slots are taken over, in calm it comes to rest as declared, and no plan is denied there.
#[test]
fn after_any_order_of_commits_losses_and_refusals_it_comes_to_rest() {
    let mut seed = 1u64;
    let mut chance = move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    for run in 0..400 {
        let mut story = Story::of(3);
        if chance(3) == 0 {
            story.apply(Change::SetVariable { key: "infrakit/max-instances".into(), value: "4".into() });
        }
        for _ in 0..40 {
            story.now = story.now + Millis(1000);
            story.look();
            calls(&mut story);
            trouble(&mut story, &mut chance);
        }
        story.provider.iter_mut().for_each(|it| it.2 = Health::Healthy);
        for id in story.group().intents.keys().copied().collect::<Vec<_>>() {
            story.perform(id);
        }
        story.observed.in_flight.clear();
        comes_to_rest(&mut story, run);
    }
}

/// One thing that may happen.
fn trouble(story: &mut Story, chance: &mut impl FnMut(u64) -> u64) {
    let open: Vec<IntentId> = story.group().intents.keys().copied().collect();
    match chance(12) {
        0 => {
            let version = ["v1", "v2", "v3"][chance(3) as usize];
            story.commit(spec(version, Allocation::Size(1 + chance(4) as u32)));
        }
        1 if !story.provider.is_empty() => {
            story.provider.remove(chance(story.provider.len() as u64) as usize);
        }
        2 => {
            let health = if chance(2) == 0 { Health::Unhealthy } else { Health::Healthy };
            if let Some(it) = story.provider.get_mut(chance(4) as usize) {
                it.2 = health;
            }
        }
        3 if !open.is_empty() => {
            let refused = Outcome::Refused { message: "no".into(), retryable: true };
            let report = Report::new(ObjectKey::group(&web()), story.group().revision, TERM);
            story.apply(Change::Report(report.with_facts([Fact::Outcome(open[0], refused)])));
        }
        4..=7 if !open.is_empty() => story.perform(open[chance(open.len() as u64) as usize]),
        _ => {
            let report = story.report();
            if !report.is_empty() {
                story.apply(Change::Report(report));
            }
        }
    }
}

fn comes_to_rest(story: &mut Story, run: u32) {
    for _ in 0..300 {
        story.now = story.now + Millis(1000);
        story.look();
        story.observed.health.values_mut().for_each(|it| it.streak = 3);
        let report = story.report();
        if report.is_empty() {
            let group = story.group();
            let done = group.phase == Phase::Succeeded { at: group.target };
            if done && group.running() == group.desired() && group.members().count() == group.desired() {
                return;
            }
            continue;
        }
        let Answer::Admitted(answers) = story.apply(Change::Report(report)) else {
            panic!("it is answered so")
        };
        for answer in answers {
            match answer {
                Admission::Granted(intent) => story.perform(intent),
                Admission::Denied(why) => panic!("run {run}: {why}"),
            }
        }
    }
    panic!("run {run} does not come to rest: {:?}\n{:?}", story.plan(), story.group().roster);
}
