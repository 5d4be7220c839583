//! `infrakit doctor`: what is wrong, and what to do about it.

use std::time::Duration;

use api::proto as pb;
use serde_json::{Value, json};
use spi::Directory;

use super::{client, plugins_dir};
use crate::args::Global;
use crate::output;
use crate::report::{FAILED, Failure};

/// How bad something is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    /// It works, and should be looked at.
    Odd,
    Bad,
}

/// One thing that was looked at.
struct Finding {
    grade: Grade,
    what: String,
    remedy: String,
}

impl Finding {
    fn good(what: impl Into<String>) -> Self {
        Self { grade: Grade::Good, what: what.into(), remedy: String::new() }
    }

    fn odd(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Odd, what: what.into(), remedy: remedy.into() }
    }

    fn bad(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Bad, what: what.into(), remedy: remedy.into() }
    }
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Grade::Good => "ok",
            Grade::Odd => "look",
            Grade::Bad => "BAD",
        }
    }
}

pub(crate) async fn run(global: &Global) -> Result<u8, Failure> {
    let mut findings = Vec::new();
    match status(global).await {
        Ok(status) => {
            managers(&status, &mut findings);
            groups(&status, &mut findings);
        }
        Err(failure) => {
            let remedy = if failure.remedy.is_empty() {
                "start managers, or name those that run with --host; a majority of them must be up".to_owned()
            } else {
                failure.remedy
            };
            findings.push(Finding::bad(format!("the managers do not answer: {}", failure.what), remedy));
        }
    }
    plugins(global, &mut findings).await;
    let worst = findings.iter().any(|it| it.grade == Grade::Bad);
    let json = |it: &Finding| json!({"grade": it.grade.word(), "what": it.what, "remedy": it.remedy});
    let items: Vec<Value> = findings.iter().map(json).collect();
    if !output::object(global.output, "Diagnosis", json!({ "items": items }))? {
        for finding in &findings {
            output::line(&format!("{:<5} {}", finding.grade.word(), finding.what))?;
            if !finding.remedy.is_empty() {
                output::line(&format!("      {}", finding.remedy))?;
            }
        }
    }
    Ok(if worst { FAILED } else { 0 })
}

async fn status(global: &Global) -> Result<pb::ClusterStatus, Failure> {
    let client = client(global)?.with_deadline(Duration::from_secs(10));
    Ok(client.call(async |mut c| c.status(pb::StatusRequest {}).await).await?)
}

fn managers(status: &pb::ClusterStatus, findings: &mut Vec<Finding>) {
    let voters: Vec<_> = status.nodes.iter().filter(|node| node.role != "Learner").collect();
    let reached = voters.iter().filter(|node| node.status == "Reachable").count();
    let borne = reached.saturating_sub(voters.len() / 2 + 1);
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
                "start it with its old command; if it is gone for good, let another join and `infrakit node rm {}`",
                node.name
            ),
        ));
    }
    if voters.len() == 1 {
        findings.push(Finding::odd(
            "one manager alone bears no loss",
            "let two more join: `manager start --join`",
        ));
    } else if borne == 0 {
        findings.push(Finding::odd(
            "the cluster bears the loss of no further voter",
            "see to the managers that do not answer, or let another join",
        ));
    }
    if voters.len().is_multiple_of(2) {
        findings.push(Finding::odd(
            format!("{} voters bear no more than {} would", voters.len(), voters.len() - 1),
            "let another join",
        ));
    }
    for node in status.nodes.iter().filter(|node| node.lag.is_some_and(|lag| lag > 1000)) {
        findings.push(Finding::odd(
            format!("manager `{}` is {} entries behind", node.name, node.lag.unwrap_or_default()),
            "it catches up by itself; if it does not, look at its disk and its network",
        ));
    }
    let mut versions: Vec<&str> = status.nodes.iter().map(|node| node.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        findings.push(Finding::odd(
            format!("the managers run different programs: {}", versions.join(", ")),
            "start each of them with the newest one; new kinds of changes wait for that",
        ));
    }
}

fn groups(status: &pb::ClusterStatus, findings: &mut Vec<Finding>) {
    let converged = status.groups.iter().filter(|group| group.converged).count();
    findings.push(Finding::good(format!("{converged} of {} groups are as declared", status.groups.len())));
    for group in &status.groups {
        for condition in group.conditions.iter().filter(|it| it.is_trouble()) {
            let what = format!("group `{}`: {}", group.id, condition.message);
            findings.push(Finding::bad(what, format!("`infrakit group describe {}`", group.id)));
        }
        if !group.converged {
            let why = group.waits.first().map_or(group.summary.as_str(), |wait| wait.message.as_str());
            findings.push(Finding::odd(
                format!("group `{}` has {} of {} members ready: {why}", group.id, group.ready, group.desired),
                format!(
                    "it may be on its way; `infrakit group describe {}` says what it waits for",
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
            findings.push(Finding::odd(failure.what, failure.remedy));
            return;
        }
    };
    let path = directory.path().display().to_string();
    let found = match directory.list() {
        Ok(found) => found,
        Err(error) => {
            let remedy = "start plugins there, or name their directory with --plugins-dir";
            findings.push(Finding::odd(format!("{path} cannot be read: {error}"), remedy));
            return;
        }
    };
    if found.is_empty() {
        let remedy = "start some with `infrakit plugin start`, or name their directory with --plugins-dir";
        findings.push(Finding::odd(format!("no plugins are in {path}"), remedy));
    }
    let mut answering = Vec::new();
    for plugin in found {
        match tokio::time::timeout(Duration::from_secs(5), plugin.client().hello()).await {
            Ok(Ok(_)) => answering.push(plugin.name.clone()),
            Ok(Err(error)) => findings.push(Finding::bad(
                format!("plugin `{}` does not answer: {error}", plugin.name),
                "start it again; what is left of one that is gone can be removed from the directory",
            )),
            Err(_) => findings.push(Finding::bad(
                format!("plugin `{}` has not answered within 5 s", plugin.name),
                "it hangs: look at its log, and start it again",
            )),
        }
    }
    if !answering.is_empty() {
        findings.push(Finding::good(format!("plugins that answer in {path}: {}", answering.join(", "))));
    }
}
