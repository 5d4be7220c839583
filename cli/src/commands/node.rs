//! `infrakit node`: the managers of the cluster.

use api::proto as pb;
use clap::Subcommand;
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::outage::{ask, outage_json, tell_outage};
use super::{client, confirm, request_id};
use crate::global::{Format, Global};
use crate::output;
use crate::report::{self, Failure, NOT_FOUND};

#[derive(Subcommand)]
pub(crate) enum NodeVerb {
    /// List the managers
    #[command(alias = "list")]
    Ls,
    /// Show one manager: its role, its certificate, its disk, and how far its log is
    #[command(aliases = ["get", "describe", "show"])]
    Inspect {
        /// Its name or id
        manager: String,
    },
    /// Promote managers to voters, as soon as they have caught up
    Promote {
        /// Their names or ids
        #[arg(required = true)]
        managers: Vec<String>,
    },
    /// Demote managers to learners, which receive the log and do not vote
    Demote {
        /// Their names or ids
        #[arg(required = true)]
        managers: Vec<String>,
        /// Proceed even if fault tolerance decreases
        #[arg(long)]
        force: bool,
    },
    /// Remove managers permanently; their data directories cannot join again
    ///
    /// Name all failed managers at once: the change is checked and made as one. A leader transfers leadership
    /// first.
    #[command(aliases = ["delete", "remove"])]
    Rm {
        /// Their names or ids
        #[arg(required = true)]
        managers: Vec<String>,
        /// Proceed even if fault tolerance decreases
        #[arg(long)]
        force: bool,
        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
    /// Transfer leadership to another voter
    #[command(visible_alias = "transfer-leader")]
    TransferLeadership {
        /// Its name or id [default: the most up-to-date voter]
        manager: Option<String>,
    },
}

pub(super) fn node_json(node: &pb::Node, term: u64) -> Value {
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

pub(super) fn node_row(node: &pb::Node) -> Vec<String> {
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

pub(super) const NODES: [&str; 7] = ["ID", "NAME", "STATUS", "ROLE", "ADDRESS", "LAG", "VERSION"];

pub(crate) async fn run(verb: NodeVerb, global: &Global) -> Result<u8, Failure> {
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
            confirm(yes, &format!("This removes `{names}` from the cluster permanently"), &names).await?;
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
    let request = pb::SetMemberRoleRequest { request_id: request_id(), managers, role: role.into(), force };
    let reply = client(global)?.call(async |c| c.nodes().set_role(request.clone()).await).await?;
    let (is, will) = match role {
        pb::MemberRole::Voter => ("is a voter", "becomes a voter as soon as it has caught up"),
        pb::MemberRole::Learner => ("is a learner", "becomes a learner as soon as another manager leads"),
        pb::MemberRole::Removed => ("is removed", "will be removed as soon as that is safe for the quorum"),
    };
    let mut told = Vec::new();
    for manager in &request.managers {
        told.push(format!("{manager}: {}", if reply.done { is } else { will }));
    }
    output::done(global.output, &told.join("\n"))?;
    Ok(0)
}

async fn transfer(to: Option<String>, global: &Global) -> Result<u8, Failure> {
    let request = pb::TransferLeadershipRequest { to: to.unwrap_or_default() };
    let client = client(global)?.one_at_a_time();
    let reply = client.call(async |c| c.nodes().transfer_leadership(request.clone()).await).await?;
    output::done(global.output, &format!("{} leads", reply.leader))?;
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
    let request = pb::InspectNodeRequest { manager: node.id.to_string() };
    let details = client(global)?.call(async |c| c.nodes().inspect(request.clone()).await).await;
    let mut value = node_json(node, status.term);
    if let Ok(details) = &details {
        value["details"] = details_json(details);
    }
    if !output::object(global.output, "Node", value)? {
        output::table(global.output, &NODES, [node_row(node)])?;
        if global.output == Format::Name {
            return Ok(0);
        }
        for condition in &node.conditions {
            output::line(&format!("{}: {}", condition.r#type, condition.message))?;
        }
        if let Ok(details) = &details {
            for (name, value) in details_lines(details) {
                output::line(&format!("{name:<12} {value}"))?;
            }
        }
    }
    if let Err(error) = details {
        report::warn(&format!("manager `{}` does not describe itself: {}", node.name, error.what));
    }
    Ok(0)
}

fn details_json(it: &pb::NodeDetails) -> Value {
    json!({
        "startedAt": output::rfc3339(it.started_ms),
        "certificateEndsAt": it.certificate_ends_ms.map(output::rfc3339),
        "dataDir": it.data_dir,
        "dataBytes": it.data_bytes,
        "diskBytes": it.disk_bytes,
        "diskFreeBytes": it.disk_free_bytes,
        "log": {"last": it.log_last, "applied": it.log_applied, "snapshot": it.log_snapshot},
    })
}

fn details_lines(it: &pb::NodeDetails) -> Vec<(&'static str, String)> {
    let certificate = it.certificate_ends_ms.map(|at| match output::from_now(at) {
        Some(left) => format!("valid until {} (in {left})", output::rfc3339(at)),
        None => format!("expired at {}", output::rfc3339(at)),
    });
    let disk = match (it.disk_free_bytes, it.disk_bytes) {
        (Some(free), Some(all)) => format!("; {} of {} are free", HumanBytes(free), HumanBytes(all)),
        _ => String::new(),
    };
    vec![
        ("started", format!("{} ({})", output::rfc3339(it.started_ms), output::ago(it.started_ms))),
        ("certificate", certificate.unwrap_or_else(|| "none".to_owned())),
        ("disk", format!("{} in {}{disk}", HumanBytes(it.data_bytes), it.data_dir)),
        (
            "log",
            format!(
                "last entry {}, applied {}, snapshot up to {}",
                it.log_last, it.log_applied, it.log_snapshot
            ),
        ),
    ]
}

async fn list(global: &Global) -> Result<u8, Failure> {
    let status = ask(global).await?;
    let items: Vec<Value> = status.nodes.iter().map(|node| node_json(node, status.term)).collect();
    let list = json!({ "items": items, "outage": status.outage.as_ref().map(outage_json) });
    if !output::object(global.output, "NodeList", list)? {
        output::table(global.output, &NODES, status.nodes.iter().map(node_row))?;
    }
    Ok(tell_outage(&status))
}
