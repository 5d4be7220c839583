//! Why a group does not move on, and what should not be: values, which `status` puts into words.

use crate::ids::{InstanceId, IntentId, PluginName, Slot};
use crate::time::Timestamp;

/// Why a group does not move on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    ForValidation {
        message: String,
    },
    ForPlugin {
        plugin: PluginName,
        since: Timestamp,
        message: String,
    },
    ForListing {
        plugin: PluginName,
    },
    ForCalls {
        open: usize,
    },
    ForSettling {
        intent: IntentId,
        until: Timestamp,
        message: String,
    },
    ForBackoff {
        slot: Slot,
        until: Timestamp,
        message: String,
    },
    ForHealth {
        slot: Slot,
        instance: InstanceId,
        message: String,
    },
    ForLabel {
        instance: InstanceId,
        until: Timestamp,
        message: String,
    },
    ForStray {
        instance: InstanceId,
        until: Timestamp,
        message: String,
    },
    /// Its plugin cannot show whether it was made: only a person can find out.
    ForOperator {
        intent: IntentId,
        slot: Slot,
        message: String,
    },
    /// So many intents of other groups are open that none may be added.
    ForOthers,
    /// The cluster has as many instances as it may have.
    ForCeiling,
    /// The group has made too many instances in a short time.
    ForRate {
        until: Timestamp,
    },
    /// A manager runs on the instance that is to go.
    ForManager {
        instance: InstanceId,
        manager: String,
    },
    /// Members that the latest look did not show: it is looked again before they are taken for gone.
    ForSight {
        plugin: PluginName,
        members: usize,
    },
}

/// Something at the provider that this cluster cannot have done. Nothing is destroyed because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It carries this cluster's id, and a token that was never given out; empty when it has none.
    UnknownIntent { instance: InstanceId, token: String },
    /// Two instances carry one token, which was used once.
    SharedToken { intent: IntentId, instances: [InstanceId; 2] },
    /// A second instance of one logical id, made by an earlier lineage in what was lost of its log.
    SecondOfName { instance: InstanceId, name: String },
}
