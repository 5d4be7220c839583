//! Forming, losing the leader, losing everybody.

use std::time::Duration;

use api::proto as pb;
use cluster_tests::{Cluster, Options, group, until};
use model::tags::Tags;
use spi::{Call, Instances};

#[tokio::test(flavor = "multi_thread")]
async fn three_managers_keep_a_group_real_and_survive_their_leader() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 5, "v1")).await.expect("it is accepted");
    cluster.settles("web", 5).await;

    let simulator = cluster.simulator();
    let victim = simulator.describe(&Tags::new(), false).await.expect("a listing").remove(0).id;
    simulator.destroy(&victim, "terminate", &Call::default()).await.expect("it goes");
    until("another instance takes its slot", async || {
        let group = cluster.describe("web").await?;
        let held = group.slots.iter().any(|slot| slot.instance == victim.as_str());
        (!held && group.converged).then_some(())
    })
    .await;

    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.commit(&group("web", 8, "v1")).await.expect("the others accept it");
    let after = cluster.settles("web", 8).await;
    assert_eq!(after.slots.len(), 8);
    assert_eq!(cluster.history().made("web"), 5 + 1 + 3);
    cluster.history().shows_nothing_twice();

    // The dead one comes back with its own command and no clean-up.
    cluster.start(leader);
    cluster.until_voters(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_three_die_at_once_and_come_back_with_everything() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 4, "v1")).await.expect("it is accepted");
    let before = cluster.settles("web", 4).await;
    cluster.set("k", "v").await.expect("it is stored");
    for i in 0..3 {
        cluster.kill(i);
    }
    for i in 0..3 {
        cluster.start(i);
    }
    cluster.until_voters(3).await;
    let after = cluster.settles("web", 4).await;
    let instances =
        |group: &pb::Group| group.slots.iter().map(|slot| slot.instance.clone()).collect::<Vec<_>>();
    assert_eq!(instances(&after), instances(&before));
    assert_eq!(cluster.history().made("web"), 4, "nothing was made again");
    let request = pb::GetVariableRequest { key: "k".into() };
    let read = cluster.client().call(async |c| c.variables().get(request.clone()).await).await;
    assert_eq!(read.expect("it is there").value, "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_while_instances_are_being_made_leaves_none_twice_and_none_behind() {
    let options = Options {
        simulator: ["--set", "provision-delay=300ms"].map(String::from).into(),
        ..Options::default()
    };
    let mut cluster = Cluster::with(3, options).await;
    cluster.commit(&group("web", 30, "v1")).await.expect("it is accepted");
    until("calls are under way", async || {
        let asked = cluster.history().0.iter().filter(|call| call.call == "provision-asked").count();
        (asked >= 10).then_some(())
    })
    .await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.settles("web", 30).await;
    cluster.history().shows_nothing_twice();
    let there = cluster.simulator().describe(&Tags::new(), false).await.expect("a listing").len();
    assert_eq!(there, 30, "one for each slot, and none that nobody knows");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_manager_answers_any_command() {
    let cluster = Cluster::of(3).await;
    for i in 0..3 {
        let client = Cluster::client_of(&cluster.address(i));
        let name = format!("g{i}");
        let draft = model::draft::read("f", group(&name, 1, "v1").as_bytes(), model::draft::Yaml::Unsaid)
            .expect("a valid file");
        let request = pb::CommitRequest {
            items: vec![pb::CommitItem {
                spec: Some(api::spec(&draft.specs[0], model::Revision(0))),
                if_revision: Some(0),
            }],
            ..Default::default()
        };
        client.call(async |c| c.groups().commit(request.clone()).await).await.expect("it is accepted");
        let listed = client.call(async |c| c.groups().list(pb::ListRequest {}).await).await.expect("a list");
        assert_eq!(listed.groups.len(), i + 1, "a read after a write sees it, whoever is asked");
        let watch = pb::GroupRequest { group: name.clone(), ..Default::default() };
        let stream = client.call(async |c| c.groups().watch(watch.clone()).await).await;
        let first = stream.expect("a stream").message().await.expect("a message").expect("a group");
        assert_eq!(first.id, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_missed_more_than_the_log_keeps_catches_up_by_a_snapshot() {
    let mut cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    let follower = (cluster.leader().await + 1) % 3;
    cluster.kill(follower);
    // More than a snapshot every 5,000 entries and the 10,000 that are kept behind it.
    let client = cluster.client();
    let writers = (0..64).map(|writer| {
        let client = client.clone();
        async move {
            for n in 0..330 {
                let request = pb::SetVariableRequest {
                    key: format!("k{writer}"),
                    value: format!("{n}"),
                    ..Default::default()
                };
                client.call(async |c| c.variables().set(request.clone()).await).await.expect("it is stored");
            }
        }
    });
    futures_util::future::join_all(writers).await;
    cluster.start(follower);
    cluster.until_voters(3).await;
    // With the other follower gone, the one that was behind must vote and lead or follow correctly.
    let other = (0..3).find(|i| *i != follower && *i != 0).unwrap_or(0);
    until("it has caught up", async || {
        let status = cluster.status().await?;
        status.nodes.iter().all(|node| node.lag.is_some_and(|lag| lag < 10)).then_some(())
    })
    .await;
    cluster.kill(other);
    let request = pb::GetVariableRequest { key: "k63".into() };
    let read = cluster.client().call(async |c| c.variables().get(request.clone()).await).await;
    assert_eq!(read.expect("it is there").value, "329");
    cluster.settles("web", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_that_wakes_up_does_no_harm() {
    let cluster = Cluster::of(3).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    let leader = cluster.leader().await;
    cluster.manager(leader).signal(rustix::process::Signal::STOP);
    let others: Vec<String> = (0..3).filter(|i| *i != leader).map(|i| cluster.address(i)).collect();
    let client = Cluster::client_of(&others.join(",")).with_deadline(Duration::from_secs(30));
    let request = pb::ScaleRequest { group: "web".into(), size: 6, ..Default::default() };
    client.call(async |c| c.groups().scale(request.clone()).await).await.expect("a new leader accepts it");
    cluster.manager(leader).signal(rustix::process::Signal::CONT);
    cluster.until_voters(3).await;
    cluster.settles("web", 6).await;
    cluster.history().shows_nothing_twice();
    assert_eq!(cluster.history().made("web"), 6);
}
