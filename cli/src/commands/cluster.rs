//! `infrakit status`, `node`, `events` and `var`: the cluster as a whole.

use std::time::Duration;

use api::proto as pb;
use model::RequestId;
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::group::{HEADER, brief_json, row};
use super::{client, confirm};
use crate::args::{EventsArgs, NodeVerb, VarVerb};
use crate::global::{Format, Global};
use crate::output::{self, rfc3339};
use crate::report::{self, Failure, NOT_FOUND};

async fn ask(global: &Global) -> Result<pb::ClusterStatus, Failure> {
    Ok(client(global)?.status().await?)
}

fn node_json(node: &pb::Node, term: u64) -> Value {
    json!({
        "id": node.id,
        "name": node.name,
        "address": node.address,
        "role": node.role,
        "status": node.status,
        "lag": node.lag,
        "lastAckMs": node.last_ack_ms,
        "clockAheadMs": node.clock_ahead_ms,
        "conditions": node.conditions.iter().map(output::condition_json).collect::<Vec<_>>(),
        "term": term,
        "version": node.version,
        "instance": node.instance,
        "instancePlugin": node.instance_plugin,
    })
}

fn node_row(node: &pb::Node) -> Vec<String> {
    vec![
        node.id.to_string(),
        node.name.clone(),
        node.status.clone(),
        node.role.clone(),
        node.address.clone(),
        node.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
        if node.version.is_empty() { "-".to_owned() } else { node.version.clone() },
    ]
}

const NODES: [&str; 7] = ["ID", "NAME", "STATUS", "ROLE", "ADDRESS", "LAG", "VERSION"];

pub(crate) async fn nodes(verb: NodeVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        NodeVerb::Ls => list(global).await,
        NodeVerb::Inspect { manager } => inspect(&manager, global).await,
        NodeVerb::Promote { managers } => {
            set_member_role(managers, pb::MemberRole::Voter, false, global).await
        }
        NodeVerb::Demote { managers, force } => {
            set_member_role(managers, pb::MemberRole::Learner, force, global).await
        }
        NodeVerb::Rm { managers, force, yes } => {
            let names = managers.join(" ");
            confirm(yes, &format!("This removes `{names}` from the cluster permanently"), &names)?;
            set_member_role(managers, pb::MemberRole::Removed, force, global).await
        }
        NodeVerb::TransferLeadership { manager } => transfer(manager, global).await,
    }
}

/// Changes the role of managers, and prints the result.
async fn set_member_role(
    managers: Vec<String>,
    role: pb::MemberRole,
    force: bool,
    global: &Global,
) -> Result<u8, Failure> {
    let request = pb::SetMemberRoleRequest {
        request_id: api::request_id_bytes(RequestId(rand::random())),
        managers,
        role: role.into(),
        force,
    };
    let reply = client(global)?.call(async |mut c| c.set_member_role(request.clone()).await).await?;
    let (is, will) = match role {
        pb::MemberRole::Voter => ("is a voter", "becomes a voter as soon as it has caught up"),
        pb::MemberRole::Learner => ("is a learner", "becomes a learner as soon as another manager leads"),
        pb::MemberRole::Removed => ("is removed", "will be removed as soon as that is safe for the quorum"),
    };
    for manager in &request.managers {
        output::line(&format!("{manager}: {}", if reply.done { is } else { will }))?;
    }
    Ok(0)
}

async fn transfer(to: Option<String>, global: &Global) -> Result<u8, Failure> {
    let request = pb::TransferLeadershipRequest { to: to.unwrap_or_default() };
    let client = client(global)?.one_at_a_time();
    let reply = client.call(async |mut c| c.transfer_leadership(request.clone()).await).await?;
    output::line(&format!("{} leads", reply.leader))?;
    Ok(0)
}

async fn inspect(manager: &str, global: &Global) -> Result<u8, Failure> {
    let status = ask(global).await?;
    let found = status.nodes.iter().find(|node| node.name == manager);
    let found = found.or_else(|| status.nodes.iter().find(|node| node.id.to_string() == manager));
    let Some(node) = found else {
        return Err(Failure::new(format!("manager `{manager}` not found"))
            .exit(NOT_FOUND)
            .remedy("`infrakit node ls` lists the managers"));
    };
    if !output::object(global.output, "Node", node_json(node, status.term))? {
        output::table(&NODES, [node_row(node)])?;
        for condition in &node.conditions {
            output::line(&format!("{}: {}", condition.r#type, condition.message))?;
        }
    }
    Ok(0)
}

async fn list(global: &Global) -> Result<u8, Failure> {
    let status = ask(global).await?;
    let items: Vec<Value> = status.nodes.iter().map(|node| node_json(node, status.term)).collect();
    let list = json!({ "items": items, "outage": status.outage.as_ref().map(outage_json) });
    if !output::object(global.output, "NodeList", list)? {
        output::table(&NODES, status.nodes.iter().map(node_row))?;
    }
    Ok(tell_outage(&status))
}

/// Without a leader, nothing is current: says so, and what to do, beside the output. The exit code.
fn tell_outage(status: &pb::ClusterStatus) -> u8 {
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

fn outage_json(outage: &pb::Outage) -> Value {
    json!({
        "forMs": outage.for_ms,
        "voters": outage.voters,
        "reached": outage.reached,
        "needed": outage.needed,
    })
}

pub(crate) async fn status(global: &Global) -> Result<u8, Failure> {
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
    output::table(&NODES, status.nodes.iter().map(node_row))?;
    if !status.groups.is_empty() {
        output::line("")?;
        output::table(&HEADER, status.groups.iter().map(row))?;
    }
    for group in &status.groups {
        for condition in group.conditions.iter().filter(|it| it.is_trouble()) {
            output::line("")?;
            output::line(&format!("condition {} of {}: {}", condition.r#type, group.id, condition.message))?;
        }
    }
    Ok(tell_outage(&status))
}

pub(crate) async fn events(args: EventsArgs, global: &Global) -> Result<u8, Failure> {
    let (client, group) = (client(global)?, args.group.unwrap_or_default());
    let mut shown = Shown::default();
    loop {
        let after = shown.entry.saturating_sub(1);
        let request = pb::EventsRequest { group: group.clone(), follow: args.follow, after };
        let mut stream = client.call(async |mut c| c.events(request.clone()).await).await?;
        shown.skips = shown.of_entry;
        loop {
            match stream.next().await {
                Some(Ok(event)) if shown.is_new(event.index) => print_event(&event, global)?,
                Some(Ok(_)) => {}
                Some(Err(status)) if args.follow && api::goes_on_elsewhere(&status) => break,
                None if args.follow => break,
                Some(Err(status)) => return Err(api::Error::from(status).into()),
                None => return Ok(0),
            }
        }
        // Another manager has the same events: it goes on from there.
        tokio::time::sleep(FOLLOWED_AGAIN).await;
    }
}

/// Pause before events are followed at another manager.
const FOLLOWED_AGAIN: Duration = Duration::from_millis(200);

/// What has been shown of the events. An entry may have several, in the same order at every manager.
#[derive(Default)]
struct Shown {
    /// The last entry, and how many of its events.
    entry: u64,
    of_entry: usize,
    /// How many of them come again.
    skips: usize,
}

impl Shown {
    /// Whether the next event, of this entry, has not been shown.
    fn is_new(&mut self, entry: u64) -> bool {
        if entry == self.entry && self.skips > 0 {
            self.skips -= 1;
            return false;
        }
        if entry < self.entry {
            // An older manager tells everything again.
            return false;
        }
        if entry != self.entry {
            (self.entry, self.of_entry, self.skips) = (entry, 0, 0);
        }
        self.of_entry += 1;
        true
    }
}

fn print_event(event: &pb::Event, global: &Global) -> Result<(), Failure> {
    if global.output == Format::Table {
        let group = if event.group.is_empty() { "-" } else { &event.group };
        let (at, kind) = (rfc3339(event.at_ms), &event.kind);
        output::line(&format!("{at}  {kind:<20} {group:<12} {} ({})", event.message, event.by))?;
        return Ok(());
    }
    let value = json!({
        "index": event.index,
        "at": rfc3339(event.at_ms),
        "group": event.group,
        "by": event.by,
        "type": event.kind,
        "message": event.message,
    });
    output::object(global.output, "Event", value)?;
    Ok(())
}

pub(crate) async fn variables(verb: VarVerb, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    match verb {
        VarVerb::Get { key } => {
            let request = pb::GetVariableRequest { key: key.clone() };
            let found = client.call(async |mut c| c.get_variable(request.clone()).await).await?;
            let value = json!({"key": key, "value": found.value, "index": found.index});
            if !output::object(global.output, "Variable", value)? {
                output::block(&found.value)?;
            }
        }
        VarVerb::Set { key, value } => {
            let request = pb::SetVariableRequest {
                request_id: api::request_id_bytes(RequestId(rand::random())),
                key,
                value,
            };
            client.call(async |mut c| c.set_variable(request.clone()).await).await?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_come_again_are_shown_once() {
        let mut shown = Shown::default();
        let first = [3, 5, 5, 7];
        assert!(first.iter().all(|entry| shown.is_new(*entry)));
        // The next manager begins with the last entry, and with one more event of it than was shown.
        shown.skips = shown.of_entry;
        assert_eq!([7, 7, 8].map(|entry| shown.is_new(entry)), [false, true, true]);
        // An older one begins with everything.
        shown.skips = shown.of_entry;
        assert_eq!(
            [3, 5, 5, 7, 7, 8, 9].map(|entry| shown.is_new(entry)),
            [false, false, false, false, false, false, true]
        );
    }
}
