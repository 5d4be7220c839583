//! Rollouts of real processes, whose leaders die in the middle.

use std::collections::BTreeSet;

use api::proto as pb;
use cluster_tests::{Cluster, Options, group, until};

/// A group that is updated so.
fn updated(size: u32, image: &str, updating: &str) -> String {
    format!("{}  Updating: {updating}\n", group("web", size, image))
}

async fn status(cluster: &Cluster) -> Option<pb::Rollout> {
    let about = pb::GroupRequest { group: "web".into(), ..Default::default() };
    cluster.client().call(async |c| c.rollouts().status(about.clone()).await).await.ok()
}

async fn until_phase(cluster: &Cluster, phase: &str) -> pb::Rollout {
    let mut last = None;
    until(&format!("the rollout is {phase}"), async || {
        last = status(cluster).await;
        last.as_ref().is_some_and(|it| it.phase == phase).then_some(())
    })
    .await;
    last.expect("it was asked")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_goes_on_when_its_leader_dies_and_nothing_is_made_twice() {
    let options = Options {
        simulator: ["--set", "provision-delay=200ms"].map(String::from).into(),
        ..Options::default()
    };
    let mut cluster = Cluster::with(3, options).await;
    let surge = "{MaxSurge: 3}";
    cluster.commit(&updated(12, "v1", surge)).await.expect("it is accepted");
    cluster.settles("web", 12).await;
    cluster.commit(&updated(12, "v2", surge)).await.expect("it is accepted");
    for least in [2, 7] {
        until("some are updated", async || {
            let group = cluster.describe("web").await?;
            assert!(group.ready >= 12, "{} of 12 are ready", group.ready);
            (group.updated >= least).then_some(())
        })
        .await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        until("somebody else leads", async || cluster.status().await.map(drop)).await;
        cluster.start(leader);
    }
    let rolled = until_phase(&cluster, "Succeeded").await;
    assert_eq!((rolled.updated, rolled.ready), (12, 12));
    cluster.settles("web", 12).await;
    cluster.history().shows_nothing_twice();
    assert_eq!(cluster.history().made("web"), 24, "twelve, and each of them once more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_version_is_taken_back_and_an_operator_steers_the_next() {
    let cluster = Cluster::of(3).await;
    // Nobody listens there.
    let port = cluster_tests::free_ports(1)[0];
    let rules = "{MaxSurge: 4, MaxFailureRatio: 0.1, HealthyDeadline: 2s, OnFailure: Rollback}";
    let probe = format!("{{Init: [echo hi], Health: {{TCP: '127.0.0.1:{port}'}}}}");
    let broken = updated(20, "v2", rules).replace("{Init: [echo hi]}", &probe);
    assert!(broken.contains("Health"), "{broken}");
    cluster.commit(&updated(20, "v1", rules)).await.expect("it is accepted");
    let before = cluster.settles("web", 20).await;
    cluster.commit(&broken).await.expect("it is accepted");
    let back = until_phase(&cluster, "RolledBack").await;
    assert_eq!((back.revision, back.updated, back.ready), (3, 20, 20));
    let after = cluster.settles("web", 20).await;
    let instances = |group: &pb::Group| -> BTreeSet<String> {
        group.slots.iter().map(|slot| slot.instance.clone()).collect()
    };
    assert_eq!(instances(&after), instances(&before), "nobody was taken away for it");
    assert_eq!(cluster.history().made("web"), 22, "two may fail, and two were tried");

    // By an operator, on whom it waits.
    let canary = "{MaxSurge: 4, Canary: {Count: 2, Promote: Manual}}";
    cluster.commit(&updated(20, "v3", canary)).await.expect("it is accepted");
    let baking = until_phase(&cluster, "Baking").await;
    assert_eq!(baking.updated, 2);
    until("it waits for an operator", async || {
        let waits = status(&cluster).await?.waits;
        waits.iter().any(|it| it.reason == "PromotionAwaited").then_some(())
    })
    .await;
    let about = pb::GroupRequest { group: "web".into(), ..Default::default() };
    let client = cluster.client();
    client.call(async |c| c.rollouts().promote(about.clone()).await).await.expect("it has canaries");
    until_phase(&cluster, "Succeeded").await;
    let undo = pb::UndoRequest { group: "web".into(), to_revision: Some(1), ..Default::default() };
    let undone = client.call(async |c| c.rollouts().undo(undo.clone()).await).await.expect("it is kept");
    assert_eq!(undone.committed[0].revision, 5);
    // By the rules that hold now: what is undone has canaries, too.
    until_phase(&cluster, "Baking").await;
    client.call(async |c| c.rollouts().promote(about.clone()).await).await.expect("it has canaries");
    until_phase(&cluster, "Succeeded").await;
    cluster.settles("web", 20).await;
    let asked = pb::HistoryRequest { group: "web".into(), revision: Some(5) };
    let kept = client.call(async |c| c.rollouts().history(asked.clone()).await).await.expect("it is kept");
    let spec = kept.revisions[0].spec.clone().expect("it was asked for");
    assert!(spec.instance.expect("a part").properties.contains("v1"));
    assert!(spec.canary.is_some(), "the rules of updates stay as they were");
}
