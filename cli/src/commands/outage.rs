//! What commands say of the cluster while it has no leader.

use api::proto as pb;
use serde_json::{Value, json};

use super::client;
use crate::global::Global;
use crate::report::{self, Failure};

pub(super) async fn ask(global: &Global) -> Result<pb::ClusterStatus, Failure> {
    Ok(client(global)?.status().await?)
}

/// Without a leader, nothing is current: says so, and what to do, beside the output. The exit code.
pub(super) fn tell_outage(status: &pb::ClusterStatus) -> u8 {
    let Some(outage) = &status.outage else { return 0 };
    let answered = status.nodes.iter().find(|node| node.id == status.answered_by);
    report::warn(&format!(
        "{}; this is what manager `{}` knows, up to entry {}, and no group is acted on; {NO_LEADER}",
        describe_outage(outage),
        answered.map_or("", |node| node.name.as_str()),
        status.applied_index
    ));
    report::FAILED
}

/// For how long there has been no leader, and what is missing for one.
pub(crate) fn describe_outage(outage: &pb::Outage) -> String {
    format!(
        "no leader for {} s: {} of {} voters answer, and {} are needed",
        outage.for_ms / 1000,
        outage.reached,
        outage.voters,
        outage.needed
    )
}

/// What to do without a leader.
pub(crate) const NO_LEADER: &str = "start the managers that are missing, with their old commands; if a majority of them \
                                    is permanently lost, `infrakit recover` on the disk of a survivor";

pub(super) fn outage_json(outage: &pb::Outage) -> Value {
    json!({
        "forMs": outage.for_ms,
        "voters": outage.voters,
        "reached": outage.reached,
        "needed": outage.needed,
    })
}
