//! What no group gets past, and what only an operator decides.

use api::{Code, proto as pb};
use cluster_tests::{Cluster, Options, group, until};
use model::tags::{self, Tags};
use model::{ClusterId, IntentId, Opaque};
use spi::{Call, InstanceSpec, Instances};

async fn resolve(cluster: &Cluster, instance: Option<&str>) -> Result<(), api::Error> {
    let request = pb::ResolveRequest {
        group: "web".into(),
        slot: "0".into(),
        instance: instance.map(str::to_owned),
        ..Default::default()
    };
    cluster.client().call(async |c| c.groups().resolve(request.clone()).await).await.map(drop)
}

/// Waits until the group says that it waits for this reason.
async fn waits(cluster: &Cluster, what: &str) {
    until(&format!("web waits {what}"), async || {
        let group = cluster.describe("web").await?;
        group.waits.iter().any(|it| it.reason == what).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_call_that_no_listing_shows_is_said_by_an_operator() {
    let options =
        Options { manager: ["--plugin-timeout", "500ms"].map(String::from).into(), ..Options::default() };
    let cluster = Cluster::with(1, options).await;
    let odd = cluster.set("infrakit/plugin/simulator/class", "E").await.expect_err("there is no such class");
    assert_eq!(odd.code, Code::Invalid);
    cluster.set("infrakit/plugin/simulator/class", "D").await.expect("it is stored");
    cluster.fault("provision", "hang x 1");
    cluster.commit(&group("web", 1, "v1")).await.expect("it is accepted");
    until("the slot is unknown", async || {
        let group = cluster.describe("web").await?;
        (group.slots[0].state == "Unknown").then_some(())
    })
    .await;
    let early = resolve(&cluster, None).await.expect_err("it may still take effect");
    assert_eq!(early.code, Code::Conflict);
    waits(&cluster, "OperatorNeeded").await;
    assert_eq!(cluster.history().made("web"), 0, "nothing was repeated");
    let nowhere = resolve(&cluster, Some("no-such-instance")).await.expect_err("nobody shows it");
    assert_eq!(nowhere.code, Code::Conflict);
    resolve(&cluster, None).await.expect("it is believed");
    cluster.settles("web", 1).await;
    assert_eq!(cluster.history().made("web"), 1);
    cluster.history().shows_nothing_twice();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_never_has_more_instances_than_it_may() {
    let cluster = Cluster::of(1).await;
    cluster.set("infrakit/max-instances", "3").await.expect("it is stored");
    cluster.commit(&group("web", 5, "v1")).await.expect("it is accepted");
    waits(&cluster, "MaxInstances").await;
    until("three are there", async || (cluster.describe("web").await?.running == 3).then_some(())).await;
    assert_eq!(cluster.history().made("web"), 3);
    cluster.set("infrakit/max-instances", "none").await.expect("it is stored");
    cluster.settles("web", 5).await;
    cluster.history().shows_nothing_twice();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managers_own_machine_outlives_its_group() {
    let mut cluster = Cluster::of(1).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    let web = cluster.settles("web", 3).await;
    // By its id it would be the first to go.
    let own = web.slots.iter().map(|slot| slot.instance.clone()).min().expect("three slots");
    cluster.kill(0);
    cluster.set_manager_arguments(&["--instance", &own]);
    cluster.start(0);
    cluster.until_voters(1).await;
    cluster.commit(&group("web", 0, "v1")).await.expect("it is accepted");
    waits(&cluster, "HostsManager").await;
    let left = until("the others are gone", async || {
        let listed = cluster.simulator().describe(&Tags::new(), false).await.ok()?;
        (listed.len() == 1).then_some(listed)
    })
    .await;
    assert_eq!(left[0].id.as_str(), own);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_this_clusters_id_that_it_never_made_is_reported_and_left() {
    let cluster = Cluster::of(1).await;
    cluster.commit(&group("web", 1, "v1")).await.expect("it is accepted");
    cluster.settles("web", 1).await;
    let id = ClusterId::new(cluster.status().await.expect("a status").cluster);
    let stranger = InstanceSpec {
        properties: Opaque::from_json("{}"),
        tags: Tags::from([
            (tags::GROUP.to_owned(), "web".to_owned()),
            (tags::OWNER.to_owned(), id.to_string()),
            (
                tags::INTENT.to_owned(),
                tags::token(&id, &1.into(), IntentId { index: model::LogIndex(1_000_000), offset: 0 }),
            ),
        ]),
        init: String::new(),
        logical_id: None,
        attachments: Vec::new(),
    };
    let made = cluster.simulator().provision(&stranger, &Call::default()).await.expect("it is made");
    let (group, condition) = until("the condition is told", async || {
        let group = cluster.describe("web").await?;
        group.conditions.iter().find(|it| it.is_trouble()).cloned().map(|it| (group, it))
    })
    .await;
    assert_eq!(
        (condition.r#type.as_str(), condition.reason.as_str()),
        ("UnexpectedInstance", "UnknownIntent")
    );
    assert!(condition.message.contains(made.as_str()), "{condition:?}");
    assert_eq!(group.strays, [made.to_string()]);
    let listed = cluster.simulator().describe(&Tags::new(), false).await.expect("a listing");
    assert_eq!(listed.len(), 2, "nothing is destroyed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_smaller_group_has_no_slot_for_is_planned_to_stay_until_an_operator_decides() {
    let cluster = Cluster::of(1).await;
    cluster.commit(&group("web", 5, "v1")).await.expect("it is accepted");
    cluster.settles("web", 5).await;
    let freed = cluster.run(&["group", "free", "web", "--yes"], b"");
    assert!(freed.status.success(), "{freed:?}");
    let text = |output: std::process::Output| String::from_utf8(output.stdout).expect("UTF-8");
    let smaller = group("web", 3, "v1");
    let planned = text(cluster.run(&["group", "plan", "-"], smaller.as_bytes()));
    assert!(planned.contains("strays that stay as they are: "), "{planned}");
    cluster.commit(&smaller).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    let strays = until("two are left over", async || {
        let group = cluster.describe("web").await?;
        (group.strays.len() == 2).then_some(group.strays)
    })
    .await;
    for stray in &strays {
        assert!(planned.contains(stray.as_str()), "{stray} is not in {planned}");
    }
    let refused = cluster.run(&["group", "adopt", "web", &strays[0]], b"");
    assert_eq!(refused.status.code(), Some(5), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has no free slot"), "{refused:?}");
    let gone = text(cluster.run(&["group", "destroy-strays", "web", &strays[0], "--yes"], b""));
    assert_eq!(gone, format!("web: {} will be destroyed\n", strays[0]));
    let of = async || cluster.simulator().describe(&Tags::new(), false).await.expect("a listing").len();
    until("it is gone, and the other is not", async || (of().await == 4).then_some(())).await;
    let scaled = cluster.run(&["group", "scale", "web", "4"], b"");
    assert!(scaled.status.success(), "{scaled:?}");
    let web = cluster.settles("web", 4).await;
    assert!(web.slots.iter().any(|slot| slot.instance == strays[1]), "it is adopted before another is made");
    assert_eq!(cluster.history().made("web"), 5);
}
