//! What requests about groups have in common.

use api::proto as pb;
use clap::Args;

use crate::commands::request_id;

#[derive(Args)]
pub(crate) struct Wait {
    /// Wait for completion and show the progress
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, such as 30s or 10m, before exiting with 3
    #[arg(long, default_value = "10m", value_name = "TIME")]
    pub(crate) timeout: String,
}

pub(crate) fn about(name: &str) -> pb::GroupRequest {
    pb::GroupRequest { request_id: request_id(), group: name.to_owned(), brief: false }
}
