//! How members are replaced when the template changes.

use std::time::Duration;

use model::command::Verb;
use model::{Change, ObjectKey};

use super::*;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(1_000_000);

#[tokio::test(start_paused = true)]
async fn a_new_template_replaces_each_member_by_one_that_is_healthy_before_it_goes() {
    let (world, manager) = at_rest(3).await;
    world.boots_in(Duration::from_secs(5));
    let (first, born) = world.see(|table| (table.census.len(), table.instances.len()));
    manager.commit(group("web", 3, "v2")).await;
    manager.until_ready("web").await;
    let after: Vec<_> = world.see(|table| table.census[first..].to_vec());
    assert!(after.iter().all(|it| it.living <= 4), "never more than one above the size");
    assert!(after.iter().all(|it| it.well >= 3), "never fewer than the size that are healthy");
    let order: Vec<(CallKind, u32)> = world.see(|table| {
        let deeds = table.calls.iter().filter(|call| call.kind.changes_something()).skip(born);
        let place = |call: &Call| match call.slot {
            Some(model::Slot::Ordinal(n)) => (call.kind, n),
            _ => panic!("cattle have ordinals: {call:?}"),
        };
        deeds.map(place).collect()
    });
    let each = |n| [(CallKind::Provision, n), (CallKind::Drain, n), (CallKind::Destroy, n)];
    assert_eq!(order, (0..3).flat_map(each).collect::<Vec<_>>(), "one slot after another");
    assert!(manager.group("web").outdated().next().is_none(), "all are made from the new template");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_stands_still_before_a_member_that_does_not_become_healthy() {
    let (world, manager) = at_rest(3).await;
    world.boots_in(NEVER);
    manager.commit(group("web", 3, "v2")).await;
    world.until("one successor is made", |table| table.living().count() == 4).await;
    pass(600).await;
    assert_eq!(calls(&world, CallKind::Destroy).len(), 0, "nobody who is well goes for it");
    assert_eq!(world.see(|table| table.living().count()), 4, "and no other is made");
    // The way back is another commit.
    manager.commit(group("web", 3, "v1")).await;
    manager.until_ready("web").await;
    let gone = calls(&world, CallKind::Destroy);
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(world.see(|table| table.living().count()), 3);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_cannot_be_drained_is_kept_until_it_can_unless_it_has_to_go() {
    let (world, manager) = at_rest(2).await;
    world.ends(CallKind::Drain, Fate::Refused);
    manager.commit(group("web", 2, "v2")).await;
    pass(120).await;
    assert!(calls(&world, CallKind::Drain).len() > 2, "it is tried again and again");
    assert_eq!(calls(&world, CallKind::Destroy).len(), 0, "and nobody goes without it");
    world.ends(CallKind::Drain, Fate::Done);
    manager.until_ready("web").await;
    world.ends(CallKind::Drain, Fate::Refused);
    manager.commit(group("web", 1, "v2")).await;
    world.until("the one too many is gone", |table| table.living().count() == 1).await;
}

/// The same group, of another plugin of the tabletop.
fn moved(mut spec: model::GroupSpec) -> model::GroupSpec {
    spec.template.instance.plugin = "tabletop/other".into();
    spec
}

#[tokio::test(start_paused = true)]
async fn a_group_moves_to_a_plugin_that_numbers_its_instances_alike() {
    let (world, manager) = at_rest(3).await;
    manager.commit(moved(group("web", 3, "v1"))).await;
    manager.until_ready("web").await;
    pass(120).await;
    let living = |name: &str| {
        let of = |it: &&crate::world::tabletop::Instance| it.plugin.as_str() == name;
        world.see(|table| table.living().filter(of).count())
    };
    assert_eq!((living("tabletop/compute"), living("tabletop/other")), (0, 3));
    assert_eq!(world.see(|table| table.instances.len()), 6, "one for each, and no more");
    let ids: Vec<String> = manager.group("web").members().map(ToString::to_string).collect();
    assert_eq!(ids, ["i-0", "i-1", "i-2"], "alike they are");
    let key = ObjectKey::group(&"web".into());
    manager.propose(Change::Object { key, verb: Verb::Destroy }).await;
    manager.until("the group is gone", |state| state.groups.is_empty()).await;
    assert_eq!(world.see(|table| table.living().count()), 0, "and nobody is left behind");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_two_plugins_list_is_one() {
    let (world, manager) = at_rest(3).await;
    world.plugins_share();
    manager.commit(moved(group("web", 3, "v1"))).await;
    manager.until_ready("web").await;
    pass(120).await;
    assert_eq!(world.see(|table| table.living().count()), 3);
    assert_eq!(world.see(|table| table.instances.len()), 6, "each is replaced once");
}
