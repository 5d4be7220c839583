//! `infrakit operator`: commands under the names that Consul and Nomad use.

use clap::Subcommand;

use super::backup::{self, BackupArgs};
use super::node::{self, NodeVerb};
use crate::global::Global;
use crate::report::Failure;

#[derive(Subcommand)]
pub(crate) enum OperatorVerb {
    #[command(subcommand, about = "Peers, leadership, snapshots")]
    Raft(RaftVerb),
}

#[derive(Subcommand)]
pub(crate) enum RaftVerb {
    /// Same as `node ls`
    #[command(visible_alias = "peers")]
    ListPeers,
    /// Same as `node rm`
    RemovePeer {
        /// Its name or id
        manager: String,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Same as `node transfer-leadership`
    TransferLeader {
        /// Its name or id [default: the most up-to-date voter]
        manager: Option<String>,
    },
    /// Same as `backup`
    Snapshot(BackupArgs),
}

pub(crate) async fn run(OperatorVerb::Raft(verb): OperatorVerb, global: &Global) -> Result<u8, Failure> {
    let verb = match verb {
        RaftVerb::ListPeers => NodeVerb::Ls,
        RaftVerb::RemovePeer { manager, yes } => NodeVerb::Rm { managers: vec![manager], force: false, yes },
        RaftVerb::TransferLeader { manager } => NodeVerb::TransferLeadership { manager },
        RaftVerb::Snapshot(args) => return backup::run(args, global).await,
    };
    node::run(verb, global).await
}
