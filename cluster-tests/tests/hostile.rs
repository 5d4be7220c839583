//! Ten thousand hostile requests and more: nobody who is not known gets anything, changes anything or stops a
//! manager, and neither does a plugin that answers whatever it likes.

use std::time::Duration;

use api::{Credentials, proto as pb, tls};
use cluster_tests::{Cluster, group, over_the_network, until};
use model::Role;
use pb::manager_client::ManagerClient;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;

/// How many of each kind: eleven kinds.
const EACH: u64 = 1000;
const KINDS: u64 = 11;
/// How many at once.
const AT_ONCE: u64 = 8;

/// Some bytes that may or may not begin like a message.
fn rubbish(chance: &mut SmallRng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..chance.random_range(0..600)).map(|_| chance.random()).collect();
    if chance.random() && bytes.len() > 5 {
        // A gRPC frame of that length.
        let length = (bytes.len() - 5) as u32;
        bytes[0] = 0;
        bytes[1..5].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

/// Says something to the port, and takes what comes until it is told no more.
async fn shout(address: &str, bytes: &[u8]) {
    let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return };
    // It may close at once.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(10), stream.take(1 << 16).read_to_end(&mut answer)).await;
}

/// Sends raw bytes as a call of any method. Whether it was refused, by a status or by the end of the connection.
async fn is_refused(channel: &mut Channel, path: &str, bytes: Vec<u8>) -> bool {
    use tower::{Service, ServiceExt};
    let body = tonic::body::Body::new(http_body_util::Full::new(prost::bytes::Bytes::from(bytes)));
    let request = http::Request::post(format!("http://h{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("infrakit-asked-by", "user:root")
        .header("infrakit-asked-as", "admin")
        .header("infrakit-forwarded", "1")
        .body(body)
        .expect("a request");
    let Ok(ready) = channel.ready().await else { return true };
    let Ok(response) = ready.call(request).await else { return true };
    // A success begins with data, and its status comes after them.
    let status = tonic::Status::from_header_map(response.headers());
    status.is_some_and(|it| it.code() != tonic::Code::Ok)
}

const METHODS: [&str; 12] = [
    "/infrakit.v1.Manager/Commit",
    "/infrakit.v1.Manager/Destroy",
    "/infrakit.v1.Manager/SetVariable",
    "/infrakit.v1.Manager/Stand",
    "/infrakit.v1.Manager/CreateToken",
    "/infrakit.v1.Manager/Status",
    "/infrakit.v1.Manager/NoSuch",
    "/infrakit.raft.v1.Peers/Append",
    "/infrakit.raft.v1.Peers/Vote",
    "/infrakit.raft.v1.Peers/TransferLeader",
    "/infrakit.raft.v1.Peers/InstallSnapshot",
    "/infrakit.raft.v1.Peers/Digests",
];

/// Forms of the peers' protocol, as somebody would write them who has read it.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Header {
        #[prost(string, tag = "1")]
        pub(crate) cluster: String,
        #[prost(uint32, tag = "2")]
        pub(crate) lineage: u32,
        #[prost(uint64, tag = "3")]
        pub(crate) from: u64,
        #[prost(uint64, tag = "4")]
        pub(crate) to: u64,
        #[prost(uint32, tag = "5")]
        pub(crate) version: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Vote {
        #[prost(uint64, tag = "1")]
        pub(crate) term: u64,
        #[prost(uint64, tag = "2")]
        pub(crate) node: u64,
        #[prost(bool, tag = "3")]
        pub(crate) committed: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct VoteRequest {
        #[prost(message, optional, tag = "1")]
        pub(crate) header: Option<Header>,
        #[prost(message, optional, tag = "2")]
        pub(crate) vote: Option<Vote>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Manager {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) address: String,
        #[prost(string, tag = "3")]
        pub(crate) storage: String,
        #[prost(uint32, tag = "6")]
        pub(crate) level: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct JoinRequest {
        #[prost(uint32, tag = "1")]
        pub(crate) version: u32,
        #[prost(message, optional, tag = "2")]
        pub(crate) manager: Option<Manager>,
        #[prost(bytes = "vec", optional, tag = "3")]
        pub(crate) token: Option<Vec<u8>>,
        #[prost(bytes = "vec", tag = "4")]
        pub(crate) csr: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct JoinReply {
        #[prost(string, tag = "1")]
        pub(crate) cluster: String,
        #[prost(uint32, tag = "2")]
        pub(crate) lineage: u32,
        #[prost(uint64, tag = "3")]
        pub(crate) node: u64,
        #[prost(bytes = "vec", tag = "4")]
        pub(crate) certificate: Vec<u8>,
        #[prost(bytes = "vec", repeated, tag = "5")]
        pub(crate) trusted: Vec<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Anything {}
}

/// One call of the peers' service.
async fn unary<Q, R>(channel: Channel, method: &str, request: Q) -> Result<R, tonic::Status>
where
    Q: prost::Message + Send + Sync + 'static,
    R: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let path = format!("/infrakit.raft.v1.Peers/{method}").parse().expect("a path");
    let codec = tonic_prost::ProstCodec::<Q, R>::default();
    grpc.unary(tonic::Request::new(request), path, codec).await.map(tonic::Response::into_inner)
}

/// Somebody with the certificate of a manager that was removed.
struct Removed {
    credentials: Credentials,
    header: wire::Header,
}

impl Removed {
    /// Joins as a manager does, and is removed.
    async fn from(cluster: &Cluster) -> Self {
        let token = cluster.token(Role::Manager, false, None).await.expect("an admin asks");
        let tls = tls::newcomer(token.authority).expect("a fingerprint");
        let request = api::CertificateRequest::new().expect("a key");
        let asked = wire::JoinRequest {
            version: 1,
            manager: Some(wire::Manager {
                name: "ghost".into(),
                address: "127.0.0.1:1".into(),
                storage: "a-disk-of-nobody".into(),
                level: model::command::LEVEL,
            }),
            token: Some(token.secret.expose().to_vec()),
            csr: request.der().to_vec(),
        };
        let joined = until("it is taken in", async || {
            let channel = over_the_network(&cluster.address(0), tls.clone()).await.ok()?;
            let reply: wire::JoinReply = unary(channel, "Join", asked.clone()).await.ok()?;
            Some(reply)
        })
        .await;
        until("it is removed", async || {
            let done = cluster.set_member_role(&["ghost"], pb::MemberRole::Removed, true).await;
            done.is_ok_and(|done| done).then_some(())
        })
        .await;
        let header = wire::Header {
            cluster: joined.cluster,
            lineage: joined.lineage,
            from: joined.node,
            to: 1,
            version: 1,
        };
        Self { credentials: request.granted(joined.certificate, joined.trusted), header }
    }
}

/// What may let nobody in.
struct Arms {
    address: String,
    /// Of another cluster, an admin there.
    other: Credentials,
    /// A viewer, who may look and no more.
    viewer: Credentials,
    /// An admin whose token was revoked.
    revoked: Credentials,
    /// The secrets of tokens: one that has expired, one that served, one for managers, one that is revoked.
    secrets: Vec<Vec<u8>>,
    /// A manager that was a member, and is none any more.
    removed: Removed,
    newcomer: std::sync::Arc<rustls::ClientConfig>,
    /// A request for a certificate as it should be.
    csr: Vec<u8>,
}

impl Arms {
    async fn strike(&self, kind: u64, chance: &mut SmallRng) {
        let method = METHODS[chance.random_range(0..METHODS.len())];
        match kind {
            0 => shout(&self.address, &rubbish(chance)).await,
            1 => shout(&self.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await,
            2 => {
                // The beginning of a handshake, cut off anywhere.
                let hello = [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &rubbish(chance)].concat();
                shout(&self.address, &hello).await;
            }
            3 | 4 => {
                let tls = self.newcomer.clone();
                let mut channel = over_the_network(&self.address, tls).await.expect("strangers may knock");
                assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
            }
            5 => {
                let tls = tls::client(&self.other).expect("credentials");
                if let Ok(mut channel) = over_the_network(&self.address, tls).await {
                    assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
                }
            }
            6 => {
                let tls = tls::client(&self.revoked).expect("credentials");
                let mut channel =
                    over_the_network(&self.address, tls).await.expect("the certificate is ours");
                assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
            }
            7 => {
                let tls = tls::client(&self.viewer).expect("credentials");
                let mut channel = over_the_network(&self.address, tls).await.expect("she is known");
                if !method.ends_with("Status") {
                    assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
                }
            }
            8 => {
                let channel = over_the_network(&self.address, self.newcomer.clone())
                    .await
                    .expect("strangers may knock");
                let mut secret = self.secrets[chance.random_range(0..self.secrets.len())].clone();
                if chance.random() {
                    let at = chance.random_range(0..secret.len());
                    secret[at] ^= 1 << chance.random_range(0..8);
                }
                let request = pb::LoginRequest {
                    secret,
                    name: "eve".into(),
                    csr: if chance.random() { rubbish(chance) } else { self.csr.clone() },
                };
                let told = ManagerClient::new(channel).login(request).await.expect_err("it lets nobody in");
                let codes = [tonic::Code::PermissionDenied, tonic::Code::InvalidArgument];
                assert!(codes.contains(&told.code()), "{told:?}");
            }
            9 => {
                let tls = tls::client(&self.removed.credentials).expect("credentials");
                let Ok(mut channel) = over_the_network(&self.address, tls).await else { return };
                if chance.random() {
                    assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
                    return;
                }
                // As a member would ask for votes, in a term that would depose whoever leads.
                let asked = wire::VoteRequest {
                    header: Some(wire::Header {
                        to: chance.random_range(1..4),
                        ..self.removed.header.clone()
                    }),
                    vote: Some(wire::Vote {
                        term: 1_000_000,
                        node: self.removed.header.from,
                        committed: false,
                    }),
                };
                let path = if chance.random() { "Vote" } else { "PreVote" };
                let told: Result<wire::Anything, _> = unary(channel, path, asked).await;
                assert!(told.is_err(), "a removed manager is heard");
            }
            _ => {
                let tls = self.newcomer.clone();
                let mut channel = over_the_network(&self.address, tls).await.expect("strangers may knock");
                let join = "/infrakit.raft.v1.Peers/Join";
                assert!(is_refused(&mut channel, join, rubbish(chance)).await);
            }
        }
    }
}

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
    cluster.client().call(async |mut c| c.revoke_token(revoke.clone()).await).await.expect("an admin asks");
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
    let arms = std::sync::Arc::new(arms);
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
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        let mut chance = SmallRng::seed_from_u64(7);
        while let Ok((mut stream, _)) = listener.accept().await {
            let n = counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
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
    while asked.load(std::sync::atomic::Ordering::SeqCst) < 1000 {
        let refused = cluster.commit(&evil).await.expect_err("nobody has accepted it");
        assert!(!refused.what.is_empty() && refused.cause.len() < 10_000, "{}", refused.cause.len());
    }
    let after = cluster.status().await.expect("somebody leads");
    assert_eq!((after.term, after.applied_index), (before.term, before.applied_index), "nothing was written");
    assert!(cluster.describe("evil").await.is_none());
    assert!(!cluster.manager(0).log().contains("panicked"));
    assert_eq!(cluster.history().made("web"), 2);
}
