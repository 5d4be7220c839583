//! What may let nobody in, and how it is tried.

use std::sync::Arc;
use std::time::Duration;

use api::{Credentials, Services, proto as pb, tls};
use cluster_tests::{Cluster, over_the_network, until};
use model::Role;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;

use crate::wire::{self, unary};

/// How many kinds of attempts there are.
pub(crate) const KINDS: u64 = 11;

const METHODS: [&str; 12] = [
    "/infrakit.v1.Groups/Commit",
    "/infrakit.v1.Groups/Destroy",
    "/infrakit.v1.Variables/Set",
    "/infrakit.v1.Nodes/SetRole",
    "/infrakit.v1.Access/CreateToken",
    "/infrakit.v1.Cluster/Status",
    "/infrakit.v1.Groups/NoSuch",
    "/infrakit.raft.v1.Peers/Append",
    "/infrakit.raft.v1.Peers/Vote",
    "/infrakit.raft.v1.Peers/TransferLeader",
    "/infrakit.raft.v1.Peers/InstallSnapshot",
    "/infrakit.raft.v1.Peers/Digests",
];

/// The beginning of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Some bytes that may or may not begin like a message.
pub(crate) fn rubbish(chance: &mut SmallRng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..chance.random_range(0..600)).map(|_| chance.random()).collect();
    if chance.random() && bytes.len() > 5 {
        // A gRPC frame of that length.
        let length = (bytes.len() - 5) as u32;
        bytes[0] = 0;
        bytes[1..5].copy_from_slice(&length.to_be_bytes());
    }
    bytes
}

/// The beginning of a handshake, cut off anywhere.
fn half_a_handshake(chance: &mut SmallRng) -> Vec<u8> {
    [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &rubbish(chance)].concat()
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

/// Somebody with the certificate of a manager that was removed.
pub(crate) struct Removed {
    credentials: Credentials,
    header: wire::Header,
}

impl Removed {
    /// Joins as a manager does, and is removed.
    pub(crate) async fn from(cluster: &Cluster) -> Self {
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
pub(crate) struct Arms {
    pub(crate) address: String,
    /// Of another cluster, an admin there.
    pub(crate) other: Credentials,
    /// A viewer, who may look and no more.
    pub(crate) viewer: Credentials,
    /// An admin whose token was revoked.
    pub(crate) revoked: Credentials,
    /// The secrets of tokens: one that has expired, one that served, one for managers, one that is revoked.
    pub(crate) secrets: Vec<Vec<u8>>,
    /// A manager that was a member, and is none any more.
    pub(crate) removed: Removed,
    pub(crate) newcomer: Arc<rustls::ClientConfig>,
    /// A request for a certificate as it should be.
    pub(crate) csr: Vec<u8>,
}

impl Arms {
    /// One attempt of this kind, which is refused.
    pub(crate) async fn strike(&self, kind: u64, chance: &mut SmallRng) {
        let method = METHODS[chance.random_range(0..METHODS.len())];
        match kind {
            0 => shout(&self.address, &rubbish(chance)).await,
            1 => shout(&self.address, PREFACE).await,
            2 => shout(&self.address, &half_a_handshake(chance)).await,
            3 | 4 => self.call_unknown(method, chance).await,
            5 => self.call_as_an_admin_of_another_cluster(method, chance).await,
            6 => self.call_with_a_revoked_login(method, chance).await,
            7 => self.call_as_a_viewer(method, chance).await,
            8 => self.log_in(chance).await,
            9 => self.call_as_a_removed_manager(method, chance).await,
            _ => self.call_unknown("/infrakit.raft.v1.Peers/Join", chance).await,
        }
    }

    async fn connect(&self, who: &Credentials) -> Result<Channel, tonic::transport::Error> {
        over_the_network(&self.address, tls::client(who).expect("credentials")).await
    }

    /// Connects without credentials.
    async fn knock(&self) -> Channel {
        over_the_network(&self.address, self.newcomer.clone()).await.expect("strangers may knock")
    }

    async fn call_unknown(&self, method: &str, chance: &mut SmallRng) {
        let mut channel = self.knock().await;
        assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
    }

    async fn call_as_an_admin_of_another_cluster(&self, method: &str, chance: &mut SmallRng) {
        if let Ok(mut channel) = self.connect(&self.other).await {
            assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
        }
    }

    async fn call_with_a_revoked_login(&self, method: &str, chance: &mut SmallRng) {
        let mut channel = self.connect(&self.revoked).await.expect("the certificate is ours");
        assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
    }

    async fn call_as_a_viewer(&self, method: &str, chance: &mut SmallRng) {
        let mut channel = self.connect(&self.viewer).await.expect("she is known");
        if !method.ends_with("Status") {
            assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
        }
    }

    /// With the secret of a token that is not valid, or with one of its bits changed.
    async fn log_in(&self, chance: &mut SmallRng) {
        let channel = self.knock().await;
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
        let told = Services::over(channel).access().login(request).await.expect_err("it lets nobody in");
        let codes = [tonic::Code::PermissionDenied, tonic::Code::InvalidArgument];
        assert!(codes.contains(&told.code()), "{told:?}");
    }

    async fn call_as_a_removed_manager(&self, method: &str, chance: &mut SmallRng) {
        let Ok(mut channel) = self.connect(&self.removed.credentials).await else { return };
        if chance.random() {
            assert!(is_refused(&mut channel, method, rubbish(chance)).await, "{method}");
            return;
        }
        // As a member would ask for votes, in a term that would depose whoever leads.
        let header = wire::Header { to: chance.random_range(1..4), ..self.removed.header.clone() };
        let vote = wire::Vote { term: 1_000_000, node: header.from, committed: false };
        let asked = wire::VoteRequest { header: Some(header), vote: Some(vote) };
        let path = if chance.random() { "Vote" } else { "PreVote" };
        let told: Result<wire::Anything, _> = unary(channel, path, asked).await;
        assert!(told.is_err(), "a removed manager is heard");
    }
}
