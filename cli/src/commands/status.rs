//! `infrakit status`: the cluster as a whole.

use serde_json::json;

use super::group::{brief_json, header, row};
use super::node::{NODES, node_json, node_row};
use super::outage::{ask, outage_json, tell_outage};
use crate::global::{Format, Global};
use crate::output;
use crate::report::Failure;

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
