//! Small writes, beside etcd.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Credentials, proto as pb};
use cluster_tests::{Cluster, over_the_network, until};
use model::Role;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::table::{Row, median, row};

/// etcd's API, as far as it is used.
#[allow(unreachable_pub)]
mod etcd {
    tonic::include_proto!("etcdserverpb");
}

/// Small writes, beside etcd on the same disk, in turns.
pub(crate) async fn run() -> Vec<Row> {
    if std::process::Command::new("etcd").arg("--version").output().is_err() {
        return vec![row(
            "replicated write of 256 B, ratio to etcd",
            "≤ 1.0 and ≥ 1.0",
            "etcd is not installed".into(),
        )];
    }
    let cluster = Cluster::of(3).await;
    let etcd = Etcd::start().await;
    let address = cluster.address(cluster.leader().await);
    let tls = api::tls::client(&cluster.log_in(Role::Operator, "bench").await).expect("credentials");
    let ours = Peer::Ours(Door { address, tls });
    let theirs = Peer::Etcd(Door { address: etcd.leader.clone(), tls: etcd.tls.clone() });
    let (mut alone, mut crowd) = (Vec::new(), Vec::new());
    let mut sums = [[0.0; 4]; 7];
    for sum in &mut sums {
        let (our, their) = (load(ours.clone(), 1).await, load(theirs.clone(), 1).await);
        let (our_64, their_64) = (load(ours.clone(), 64).await, load(theirs.clone(), 64).await);
        alone.push(our.p50 / their.p50);
        crowd.push(our_64.per_second / their_64.per_second);
        *sum = [our.p50 * 1e3, their.p50 * 1e3, our_64.per_second, their_64.per_second];
        eprintln!(
            "p50 at 1: {:.2} and {:.2} ms; writes/s at 64: {:.0} and {:.0}",
            sum[0], sum[1], sum[2], sum[3]
        );
    }
    let middle = |at: usize| median(&mut sums.map(|sum| sum[at]));
    vec![
        row(
            "replicated write of 256 B, 1 client, p50, ratio to etcd (median of 7, in turns)",
            "≤ 1.0",
            format!("{:.2} ({:.2} ms to {:.2} ms)", median(&mut alone), middle(0), middle(1)),
        ),
        row(
            "the same with 64 clients, writes per second, ratio to etcd",
            "≥ 1.0",
            format!("{:.2} ({:.0} to {:.0})", median(&mut crowd), middle(2), middle(3)),
        ),
    ]
}

struct Measured {
    p50: f64,
    per_second: f64,
}

#[derive(Clone)]
enum Peer {
    Ours(Door),
    Etcd(Door),
}

/// Where one of both is asked, and how: both over the network, with TLS and certificates on either side.
#[derive(Clone)]
struct Door {
    address: String,
    tls: Arc<rustls::ClientConfig>,
}

const CONNECTIONS: usize = 8;
const LOAD: Duration = Duration::from_secs(3);

async fn load(peer: Peer, clients: usize) -> Measured {
    let (Peer::Ours(door) | Peer::Etcd(door)) = &peer;
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(over_the_network(&door.address, door.tls.clone()).await.expect("a connection"));
    }
    let value = "v".repeat(256);
    let until = Instant::now() + LOAD;
    let work = (0..clients).map(|client| {
        let (peer, channel, value) = (peer.clone(), channels[client % CONNECTIONS].clone(), value.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            let key = format!("bench-{client}");
            while Instant::now() < until {
                let began = Instant::now();
                match &peer {
                    Peer::Ours(_) => {
                        let client = api::Services::over(channel.clone());
                        let request = pb::SetVariableRequest {
                            key: key.clone(),
                            value: value.clone(),
                            ..Default::default()
                        };
                        client.variables().set(request).await.expect("it is written");
                    }
                    Peer::Etcd(_) => {
                        let mut client = etcd::kv_client::KvClient::new(channel.clone());
                        let request = etcd::PutRequest {
                            key: key.clone().into_bytes(),
                            value: value.clone().into_bytes(),
                        };
                        client.put(request).await.expect("it is written");
                    }
                }
                times.push(began.elapsed().as_secs_f64());
            }
            times
        })
    });
    let mut times: Vec<f64> = Vec::new();
    for task in work.collect::<Vec<_>>() {
        times.extend(task.await.expect("a client"));
    }
    let per_second = times.len() as f64 / LOAD.as_secs_f64();
    Measured { p50: median(&mut times), per_second }
}

/// Three members of etcd on loopback.
struct Etcd {
    _dir: tempfile::TempDir,
    members: Vec<std::process::Child>,
    leader: String,
    tls: Arc<rustls::ClientConfig>,
}

/// A certificate for all of etcd and its client, in files as etcd wants them.
fn certify(dir: &Path) -> Credentials {
    let (root_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issued = root.self_signed(&root_key).expect("a certificate").der().clone();
    let names = ["127.0.0.1".to_owned(), api::tls::SERVER_NAME.to_owned()];
    let mut own = CertificateParams::new(names).expect("names");
    own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let own = own.signed_by(&key, &Issuer::new(root, root_key)).expect("a certificate").der().clone();
    let part = |file: &str, tag: &str, bytes: &[u8]| {
        std::fs::write(dir.join(file), pem::encode(&pem::Pem::new(tag, bytes))).expect("a file");
    };
    part("ca.pem", "CERTIFICATE", &issued);
    part("own.pem", "CERTIFICATE", &own);
    part("key.pem", "PRIVATE KEY", key.serialized_der());
    Credentials::new(vec![issued], own, key.serialize_der())
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

impl Etcd {
    async fn start() -> Self {
        // Beside the managers' directories, on the same disk.
        let dir = tempfile::tempdir().expect("a temporary directory");
        let tls = api::tls::client(&certify(dir.path())).expect("credentials");
        let file = |name: &str| dir.path().join(name).display().to_string();
        let (ca, own, key) = (file("ca.pem"), file("own.pem"), file("key.pem"));
        let port = |n: usize| 23790 + 10 * n;
        let peers: Vec<String> = (0..3).map(|n| format!("e{n}=https://127.0.0.1:{}", port(n) + 1)).collect();
        let members = (0..3)
            .map(|n| {
                let (client, peer) =
                    (format!("https://127.0.0.1:{}", port(n)), format!("https://127.0.0.1:{}", port(n) + 1));
                std::process::Command::new("etcd")
                    .args(["--name", &format!("e{n}"), "--data-dir"])
                    .arg(dir.path().join(format!("e{n}")))
                    .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                    .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                    .args(["--initial-cluster", &peers.join(","), "--log-level", "error"])
                    .args(["--trusted-ca-file", &ca, "--cert-file", &own, "--key-file", &key])
                    .args(["--client-cert-auth", "--peer-client-cert-auth", "--peer-trusted-ca-file", &ca])
                    .args(["--peer-cert-file", &own, "--peer-key-file", &key])
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .spawn()
                    .expect("etcd starts")
            })
            .collect();
        let mut etcd = Etcd { _dir: dir, members, leader: String::new(), tls };
        // Its own tool says which member leads.
        etcd.leader = until("etcd has a leader", async || {
            let endpoints: Vec<String> = (0..3).map(|n| format!("127.0.0.1:{}", port(n))).collect();
            let output = std::process::Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(["--cacert", &ca, "--cert", &own, "--key", &key])
                .args(["--endpoints", &endpoints.join(","), "endpoint", "status", "-w", "json"])
                .output()
                .ok()?;
            let all: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            all.as_array()?.iter().find_map(|it| {
                let status = &it["Status"];
                let leads = status["leader"].as_u64()? == status["header"]["member_id"].as_u64()?;
                leads.then(|| it["Endpoint"].as_str().map(str::to_owned))?
            })
        })
        .await;
        etcd
    }
}
