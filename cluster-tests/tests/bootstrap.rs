//! A cluster is founded where another one has been.

use std::process::Stdio;
use std::time::Duration;

use api::proto as pb;
use cluster_tests::{Cluster, free_ports, group, program, until};
use tokio::process::Command;

/// A manager with a new disk beside a cluster that has instances; it is killed when it is dropped.
fn newcomer(cluster: &Cluster, name: &str, port: u16, adopt: &[&str]) -> tokio::process::Child {
    Command::new(program())
        .args(["manager", "start", "--bootstrap", "--name", name])
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .arg("--data-dir")
        .arg(cluster.path().join(name))
        .arg("--plugins-dir")
        .arg(cluster.plugins_dir())
        .args(adopt)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts")
}

async fn declare(client: &api::Client, text: &str) {
    until("it is accepted", async || Cluster::commit_by(client, text, false).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_was_not_taken_in_is_once_it_has_another_name() {
    let cluster = Cluster::of(1).await;
    let join = async |name: &str, port: u16| {
        let mut command = Command::new(program());
        command.args(["manager", "start", "--join", &cluster.address(0), "--name", name]);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.arg("--data-dir").arg(cluster.path().join("second"));
        command.arg("--plugins-dir").arg(cluster.plugins_dir());
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts")
    };
    let port = free_ports(1)[0];
    for _ in 0..2 {
        let refused = join("m1", port).await.wait_with_output().await.expect("it ends");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("the name `m1` belongs to another manager"), "{said}");
    }
    // The same disk, asked the same way but for the name: the refusal is not its answer for ever.
    let _taken_in = join("m2", port).await;
    cluster.until_voters(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_not_founded_over_the_instances_of_another_unless_it_is_said_what_becomes_of_them() {
    let mut cluster = Cluster::of(1).await;
    cluster.commit(&group("web", 3, "v1")).await.expect("it is accepted");
    cluster.settles("web", 3).await;
    let id = cluster.status().await.expect("a status").cluster;

    let refused = async |adopt: &[&str]| {
        let newcomer = newcomer(&cluster, "refused", free_ports(1)[0], adopt);
        let ended = tokio::time::timeout(Duration::from_secs(30), newcomer.wait_with_output()).await;
        let output = ended.expect("it does not stay").expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(&[]).await;
    assert!(said.contains("error: another cluster has instances here"), "{said}");
    assert!(said.contains(&format!("cluster {id} has 3 in `simulator/compute`")), "{said}");
    assert!(said.contains("--adopt none"), "{said}");
    let dir = cluster.path().join("refused");
    assert!(!dir.exists(), "nothing is left of it");
    std::fs::create_dir_all(dir.join("db")).expect("a directory");
    std::fs::write(dir.join("db/mine"), "kept").expect("a file");
    for (whose, why) in [("ffffffff", "no such cluster"), (&id[..4], "too short"), ("", "too short")] {
        let said = refused(&["--adopt", whose]).await;
        assert!(said.contains(&format!("--adopt {whose}: {why}")), "{said}");
    }
    assert!(dir.join("db/mine").exists(), "what was there before is not its own to remove");
    cluster.fault("describe", "error");
    let said = refused(&["--adopt", &id[..8]]).await;
    assert!(said.contains("plugin `simulator/compute` cannot list its instances"), "{said}");
    // A plugin that cannot list yet, as some before there is a Swarm, keeps nobody from founding a cluster.
    let port = free_ports(1)[0];
    let founded = newcomer(&cluster, "founded", port, &[]);
    let to_founded = Cluster::client_of(&format!("127.0.0.1:{port}"));
    let status =
        async || to_founded.call(async |c| c.cluster().status(pb::StatusRequest::default()).await).await.ok();
    let status = until("it is founded", status).await;
    assert_ne!(status.cluster, id);
    drop(founded);
    std::fs::remove_file(cluster.path().join("lab/faults/describe")).expect("the fault is taken back");

    // It lives: the new one leaves its instances alone, whatever their group is called.
    let port = free_ports(1)[0];
    let beside = newcomer(&cluster, "beside", port, &["--adopt", "none"]);
    let to_beside = Cluster::client_of(&format!("127.0.0.1:{port}"));
    declare(&to_beside, &group("web", 1, "v1")).await;
    until("the new cluster has made its own", async || (cluster.history().made("web") == 4).then_some(()))
        .await;
    drop(beside);

    // It is gone for good: the new one is the old one again, and makes nothing anew.
    cluster.kill(0);
    let port = free_ports(1)[0];
    let _again = newcomer(&cluster, "again", port, &["--adopt", &id[..8]]);
    let to_again = Cluster::client_of(&format!("127.0.0.1:{port}"));
    declare(&to_again, &group("web", 4, "v1")).await;
    until("three are taken in and one is made", async || (cluster.history().made("web") == 5).then_some(()))
        .await;
    let status = to_again.call(async |c| c.cluster().status(pb::StatusRequest::default()).await).await;
    let status = status.expect("a status");
    assert_eq!(status.cluster, id);
    assert!(status.lineage > 1, "another lineage of it");
}
