//! Who a replica is.

use model::{ClusterId, NodeId};
use prost::Message;

use crate::proto as pb;

/// Who this replica is; stored with its log, and never another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub lineage: u32,
    pub node: NodeId,
}

impl Identity {
    /// As it stands on its disk.
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
