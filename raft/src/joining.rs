//! The request of a manager to join, and the interface that handles it.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use model::access::Secret;
use model::command::Manager;
use model::{ClusterId, NodeId};

/// The authenticated peer of a connection. The server adds it to the extensions of every request; without it,
/// as in simulated time, a peer is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerIdentity {
    /// A manager with a certificate of this cluster.
    Manager(NodeId),
    /// The user of this manager, through its local socket.
    Local,
    /// Unauthenticated.
    Unknown,
}

/// Handles requests to join; the owner of the replica decides about its members.
pub trait JoinHandler: Send + Sync + 'static {
    /// Admits a manager as a member, here or through the leader. The flag of the error says whether a retry
    /// is pointless.
    fn join(
        &self,
        application: Application,
        from: PeerIdentity,
    ) -> BoxFuture<'_, Result<Joined, (String, bool)>>;
}

/// The request of a manager to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The manager.
    pub manager: Manager,
    /// The secret of its join token.
    pub token: Option<Secret>,
    /// Its certificate signing request: PKCS #10, in DER; empty if it has a certificate.
    pub csr: Bytes,
    /// A manager forwards the request and vouches for it; ignored from anybody else.
    pub vouched: bool,
    /// By how much the clock of whoever sent it is ahead of that of the recipient; none if it did not say.
    pub clock_ahead_ms: Option<i64>,
}

/// The reply to a new member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The cluster.
    pub cluster: ClusterId,
    /// The current lineage of the cluster.
    pub lineage: u32,
    /// The id of the new member.
    pub node: NodeId,
    /// Its certificate, in DER; empty if it requested none.
    pub certificate: Bytes,
    /// The trusted authorities, in DER.
    pub trusted: Vec<Bytes>,
}
