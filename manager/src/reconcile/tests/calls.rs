//! What becomes of calls that are refused, or whose answer is lost.

use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_refused_slot_is_left_alone_for_twice_as_long_each_time_and_no_other_waits_for_it() {
    let world = Tabletop::new();
    let manager = Alone::with(world.clone()).await;
    world.ends_in(CallKind::Provision, &slot(0), Fate::Refused);
    manager.commit(group("web", 2, "v1")).await;
    let of = |n| move |call: &&Call| call.slot == Some(slot(n));
    world
        .until("slot 0 was tried nine times", |t| t.calls(CallKind::Provision).filter(of(0)).count() == 9)
        .await;
    let all = calls(&world, CallKind::Provision);
    let tried: Vec<&Call> = all.iter().filter(of(0)).collect();
    for (n, pair) in tried.windows(2).enumerate() {
        let pause = (pair[1].at - pair[0].at).as_millis();
        // Half a second at first, half a minute at last, with a fifth of chance; and what the call takes.
        let told = (500u128 << n).min(30_000);
        assert!(
            (told * 8 / 10..=told * 12 / 10 + 100).contains(&pause),
            "after refusal {}: {pause} ms, not about {told}",
            n + 1
        );
        assert_ne!(pair[0].token, pair[1].token, "a refusal closes its intent");
    }
    let other: Vec<&Call> = all.iter().filter(of(1)).collect();
    assert_eq!(other.len(), 1, "the other slot was filled at once");
    assert!(other[0].at - tried[0].at < Duration::from_millis(100));
    world.ends_in(CallKind::Provision, &slot(0), Fate::Done);
    manager.until_ready("web").await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_filled_begins_with_the_shortest_pause_again() {
    let world = Tabletop::new();
    let manager = Alone::with(world.clone()).await;
    world.next_end(CallKind::Provision, [Fate::Refused; 5]);
    manager.commit(group("web", 1, "v1")).await;
    manager.until_ready("web").await;
    world.next_end(CallKind::Provision, [Fate::Refused]);
    world.kill(&slot(0));
    world.until("it is refused and made", |table| table.calls(CallKind::Provision).count() == 8).await;
    let all = calls(&world, CallKind::Provision);
    let pause = (all[7].at - all[6].at).as_millis();
    assert!((400..=700).contains(&pause), "{pause} ms");
}

#[tokio::test(start_paused = true)]
async fn a_refused_repeat_closes_nothing_while_the_first_call_may_still_take_effect() {
    let world = Tabletop::new();
    let manager = Alone::with(world.clone()).await;
    // Its answer is lost and it comes late; meanwhile there is no room, says the provider.
    world.next_end(CallKind::Provision, [Fate::Late(Duration::from_secs(20))]);
    world.ends(CallKind::Provision, Fate::Refused);
    manager.commit(group("web", 1, "v1")).await;
    manager.until_ready("web").await;
    let all = calls(&world, CallKind::Provision);
    assert!(all.len() > 2, "it was repeated meanwhile: {all:?}");
    assert!(all.iter().all(|call| call.token == all[0].token), "under one name: {all:?}");
    assert_eq!(world.see(|table| table.instances.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_repeat_closes_its_intent_when_the_first_call_can_not_take_effect_any_more() {
    let world = Tabletop::new();
    let manager = Alone::with(world.clone()).await;
    world.next_end(CallKind::Provision, [Fate::Lost]);
    world.ends(CallKind::Provision, Fate::Refused);
    manager.commit(group("web", 1, "v1")).await;
    let renamed = |table: &crate::world::tabletop::Table| {
        let mut calls = table.calls(CallKind::Provision);
        let first = calls.next().map(|call| call.token.clone());
        calls.any(|call| Some(&call.token) != first.as_ref())
    };
    world.until("it is tried under another name", renamed).await;
    let all = calls(&world, CallKind::Provision);
    let (first, last) = (&all[0], all.last().expect("there are some"));
    assert!(last.at - first.at >= Duration::from_secs(30), "{:?}", last.at - first.at);
}

#[tokio::test(start_paused = true)]
async fn what_was_made_though_its_answer_was_lost_is_found_by_its_name_and_not_made_again() {
    let world = Tabletop::new();
    world.promises(foreign(Millis::seconds(10)));
    world.lists_after(Duration::from_secs(8));
    let manager = Alone::with(world.clone()).await;
    world.next_end(CallKind::Provision, [Fate::HalfMade, Fate::HalfMade]);
    manager.commit(group("web", 3, "v1")).await;
    manager.until_ready("web").await;
    pass(120).await;
    assert_eq!(calls(&world, CallKind::Provision).len(), 3, "no call was repeated");
    assert_eq!(world.see(|table| table.living().count()), 3);
}

#[tokio::test(start_paused = true)]
async fn what_shows_without_its_tags_still_holds_its_slot() {
    let world = Tabletop::new();
    world.loses_tags();
    let manager = Alone::with(world.clone()).await;
    manager.commit(group("web", 2, "v1")).await;
    manager.until_ready("web").await;
    pass(300).await;
    // Its id is known, and that is enough: an id of the roster that is listed is there.
    assert_eq!(deeds(&world), 2);
    assert_eq!(manager.group("web").present(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_call_to_a_plugin_that_forgets_tokens_is_repeated_only_when_it_is_surely_over() {
    let world = Tabletop::new();
    world.promises(foreign(Millis::seconds(10)));
    let manager = Alone::with(world.clone()).await;
    world.next_end(CallKind::Provision, [Fate::Hangs]);
    manager.commit(group("web", 1, "v1")).await;
    manager.until_ready("web").await;
    let all = calls(&world, CallKind::Provision);
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[0].token, all[1].token, "a repeat has the same name");
    let waited = all[1].at - all[0].at;
    // It was waited for, then as long as it may take effect, then as long as a listing may lag.
    assert!(waited >= Duration::from_secs(15 + 30 + 10), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_destroy_is_refused_or_lost_goes_in_the_end_and_only_that_one() {
    let (world, manager) = at_rest(3).await;
    world.next_end(CallKind::Destroy, [Fate::Refused, Fate::Lost, Fate::HalfMade]);
    manager.commit(group("web", 2, "v1")).await;
    world.until("one is gone", |table| table.living().count() == 2).await;
    manager.until_ready("web").await;
    pass(60).await;
    let victims = calls(&world, CallKind::Destroy);
    assert!(victims.iter().all(|call| call.slot == Some(slot(2))), "{victims:?}");
    assert_eq!(world.see(|table| table.living().count()), 2);
    assert!(manager.group("web").intents.is_empty(), "nothing is left open");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_reply_does_not_say_that_the_member_is_still_there() {
    let (world, manager) = at_rest(3).await;
    // It is destroyed, nobody hears of it, and the repeats are refused before a listing can show anything.
    world.ends(CallKind::Destroy, Fate::Refused);
    world.next_end(CallKind::Destroy, [Fate::HalfMade]);
    world.ends(CallKind::List, Fate::Refused);
    manager.commit(group("web", 2, "v1")).await;
    world.until("it is tried again", |table| table.calls(CallKind::Destroy).count() >= 2).await;
    pass(20).await;
    assert_eq!(manager.group("web").intents.len(), 1, "whether it is gone is not known");
    world.ends(CallKind::List, Fate::Done);
    manager.until_ready("web").await;
    pass(60).await;
    assert_eq!(world.see(|table| (table.living().count(), table.instances.len())), (2, 3), "no other went");
    assert!(manager.group("web").intents.is_empty(), "nothing is left open");
}

#[tokio::test(start_paused = true)]
async fn who_is_hidden_by_one_listing_or_cut_off_by_some_is_not_made_again() {
    let (world, manager) = at_rest(5).await;
    let before = deeds(&world);
    // One look that lacks one.
    let hidden = holder(&manager, 2);
    let looks = calls(&world, CallKind::List).len();
    world.hides(&hidden, true);
    world.until("it was looked at once", |table| table.calls(CallKind::List).count() == looks + 1).await;
    world.hides(&hidden, false);
    pass(30).await;
    // Some seconds in which pages are lost.
    world.lists_at_most(1);
    pass(4).await;
    world.lists_at_most(usize::MAX);
    pass(60).await;
    assert_eq!(deeds(&world), before, "nobody was made again");
    // And whoever is gone indeed is.
    world.kill(&slot(2));
    world.until("the lost one is made anew", |table| table.instances.len() == 6).await;
    manager.until_ready("web").await;
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_cannot_be_looked_at_is_no_empty_plugin() {
    let (world, manager) = at_rest(2).await;
    let before = deeds(&world);
    world.ends(CallKind::List, Fate::Refused);
    pass(120).await;
    assert_eq!(deeds(&world), before);
    assert_eq!(manager.group("web").present(), 2);
    world.ends(CallKind::List, Fate::Done);
    world.kill(&slot(1));
    world.until("the lost one is made anew", |table| table.living().count() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_defect_in_a_call_leaves_its_slot_in_doubt_and_not_forgotten() {
    let world = Tabletop::new();
    let manager = Alone::with(world.clone()).await;
    world.next_end(CallKind::Provision, [Fate::Panics]);
    world.next_end(CallKind::Health, [Fate::Panics]);
    manager.commit(group("web", 2, "v1")).await;
    manager.until_ready("web").await;
    assert_eq!(world.see(|table| table.living().count()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_defect_in_a_look_is_a_look_that_failed() {
    let (world, manager) = at_rest(2).await;
    world.next_end(CallKind::List, [Fate::Panics]);
    world.kill(&slot(0));
    world.until("the lost one is made anew", |table| table.living().count() == 2).await;
    manager.until_ready("web").await;
}
