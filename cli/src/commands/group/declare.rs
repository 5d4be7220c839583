//! What files declare: planned, committed, and followed until it is there.

use std::path::PathBuf;
use std::time::Duration;

use api::{Client, Code, proto as pb};
use clap::Args;
use model::Revision;
use model::draft::{self, Draft, Spot};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::request::{Wait, about};
use crate::commands::request_id;
use crate::commands::{client, duration, watching};
use crate::files::{self, Reading};
use crate::global::Global;
use crate::output;
use crate::progress::Progress;
use crate::report::{self, Failure};

#[derive(Args)]
pub(crate) struct Files {
    /// Files with groups, in JSON or YAML, directories of such, or URLs; `-` reads the standard input
    #[arg(required_unless_present = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same, as in kubectl
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Accept groups whose plugins are not running; the groups wait until the plugins have validated them
    #[arg(long)]
    pub(crate) allow_missing_plugins: bool,
    /// Fail unless the stored revision is N; 0 means that the group must not exist yet
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
    #[command(flatten)]
    reading: Reading,
}

impl Files {
    pub(crate) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().chain(&self.file)
    }
}

/// Where the instance and the flavor of each item of a request are: the file, and the spot in it.
type Parts = Vec<(String, [Spot; 2])>;

/// Reads every file; the problems of all files are reported together.
async fn read(files: &Files) -> Result<(pb::CommitRequest, Parts), Failure> {
    let mut items = Vec::new();
    let mut places = Parts::new();
    let mut problems: Option<Failure> = None;
    let mut paths = Vec::new();
    for path in files.all() {
        paths.extend(files::expanded(path)?);
    }
    for path in &paths {
        let (name, bytes) = files::read(path).await?;
        match draft::read(&name, &bytes, files.reading.version()) {
            Ok(Draft { specs, parts, warnings }) => {
                files::warn(&warnings);
                items.extend(specs.iter().map(|spec| pb::CommitItem {
                    spec: Some(api::spec(spec, Revision(0))),
                    if_revision: files.if_revision,
                }));
                places.extend(parts.into_iter().map(|parts| (name.clone(), parts)));
            }
            Err(wrong) => {
                let failure = Failure::from(wrong);
                problems = Some(match problems {
                    None => failure,
                    Some(before) => Failure { what: format!("{}\n{}", before.what, failure.what), ..before },
                });
            }
        }
    }
    match problems {
        Some(failure) => Err(failure),
        None => Ok((
            pb::CommitRequest {
                request_id: request_id(),
                items,
                allow_missing_plugins: files.allow_missing_plugins,
            },
            places,
        )),
    }
}

/// The objections of plugins, each with its place in the files, as problems of a file are reported.
fn placed(error: api::Error, parts: &Parts) -> Failure {
    let line = |it: &pb::Objection| {
        let (file, spots) = parts.get(it.item as usize)?;
        let Spot { place, path } = &spots[usize::from(it.flavor)];
        let says = if it.absent { "does not answer" } else { "rejects it" };
        Some(format!("{file}:{place}: {path}: plugin `{}` {says}: {}", it.plugin, it.cause))
    };
    let lines: Vec<String> = error.objections.iter().filter_map(line).collect();
    let failure = Failure::from(error);
    match lines.len() {
        0 => failure,
        1 => Failure { what: lines.concat(), cause: String::new(), ..failure },
        n => Failure { what: format!("{n} problems\n{}", lines.join("\n")), cause: String::new(), ..failure },
    }
}

pub(super) async fn plan(files: &Files, detailed: bool, global: &Global) -> Result<u8, Failure> {
    let (request, parts) = read(files).await?;
    let reply = client(global)?.call(async |c| c.groups().plan(request.clone()).await).await;
    let reply = reply.map_err(|error| placed(error, &parts))?;
    let changes =
        reply.planned.iter().any(|planned| planned.summary != "Noop" || !planned.actions.is_empty());
    let items: Vec<Value> = reply.planned.iter().map(planned_json).collect();
    if !output::object(global.output, "Plan", json!({ "items": items }))? {
        for planned in &reply.planned {
            let stored = match planned.stored_revision {
                0 => "new".to_owned(),
                revision => format!("at revision {revision}"),
            };
            output::line(&format!("{} ({stored}): {}", planned.group, planned.summary))?;
            for action in planned.actions.iter().take(MOST_LINES) {
                let line = format!("  {:<8} slot {:<12} {}", action.verb, action.slot, action.instance);
                output::line(line.trim_end())?;
            }
            if planned.actions.len() > MOST_LINES {
                output::line(&format!("  and {} more", planned.actions.len() - MOST_LINES))?;
            }
            if planned.truncated {
                output::line("  and so on: the group is too large to be foretold to its end")?;
            }
            if !planned.strays.is_empty() {
                let some: Vec<&str> = planned.strays.iter().take(MOST_LINES).map(String::as_str).collect();
                let more = planned.strays.len() - some.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                output::line(&format!("  strays that stay as they are: {}{more}", some.join(", ")))?;
            }
        }
    }
    if reply.planned.iter().any(|planned| planned.refused) {
        return Ok(report::CONFLICT);
    }
    Ok(if detailed && changes { report::CHANGES } else { 0 })
}

/// About a screen; `-o json` prints all.
const MOST_LINES: usize = 20;

fn planned_json(planned: &pb::Planned) -> Value {
    let actions: Vec<Value> = planned
        .actions
        .iter()
        .map(|it| json!({"verb": it.verb, "slot": it.slot, "instance": it.instance}))
        .collect();
    json!({
        "group": planned.group,
        "storedRevision": planned.stored_revision,
        "summary": planned.summary,
        "actions": actions,
        "strays": planned.strays,
        "truncated": planned.truncated,
    })
}

pub(super) async fn commit(files: &Files, wait: &Wait, global: &Global) -> Result<u8, Failure> {
    let deadline = duration(&wait.timeout)?;
    let (request, parts) = read(files).await?;
    let client = client(global)?;
    let reply = client.call(async |c| c.groups().commit(request.clone()).await).await;
    let reply = reply.map_err(|error| placed(error, &parts))?;
    print_committed(&reply, global)?;
    if wait.wait {
        for committed in &reply.committed {
            wait_for(&client, &committed.group, committed.revision, deadline).await?;
        }
    }
    Ok(0)
}

pub(super) fn print_committed(reply: &pb::CommitReply, global: &Global) -> Result<(), Failure> {
    let items: Vec<Value> = reply
        .committed
        .iter()
        .map(|it| {
            json!({
                "group": it.group,
                "revision": it.revision,
                "replaced": it.replaced,
                "unchanged": it.unchanged,
                "plan": it.plan,
                "waits": it.waits,
            })
        })
        .collect();
    if output::object(global.output, "Committed", json!({ "items": items }))? {
        return Ok(());
    }
    for it in &reply.committed {
        let replaced = match it.replaced {
            _ if it.unchanged => "unchanged".to_owned(),
            Some(before) => format!("committed revision {}, replacing {before}: {}", it.revision, it.plan),
            None => format!("committed revision {}: {}", it.revision, it.plan),
        };
        output::line(&format!("{}: {replaced}", it.group))?;
        if !it.waits.is_empty() {
            report::warn(&format!("{}: accepted, but waiting: {}", it.group, it.waits));
        }
    }
    Ok(())
}

/// Why waiting for this revision is without success: its rollout has stopped, or was taken back.
fn ended(name: &str, group: &pb::Group, revision: u64) -> Option<Failure> {
    let what = match group.phase.as_str() {
        _ if group.revision < revision => return None,
        "Paused" => "is paused",
        "Failed" => "has failed",
        "RollingBack" | "RolledBack" if group.revision > revision => "was taken back",
        _ => return None,
    };
    let cause = group.waits.first().map_or_else(|| group.summary.clone(), |first| first.message.clone());
    Some(
        Failure::new(format!("the rollout of `{name}` to revision {revision} {what}"))
            .cause(cause)
            .remedy(format!("`infrakit rollout status {name}` shows where it stands"))
            .exit(report::FAILED),
    )
}

/// Follows a group until it has converged at this revision or a later one.
pub(super) async fn wait_for(
    client: &Client,
    name: &str,
    revision: u64,
    deadline: Duration,
) -> Result<(), Failure> {
    let mut progress = Progress::new(name);
    let mut last = None;
    let follow = async {
        loop {
            let brief = || pb::GroupRequest { brief: true, ..about(name) };
            let mut stream = client.call(async |c| c.groups().watch(brief()).await).await?;
            while let Some(next) = stream.next().await {
                match next {
                    Ok(group) => {
                        progress.show(&group);
                        if group.state == "Paused" {
                            return Err(Failure::new(format!(
                                "group `{name}` is paused: nothing is done for it"
                            ))
                            .cause(group.summary)
                            .remedy(format!(
                                "`infrakit group resume {name}`; what was committed is stored"
                            )));
                        }
                        if let Some(ended) = ended(name, &group, revision) {
                            return Err(ended);
                        }
                        let there = group.converged && group.revision >= revision;
                        last = Some(group);
                        if there {
                            return Ok(());
                        }
                    }
                    // Retrying finds a new leader.
                    Err(status) => match api::Error::from(status) {
                        error if error.code == Code::Unavailable => break,
                        error => return Err(Failure::from(error)),
                    },
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = watching(name, async { Ok(tokio::time::timeout(deadline, follow).await) }).await;
    let waited = waited.map_err(|failure| match last.as_ref().and_then(|group| group.waits.first()) {
        Some(wait) => Failure { cause: format!("{}; it waits: {}", failure.cause, wait.message), ..failure },
        None => failure,
    })?;
    match waited {
        Ok(result) => {
            result?;
            progress.done(&last.map(|group| group.summary).unwrap_or_default());
            Ok(())
        }
        Err(_) => {
            let (summary, waits) = last.map(|group| (group.summary, group.waits)).unwrap_or_default();
            progress.done("has not converged");
            Err(Failure::new(format!("group `{name}` has not converged within {deadline:?}: {summary}"))
                .cause(waits.first().map(|first| first.message.clone()).unwrap_or_default())
                .remedy(format!(
                    "the managers continue; follow the group with `infrakit group describe {name} --watch`"
                ))
                .exit(report::DEADLINE))
        }
    }
}
