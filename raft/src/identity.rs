//! The identity of a replica.

use model::{ClusterId, NodeId};
use prost::Message;

use crate::proto as pb;

/// The identity of a replica, stored with its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub lineage: u32,
    pub node: NodeId,
}

impl Identity {
    /// The stored form.
    pub(crate) fn written(&self) -> Vec<u8> {
        let header = pb::Header {
            cluster: self.cluster.to_string(),
            lineage: self.lineage,
            from: self.node.0,
            ..pb::Header::default()
        };
        header.encode_to_vec()
    }
}
