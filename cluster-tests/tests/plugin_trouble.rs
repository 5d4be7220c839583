//! Plugins that are absent, hang, lie by omission, or die.

use api::{Code, proto as pb};
use cluster_tests::{Cluster, Options, group, until};
use model::tags::Tags;
use spi::Instances;

fn impatient() -> Options {
    Options { manager: ["--plugin-timeout", "500ms"].map(String::from).into(), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_settled_by_its_token_and_makes_nothing_twice() {
    let cluster = Cluster::with(1, impatient()).await;
    cluster.fault("provision", "lose x 3");
    cluster.commit(&group("web", 5, "v1")).await.expect("it is accepted");
    cluster.settles("web", 5).await;
    assert_eq!(cluster.history().made("web"), 5);
    cluster.history().shows_nothing_twice();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_effect_late_is_not_made_up_for_by_another() {
    let cluster = Cluster::with(1, impatient()).await;
    let fault = cluster.path().join("lab/faults/provision");
    cluster.fault("provision", "late 4s x 1");
    cluster.commit(&group("web", 1, "v1")).await.expect("it is accepted");
    until("the first call is under way", async || (!fault.exists()).then_some(())).await;
    // It ends here without a word, and every repeat is refused while it may still come true.
    cluster.fault("provision", "refuse");
    until("a repeat was refused, and the intent is open still", async || {
        let group = cluster.describe("web").await?;
        let told = group.waits.iter().any(|it| it.message.contains("simulated: out of capacity"));
        (told && group.slots[0].state == "Unknown").then_some(())
    })
    .await;
    until("it came true after all", async || (cluster.history().made("web") == 1).then_some(())).await;
    // Its token is found by a look; no call was needed.
    cluster.settles("web", 1).await;
    std::fs::remove_file(fault).expect("the fault is taken back");
    cluster.settles("web", 1).await;
    assert_eq!(cluster.history().made("web"), 1);
    cluster.history().shows_nothing_twice();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_tried_again_later_and_the_reason_is_told() {
    let cluster = Cluster::of(1).await;
    cluster.fault("provision", "refuse");
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    until("the reason is told", async || {
        let group = cluster.describe("web").await?;
        group.waits.iter().any(|it| it.message.contains("simulated: out of capacity")).then_some(())
    })
    .await;
    std::fs::remove_file(cluster.path().join("lab/faults/provision")).expect("the fault is taken back");
    cluster.settles("web", 2).await;
    cluster.history().shows_nothing_twice();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_or_failing_listing_changes_nothing_and_holds_up_nobody_else() {
    let cluster = Cluster::with(1, impatient()).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    for fault in ["hang", "error"] {
        cluster.fault("describe", fault);
        until("the trouble is told", async || {
            let group = cluster.describe("web").await?;
            let told = group
                .waits
                .iter()
                .any(|it| it.reason == "PluginUnreachable" && it.subject == "simulator/compute");
            (told && group.running == 3).then_some(())
        })
        .await;
        // Everything else goes on.
        cluster.set("k", fault).await.expect("it is stored");
    }
    std::fs::remove_file(cluster.path().join("lab/faults/describe")).expect("the fault is taken back");
    cluster.settles("web", 3).await;
    assert_eq!(cluster.history().made("web"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_dies_comes_back_and_is_used_again() {
    let store = tempfile::tempdir().expect("a temporary directory");
    let dir = format!("dir={}", store.path().display());
    let options = Options { simulator: vec!["--set".into(), dir], ..Options::default() };
    let mut cluster = Cluster::with(1, options).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    cluster.kill_plugins();
    until("the loss is told", async || {
        let group = cluster.describe("web").await?;
        group.waits.iter().any(|it| it.reason == "PluginUnreachable").then_some(())
    })
    .await;
    let error = cluster.commit(&group("api", 1, "v1")).await.expect_err("its plugins are not there");
    assert_eq!(error.code, Code::PluginUnavailable);
    assert!(error.remedy.contains("--allow-missing-plugins"), "{error:?}");
    assert!(cluster.describe("api").await.is_none(), "nothing was stored");
    cluster.start_plugins();
    cluster.settles("web", 3).await;
    assert_eq!(cluster.history().made("web"), 3, "what was there is there still");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_may_be_accepted_before_its_plugins_and_waits_visibly() {
    let mut cluster = Cluster::of(1).await;
    cluster.kill_plugins();
    let reply = cluster.commit_with(&group("web", 2, "v1"), true).await.expect("it is accepted");
    assert!(reply.committed[0].waits.contains("plugin `vanilla` does not answer"), "{reply:?}");
    until("it waits visibly", async || {
        let group = cluster.describe("web").await?;
        let tells = |it: &pb::Wait| {
            it.reason == "PluginsHaveNotAccepted"
                && ["simulator", "vanilla"].iter().all(|plugin| it.message.contains(plugin))
        };
        let told = group.waits.iter().any(tells);
        (told && group.lifecycle == "PendingValidation").then_some(())
    })
    .await;
    cluster.start_plugins();
    cluster.settles("web", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_refuses_is_never_stored() {
    let cluster = Cluster::of(1).await;
    let bad = group("web", 1, "v1").replace("Init: [echo hi]", "Inits: [echo hi]");
    let error = cluster.commit(&bad).await.expect_err("vanilla refuses it");
    assert_eq!(error.code, Code::PluginRefused);
    assert!(error.cause.contains("unknown field `Inits`"), "{error:?}");
    assert!(cluster.describe("web").await.is_none());
    cluster.commit(&group("web", 1, "v1")).await.expect("a valid commit succeeds at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn free_leaves_the_instances_and_a_new_commit_takes_them_in_again() {
    let cluster = Cluster::of(1).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    let about = pb::GroupRequest { group: "web".into(), ..Default::default() };
    cluster.client().call(async |c| c.groups().free(about.clone()).await).await.expect("it is freed");
    assert_eq!(cluster.simulator().describe(&Tags::new(), false).await.expect("a listing").len(), 3);
    cluster.commit(&group("web", 4, "v1")).await.expect("it is accepted");
    cluster.settles("web", 4).await;
    assert_eq!(cluster.history().made("web"), 4, "three were taken in, one was made");
    cluster.client().call(async |c| c.groups().destroy(about.clone()).await).await.expect("it is destroyed");
    until("nothing of it is left", async || cluster.describe("web").await.is_none().then_some(())).await;
    assert!(cluster.simulator().describe(&Tags::new(), false).await.expect("a listing").is_empty());
}
