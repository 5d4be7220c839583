//! The services of one manager, one for each noun.

use tonic::transport::Channel;

use crate::proto::access_client::AccessClient;
use crate::proto::cluster_client::ClusterClient;
use crate::proto::groups_client::GroupsClient;
use crate::proto::nodes_client::NodesClient;
use crate::proto::rollouts_client::RolloutsClient;
use crate::proto::secrets_client::SecretsClient;
use crate::proto::variables_client::VariablesClient;

/// The largest request and the largest reply: a group of 100,000 with its slots.
pub const LARGEST_MESSAGE: usize = 64 << 20;

/// Clients of the services of one manager, over one connection.
#[derive(Debug, Clone)]
pub struct Services(Channel);

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $client:ident),* $(,)?) => {
        impl Services {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> $client<Channel> {
                    $client::new(self.0.clone())
                        .max_decoding_message_size(LARGEST_MESSAGE)
                        .max_encoding_message_size(LARGEST_MESSAGE)
                }
            )*
        }
    };
}

impl Services {
    /// The services that are reached by this channel.
    pub fn over(channel: Channel) -> Self {
        Self(channel)
    }
}

clients! {
    /// The groups of instances.
    groups: GroupsClient,
    /// The cluster as a whole: status, events, backups.
    cluster: ClusterClient,
    /// The managers.
    nodes: NodesClient,
    /// Tokens, logins and the certificate authority.
    access: AccessClient,
    /// The values of `secret://NAME`.
    secrets: SecretsClient,
    /// Rollouts.
    rollouts: RolloutsClient,
    /// Variables and cluster settings.
    variables: VariablesClient,
}
