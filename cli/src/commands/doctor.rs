//! `infrakit doctor`: diagnoses problems and suggests remedies.

use std::time::Duration;

use api::proto as pb;
use serde_json::{Value, json};
use spi::Directory;

use super::outage::{NO_LEADER, describe_outage};
use super::{client, plugins_dir};
use crate::global::Global;
use crate::output;
use crate::report::{FAILED, Failure};

/// How severe a finding is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    /// It works, and needs attention.
    Warning,
    Bad,
}

/// The result of one check.
struct Finding {
    grade: Grade,
    what: String,
    remedy: String,
}

impl Finding {
    fn good(what: impl Into<String>) -> Self {
        Self { grade: Grade::Good, what: what.into(), remedy: String::new() }
    }

    fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Warning, what: what.into(), remedy: remedy.into() }
    }

    fn bad(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Bad, what: what.into(), remedy: remedy.into() }
    }
}

impl Grade {
    fn as_str(self) -> &'static str {
        match self {
            Grade::Good => "ok",
            Grade::Warning => "warn",
            Grade::Bad => "FAIL",
        }
    }
}

pub(crate) async fn run(global: &Global) -> Result<u8, Failure> {
    let mut findings = Vec::new();
    match status(global).await {
        Ok(status) => {
            managers(&status, &mut findings);
            if status.outage.is_none() {
                groups(&status, &mut findings);
            }
        }
        Err(failure) => {
            let remedy = if failure.remedy.is_empty() {
                "start a majority of the managers, or name running ones with --host".to_owned()
            } else {
                failure.remedy
            };
            findings.push(Finding::bad(format!("the managers do not answer: {}", failure.what), remedy));
        }
    }
    plugins(global, &mut findings).await;
    let worst = findings.iter().any(|it| it.grade == Grade::Bad);
    let json = |it: &Finding| json!({"grade": it.grade.as_str(), "what": it.what, "remedy": it.remedy});
    let items: Vec<Value> = findings.iter().map(json).collect();
    if !output::object(global.output, "Diagnosis", json!({ "items": items }))? {
        for finding in &findings {
            output::line(&format!("{:<5} {}", finding.grade.as_str(), finding.what))?;
            if !finding.remedy.is_empty() {
                output::line(&format!("      {}", finding.remedy))?;
            }
        }
    }
    Ok(if worst { FAILED } else { 0 })
}

async fn status(global: &Global) -> Result<pb::ClusterStatus, Failure> {
    let client = client(global)?.with_deadline(Duration::from_secs(10));
    Ok(client.status().await?)
}

fn managers(status: &pb::ClusterStatus, findings: &mut Vec<Finding>) {
    let voters: Vec<_> = status.nodes.iter().filter(|node| node.role != "Learner").collect();
    let reached = voters.iter().filter(|node| node.status == "Reachable").count();
    let borne = reached.saturating_sub(voters.len() / 2 + 1);
    if let Some(outage) = &status.outage {
        findings.push(Finding::bad(describe_outage(outage), NO_LEADER));
        for node in status.nodes.iter().filter(|node| node.status != "Reachable") {
            let since = node.last_ack_ms.unwrap_or_default() / 1000;
            let what = format!("manager `{}` at {} has not answered for {since} s", node.name, node.address);
            findings.push(Finding::bad(what, "start it with its old command"));
        }
        return;
    }
    findings.push(Finding::good(format!(
        "cluster {} answers: lineage {}, term {}, {reached} of {} voters reachable",
        status.cluster.get(..8).unwrap_or(&status.cluster),
        status.lineage,
        status.term,
        voters.len()
    )));
    for node in status.nodes.iter().filter(|node| node.status != "Reachable") {
        findings.push(Finding::bad(
            format!("manager `{}` at {} does not answer the leader", node.name, node.address),
            format!(
                "start it with its old command; if it is permanently lost, join another and run `infrakit node rm {}`",
                node.name
            ),
        ));
    }
    if voters.len() == 1 {
        findings.push(Finding::warning(
            "a single manager tolerates no failure",
            "join two more: `infrakit manager start --join`",
        ));
    } else if borne == 0 {
        findings.push(Finding::warning(
            "the cluster tolerates the loss of no further voter",
            "restore the managers that do not answer, or join another",
        ));
    }
    if voters.len().is_multiple_of(2) {
        findings.push(Finding::warning(
            format!("{} voters tolerate no more failures than {}", voters.len(), voters.len() - 1),
            "join another manager",
        ));
    }
    differences(status, findings);
}

/// In what the managers differ from each other, and should not for long.
fn differences(status: &pb::ClusterStatus, findings: &mut Vec<Finding>) {
    for node in status.nodes.iter().filter(|node| node.lag.is_some_and(|lag| lag > 1000)) {
        findings.push(Finding::warning(
            format!("manager `{}` is {} entries behind", node.name, node.lag.unwrap_or_default()),
            "it should catch up; if it does not, check its disk and its network",
        ));
    }
    for node in &status.nodes {
        for condition in &node.conditions {
            let what = format!("manager `{}`: {}", node.name, condition.message);
            findings.push(match condition.r#type.as_str() {
                "ClockSkewed" => Finding::warning(
                    what,
                    "set the clocks of both machines right (NTP); certificates are refused when they differ by a day",
                ),
                "Duplicated" => Finding::bad(
                    what,
                    "end the one that is not to be a manager; to run another one, let it join with an empty --data-dir",
                ),
                _ => Finding::warning(what, format!("`infrakit node inspect {}` shows more", node.name)),
            });
        }
    }
    let mut versions: Vec<&str> = status.nodes.iter().map(|node| node.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        findings.push(Finding::warning(
            format!("the managers run different versions: {}", versions.join(", ")),
            "upgrade all of them to the newest; new features are enabled when all have it",
        ));
    }
}

fn groups(status: &pb::ClusterStatus, findings: &mut Vec<Finding>) {
    let converged = status.groups.iter().filter(|group| group.converged).count();
    findings.push(Finding::good(format!("{converged} of {} groups have converged", status.groups.len())));
    for group in &status.groups {
        for condition in group.conditions.iter().filter(|it| it.is_trouble()) {
            let (ready, desired) = (group.ready, group.desired);
            let what = format!("group `{}` ({ready} of {desired} ready): {}", group.id, condition.message);
            let remedy =
                format!("`infrakit group describe {}` shows its members and what they wait for", group.id);
            findings.push(Finding::bad(what, remedy));
        }
        if group.state == "Paused" {
            findings.push(Finding::warning(
                format!(
                    "group `{}` is paused, with {} of {} members ready",
                    group.id, group.ready, group.desired
                ),
                format!("`infrakit group resume {}` lets the managers act for it again", group.id),
            ));
            continue;
        }
        let is_told = group.conditions.iter().any(|it| it.r#type == "Stalled");
        if !group.converged && !is_told {
            let why = group.waits.first().map_or(group.summary.as_str(), |wait| wait.message.as_str());
            findings.push(Finding::warning(
                format!("group `{}` has {} of {} members ready: {why}", group.id, group.ready, group.desired),
                format!(
                    "it may still be converging; `infrakit group describe {}` shows what it waits for",
                    group.id
                ),
            ));
        }
    }
}

async fn plugins(global: &Global, findings: &mut Vec<Finding>) {
    let directory = match plugins_dir(global) {
        Ok(path) => Directory::new(path),
        Err(failure) => {
            findings.push(Finding::warning(failure.what, failure.remedy));
            return;
        }
    };
    let path = directory.path().display().to_string();
    let found = match directory.list() {
        Ok(found) => found,
        Err(error) => {
            let remedy = "start plugins there, or set their directory with --plugins-dir";
            findings.push(Finding::warning(format!("{path} cannot be read: {error}"), remedy));
            return;
        }
    };
    if found.is_empty() {
        let remedy = "start some with `infrakit plugin start`, or set their directory with --plugins-dir";
        findings.push(Finding::warning(format!("there are no plugins in {path}"), remedy));
    }
    let mut answering = Vec::new();
    for plugin in found {
        match tokio::time::timeout(Duration::from_secs(5), plugin.client().hello()).await {
            Ok(Ok(_)) => answering.push(plugin.name.clone()),
            Ok(Err(error)) => findings.push(Finding::bad(
                format!("plugin `{}` does not answer: {error}", plugin.name),
                "restart it; if it is no longer used, remove its entry from the directory",
            )),
            Err(_) => findings.push(Finding::bad(
                format!("plugin `{}` did not answer within 5 s", plugin.name),
                "check its log and restart it",
            )),
        }
    }
    if !answering.is_empty() {
        findings.push(Finding::good(format!("plugins running in {path}: {}", answering.join(", "))));
    }
}
