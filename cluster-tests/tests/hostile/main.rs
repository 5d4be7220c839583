//! Ten thousand hostile requests and more: nobody who is not known gets anything, changes anything or stops a
//! manager, and neither does a plugin that answers whatever it likes.

mod arms;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::{proto as pb, tls};
use cluster_tests::{Cluster, group, until};
use model::Role;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use arms::{Arms, KINDS, Removed, rubbish};

/// How many of each kind.
const EACH: u64 = 1000;
/// How many at once.
const AT_ONCE: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_hostile_requests_change_nothing_and_stop_nobody() {
    let cluster = Cluster::of(3).await;
    let elsewhere = Cluster::of(1).await;
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    let token = async |role, once, lasts| cluster.token(role, once, lasts).await.expect("an admin asks");
    let expired = token(Role::Admin, false, Some(Duration::from_millis(1))).await;
    let used = token(Role::Admin, true, None).await;
    cluster.log_in_by(&used, "ada").await.expect("the token is good");
    let manager = token(Role::Manager, false, None).await;
    let gone = token(Role::Admin, false, None).await;
    let revoked = cluster.log_in_by(&gone, "eve").await.expect("the token is good");
    let revoke = pb::RevokeTokenRequest { request_id: vec![3; 16], id: gone.id().short().to_owned() };
    cluster
        .client()
        .call(async |c| c.access().revoke_token(revoke.clone()).await)
        .await
        .expect("an admin asks");
    let secrets = [&expired, &used, &manager, &gone].map(|it| it.secret.expose().to_vec()).to_vec();
    let arms = Arms {
        address: cluster.address(1),
        other: elsewhere.log_in(Role::Admin, "eve").await,
        viewer: cluster.log_in(Role::Viewer, "vera").await,
        revoked,
        removed: Removed::from(&cluster).await,
        secrets,
        newcomer: tls::newcomer(gone.authority).expect("a fingerprint"),
        csr: api::CertificateRequest::new().expect("a key").der().to_vec(),
    };
    let before = cluster.status().await.expect("somebody leads");
    let arms = Arc::new(arms);
    let strikes = (0..AT_ONCE).map(|who| {
        let arms = arms.clone();
        tokio::spawn(async move {
            let mut chance = SmallRng::seed_from_u64(who);
            for n in 0..EACH * KINDS / AT_ONCE {
                arms.strike((n + who) % KINDS, &mut chance).await;
            }
        })
    });
    for strike in strikes.collect::<Vec<_>>() {
        strike.await.expect("every request was refused");
    }
    let after = cluster.status().await.expect("somebody leads");
    assert_eq!((after.term, after.leader), (before.term, before.leader), "nobody was elected because of it");
    assert_eq!(after.applied_index, before.applied_index, "nothing was written");
    let names =
        |status: &pb::ClusterStatus| status.nodes.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before));
    let web = cluster.describe("web").await.expect("it is there");
    assert_eq!((web.revision, web.converged), (1, true));
    assert_eq!(cluster.history().made("web"), 2);
    for i in 0..3 {
        let log = cluster.manager(i).log();
        assert!(!log.contains("panicked"), "{log}");
    }
    until("a valid change is accepted", async || cluster.set("k", "v").await.ok()).await;
}

/// What a plugin may answer: to every request another of these.
fn answer(n: usize, chance: &mut SmallRng) -> Vec<u8> {
    let http = |body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    match n % 12 {
        0 => rubbish(chance),
        1 => Vec::new(),
        2 => b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
        3 => b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops".to_vec(),
        4 => http(&rubbish(chance)),
        5 => http("[".repeat(100_000).as_bytes()),
        6 => http(br#"{"jsonrpc":"2.0","result":7,"id":1}"#),
        7 => http(br#"{"jsonrpc":"2.0","result":{"Objects":{"Instance/0.6.1":[{"Name":7}]}},"id":1}"#),
        8 => http(br#"{"jsonrpc":"2.0","error":{"code":-1e999,"message":["x"],"data":{}},"id":null}"#),
        9 => http(
            format!(r#"{{"jsonrpc":"2.0","error":{{"code":1,"message":"{}"}},"id":1}}"#, "x".repeat(300_000))
                .as_bytes(),
        ),
        10 => http(br#"{"jsonrpc":"2.0","result":{"Implements":null,"Objects":null},"id":1}"#),
        _ => [b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(5000)].concat(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_answers_whatever_it_likes_stops_nobody_and_nothing_is_stored() {
    let cluster = Cluster::of(1).await;
    cluster.commit(&group("web", 2, "v1")).await.expect("it is accepted");
    cluster.settles("web", 2).await;
    let listener = tokio::net::UnixListener::bind(cluster.plugins_dir().join("evil")).expect("a socket");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        let mut chance = SmallRng::seed_from_u64(7);
        while let Ok((mut stream, _)) = listener.accept().await {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            let said = answer(n, &mut chance);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&said).await;
            });
        }
    });
    let before = cluster.status().await.expect("somebody leads");
    let evil = group("evil", 1, "v1").replace("simulator/compute", "evil");
    while asked.load(Ordering::SeqCst) < 1000 {
        let refused = cluster.commit(&evil).await.expect_err("nobody has accepted it");
        assert!(!refused.what.is_empty() && refused.cause.len() < 10_000, "{}", refused.cause.len());
    }
    let after = cluster.status().await.expect("somebody leads");
    assert_eq!((after.term, after.applied_index), (before.term, before.applied_index), "nothing was written");
    assert!(cluster.describe("evil").await.is_none());
    assert!(!cluster.manager(0).log().contains("panicked"));
    assert_eq!(cluster.history().made("web"), 2);
}
