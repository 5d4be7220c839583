//! How a newcomer introduces itself, and who takes it in.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use model::access::Secret;
use model::command::Manager;
use model::{ClusterId, NodeId};

/// Who speaks, as far as the connection proves it. Whoever accepts connections puts it among the extensions of
/// every request; where nobody does, as in simulated time, a peer is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerIdentity {
    Manager(NodeId),
    /// Somebody on this machine who may use this manager's socket.
    Local,
    Unknown,
}

/// Takes in new managers: the membership policy belongs to whoever runs the replica.
pub trait JoinHandler: Send + Sync + 'static {
    /// Makes a manager a member, here or at the leader. The error says whether it was refused for
    /// good (`true`) or may be asked again.
    fn join(
        &self,
        application: Application,
        from: PeerIdentity,
    ) -> BoxFuture<'_, Result<Joined, (String, bool)>>;
}

/// What a manager that wants to be a member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    pub manager: Manager,
    /// The secret of the token that lets it in.
    pub token: Option<Secret>,
    /// The request for its certificate, as PKCS #10 in DER; empty when it has one.
    pub csr: Bytes,
    /// Another manager lets it in: only a manager's word counts for this.
    pub vouched: bool,
}

/// What a new member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub cluster: ClusterId,
    pub lineage: u32,
    pub node: NodeId,
    /// Its certificate, in DER; empty when it asked for none.
    pub certificate: Bytes,
    /// The certificates of the authorities that it is to trust, in DER.
    pub trusted: Vec<Bytes>,
}
