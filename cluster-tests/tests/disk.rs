//! Power cuts and failing disks, on real files: a clear stop or a clean recovery, never a silent loss.

use api::{Client, proto as pb};
use cluster_tests::{Cluster, Mood, Options, group, until};
use futures_util::future::join_all;

async fn set(client: &Client, key: &str, value: u32) -> Result<(), api::Error> {
    let request = pb::SetVariableRequest { key: key.into(), value: value.to_string(), ..Default::default() };
    client.call(async |c| c.variables().set(request.clone()).await).await.map(drop)
}

async fn get(client: &Client, key: &str) -> u32 {
    let request = pb::GetVariableRequest { key: key.into() };
    let read = client.call(async |c| c.variables().get(request.clone()).await).await;
    read.map_or(0, |variable| variable.value.parse().expect("a number"))
}

/// The size of the file that says how far the log was synced, in bytes.
const WATERMARK: u64 = 16;

/// Writes from eight writers until all managers are killed in the middle of it; gives the last number
/// that each was told is stored.
async fn write_until_everybody_dies(cluster: &mut Cluster, round: &str) -> Vec<u32> {
    let clients: Vec<Client> = (0..8).map(|_| cluster.client()).collect();
    let writers = clients.iter().enumerate().map(async |(writer, client)| {
        let key = format!("{round}-{writer}");
        let mut acked = 0;
        while set(client, &key, acked + 1).await.is_ok() {
            acked += 1;
        }
        acked
    });
    let killer = async {
        let client = cluster.client();
        until("hundreds of writes were answered", async || {
            (get(&client, &format!("{round}-0")).await >= 100).then_some(())
        })
        .await;
        (0..3).for_each(|i| cluster.kill(i));
    };
    tokio::join!(join_all(writers), killer).0
}

/// Cuts the power of all three, starts them again, and gives how many answered writes are missing.
async fn lost_after_a_power_cut(cluster: &mut Cluster, round: &str, mut keep: impl FnMut(u64) -> u64) -> u32 {
    let acked = write_until_everybody_dies(cluster, round).await;
    for i in 0..3 {
        cluster.disk(i).cut_power(&cluster.database(i), &mut keep);
        cluster.disk(i).be(Mood::Well);
    }
    (0..3).for_each(|i| cluster.start(i));
    cluster.until_voters(3).await;
    let client = cluster.client();
    let mut lost = 0;
    for (writer, acked) in acked.iter().enumerate() {
        lost += acked.saturating_sub(get(&client, &format!("{round}-{writer}")).await);
    }
    lost
}

async fn cluster_with_disks() -> Cluster {
    Cluster::with(3, Options { disks: true, ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_loses_nothing_that_was_answered() {
    let mut cluster = cluster_with_disks().await;
    cluster.commit(&group("web", 4, "v1")).await.expect("it is accepted");
    cluster.settles("web", 4).await;
    assert_eq!(
        lost_after_a_power_cut(&mut cluster, "cut", |_| 0).await,
        0,
        "everything behind the last sync went"
    );
    // A torn tail: some of what was not synced came through, cut anywhere.
    let mut odd = 1;
    let torn = |more: u64| {
        odd = (odd * 7919) % 10_007;
        if more == 0 { 0 } else { odd % (more + 1) }
    };
    assert_eq!(lost_after_a_power_cut(&mut cluster, "torn", torn).await, 0, "the tails were torn");
    cluster.settles("web", 4).await;
    assert_eq!(cluster.history().made("web"), 4, "nothing was made again");
    // The harness itself: with disks that only claim to sync, this way of cutting the power shows it.
    (0..3).for_each(|i| cluster.disk(i).be(Mood::Lies));
    assert!(lost_after_a_power_cut(&mut cluster, "lies", |_| 0).await > 0, "disks that lie lose writes");
    // When the watermark comes through, what is missing below it is noticed.
    (0..3).for_each(|i| cluster.disk(i).be(Mood::Lies));
    write_until_everybody_dies(&mut cluster, "noticed").await;
    for i in 0..3 {
        cluster.disk(i).cut_power(&cluster.database(i), |more| if more == WATERMARK { more } else { 0 });
        cluster.start(i);
        let code = until("the manager refuses to start", async || cluster.manager_mut(i).ended()).await;
        let log = cluster.manager(i).log();
        assert_eq!(code, 1, "{log}");
        assert!(log.contains("was made durable, and the log on the disk ends with"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_whose_disk_fails_stops_and_says_so_and_the_others_go_on() {
    let mut cluster = cluster_with_disks().await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    for (mood, word) in [(Mood::Fails, "Input/output error"), (Mood::Full, "No space left")] {
        let leader = cluster.leader().await;
        cluster.disk(leader).be(mood);
        let client = cluster.client();
        // Whoever answers this is another: the leader cannot make it durable.
        until("the others store a write", async || set(&client, "k", 7).await.ok()).await;
        let code = until("the manager stops", async || cluster.manager_mut(leader).ended()).await;
        let log = cluster.manager(leader).log();
        assert_eq!(code, 1, "{log}");
        assert!(log.contains("the replica has stopped") && log.contains(word), "{log}");
        cluster.disk(leader).be(Mood::Well);
        cluster.start(leader);
        cluster.until_voters(3).await;
        assert_eq!(get(&cluster.client(), "k").await, 7);
    }
    cluster.settles("web", 3).await;
    assert_eq!(cluster.history().made("web"), 3);
    cluster.history().shows_nothing_twice();
}
