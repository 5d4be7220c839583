//! `infrakit status`: the cluster as a whole.

use api::proto as pb;
use serde_json::{Value, json};

use super::client;
use super::group::{brief_json, header, row};
use super::node::{NODES, node_json, node_row};
use crate::global::{Format, Global};
use crate::output;
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

pub(crate) async fn run(global: &Global) -> Result<u8, Failure> {
    let status = ask(global).await?;
    let value = json!({
        "cluster": status.cluster,
        "lineage": status.lineage,
        "term": status.term,
        "leader": status.leader,
        "appliedIndex": status.applied_index,
        "version": status.version,
        "featureLevel": status.level,
        "outage": status.outage.as_ref().map(outage_json),
        "nodes": status.nodes.iter().map(|node| node_json(node, status.term)).collect::<Vec<_>>(),
        "groups": status.groups.iter().map(brief_json).collect::<Vec<_>>(),
    });
    if output::object(global.output, "ClusterStatus", value)? {
        return Ok(tell_outage(&status));
    }
    let format = if global.output == Format::Wide { Format::Wide } else { Format::Table };
    let leader = status.nodes.iter().find(|node| node.id == status.leader);
    let voters: Vec<_> = status.nodes.iter().filter(|node| node.role != "Learner").collect();
    let reachable = voters.iter().filter(|node| node.status == "Reachable").count();
    let converged = status.groups.iter().filter(|group| group.converged).count();
    output::line(&format!(
        "cluster {}: leader {} in term {}, {reachable}/{} voters reachable, {converged}/{} groups converged",
        status.cluster.get(..8).unwrap_or(&status.cluster),
        leader.map_or("none", |node| node.name.as_str()),
        status.term,
        voters.len(),
        status.groups.len(),
    ))?;
    output::line("")?;
    output::table(format, &NODES, status.nodes.iter().map(node_row))?;
    if !status.groups.is_empty() {
        output::line("")?;
        output::table(format, header(format), status.groups.iter().map(|group| row(group, format)))?;
    }
    for group in &status.groups {
        for condition in group.conditions.iter().filter(|it| it.is_trouble()) {
            output::line("")?;
            output::line(&format!("condition {} of {}: {}", condition.r#type, group.id, condition.message))?;
        }
    }
    Ok(tell_outage(&status))
}
