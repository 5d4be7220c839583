//! Stories of one leader and its groups, in time that nobody waits for.

mod calls;
mod health;
mod rollout;

use std::time::Duration;

use model::plugin::{Guarantees, PluginClass};
use model::{InstanceId, Millis};

use crate::alone::{Alone, group, slot};
use crate::world::tabletop::{Call, CallKind, Fate, Tabletop};

/// A group of this size, at rest.
async fn at_rest(size: u32) -> (Tabletop, Alone) {
    let world = Tabletop::new();
    let manager = Alone::with(world.clone()).await;
    manager.commit(group("web", size, "v1")).await;
    manager.until_ready("web").await;
    (world, manager)
}

/// Lets time pass in which nothing is waited for: the only way to see that something does not happen. Costs
/// nothing, for the clock stands still but for it.
async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Who holds a slot.
fn holder(manager: &Alone, n: u32) -> InstanceId {
    let group = manager.group("web");
    let member = group.roster.get(&slot(n)).and_then(|it| it.occupied());
    member.expect("somebody holds the slot").instance.id.clone()
}

/// All calls of a kind so far.
fn calls(world: &Tabletop, kind: CallKind) -> Vec<Call> {
    world.see(|table| table.calls(kind).cloned().collect())
}

/// How many calls that change something were made so far.
fn deeds(world: &Tabletop) -> usize {
    world.see(|table| table.calls.iter().filter(|call| call.kind.changes_something()).count())
}

/// A plugin that does not know a token again, and lists what it made within this time.
fn foreign(lists_within: Millis) -> Guarantees {
    Guarantees { class: PluginClass::C, lists_within: Some(lists_within) }
}

#[tokio::test(start_paused = true)]
async fn a_declared_group_is_made_once_and_then_left_alone() {
    let (world, manager) = at_rest(3).await;
    world.until("three live", |table| table.living().count() == 3).await;
    let written = manager.replica.published().index;
    pass(120).await;
    assert_eq!(deeds(&world), 3, "nothing more is done");
    assert_eq!(manager.replica.published().index, written, "and an idle group writes nothing");
    let tokens: std::collections::BTreeSet<String> =
        calls(&world, CallKind::Provision).into_iter().map(|call| call.token).collect();
    assert_eq!(tokens.len(), 3, "each under a name of its own");
}

#[tokio::test(start_paused = true)]
async fn a_paused_group_is_not_acted_on_and_goes_on_when_it_is_resumed() {
    let (world, manager) = at_rest(2).await;
    manager.pause("web").await;
    let before = deeds(&world);
    world.kill(&slot(1));
    manager.commit(group("web", 3, "v2")).await;
    pass(120).await;
    assert_eq!(deeds(&world), before, "no action of any kind is taken");
    manager.resume("web").await;
    manager.until_ready("web").await;
    assert_eq!(world.see(|table| table.living().count()), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_before_the_plugins_have_accepted_the_spec() {
    let world = Tabletop::new();
    let manager = Alone::with(world.clone()).await;
    world.rejects(vec![crate::world::Rejection {
        flavor: false,
        plugin: "tabletop/compute".into(),
        absent: true,
        message: "plugin not found".into(),
    }]);
    manager.declare(group("web", 2, "v1"), true).await;
    pass(30).await;
    let asked = calls(&world, CallKind::Validate).len();
    assert!((25..=31).contains(&asked), "asked once a second, and was asked {asked} times");
    assert_eq!(deeds(&world), 0);
    world.rejects(Vec::new());
    manager.until_ready("web").await;
}

#[tokio::test(start_paused = true)]
async fn an_event_of_the_plugin_means_look_now() {
    let (world, manager) = at_rest(2).await;
    // Long enough that the looks have become seldom.
    pass(60).await;
    world.kill(&slot(0));
    world.says_an_event();
    let asked = tokio::time::Instant::now();
    let missed = |table: &crate::world::tabletop::Table| table.calls(CallKind::Provision).count() == 3;
    world.until("the lost member is made anew", missed).await;
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(4), "one look by the event, one to confirm it: {took:?}");
    manager.until_ready("web").await;
}

/// The defect of one group's loop, wherever it may be: whoever hears its log loses its mind at one word.
struct Startled(std::sync::atomic::AtomicBool);

impl tracing::Subscriber for Startled {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let by_the_loop = event.metadata().target().contains("reconcile::group");
        let warns = *event.metadata().level() == tracing::Level::WARN;
        let first = !self.0.load(std::sync::atomic::Ordering::SeqCst);
        if by_the_loop && warns && first {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
            panic!("told so: the loop has a defect");
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_defect_in_one_groups_loop_stops_neither_the_others_nor_that_group_for_long() {
    let heard = std::sync::Arc::new(Startled(false.into()));
    let _listening = tracing::subscriber::set_default(heard.clone());
    let world = Tabletop::new();
    let manager = Alone::with(world.clone()).await;
    // A refusal is the word at which the loop breaks.
    world.next_end(CallKind::Provision, [Fate::Refused]);
    manager.commit(group("web", 1, "v1")).await;
    manager.commit(group("other", 2, "v1")).await;
    manager.until_ready("other").await;
    manager.until_ready("web").await;
    assert!(heard.0.load(std::sync::atomic::Ordering::SeqCst), "the defect was met");
    assert_eq!(world.see(|table| table.living().count()), 3, "and nothing was made twice");
}
