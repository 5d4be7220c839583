//! `infrakit rollout`: follow, steer and take back the updates of groups.

use api::proto as pb;
use clap::Subcommand;
use serde_json::{Value, json};

use super::group::{Wait, about, as_spec, finish_commit};
use super::{client, request_id};
use crate::global::{Format, Global};
use crate::output::{self, ago, rfc3339};
use crate::report::Failure;

#[derive(Subcommand)]
pub(crate) enum RolloutVerb {
    /// Show how far the update of a group is, and what it waits for
    Status {
        /// The name of the group
        name: String,
    },
    /// Replace no further member until it is resumed
    ///
    /// Members that fail are still replaced: `group pause` stops everything.
    Pause {
        /// The name of the group
        name: String,
    },
    /// Go on with a rollout that is paused or has failed
    ///
    /// New members that failed before are not counted any more, and get their time once more.
    Resume {
        /// The name of the group
        name: String,
    },
    /// Let all other members follow the canaries
    Promote {
        /// The name of the group
        name: String,
    },
    /// Take a rollout back: declare the template of the latest one that succeeded
    ///
    /// It becomes a revision of its own; the size and the rules of updates stay as they are.
    Abort {
        /// The name of the group
        name: String,
    },
    /// Declare the template of an earlier revision again
    ///
    /// It becomes a revision of its own; the size and the rules of updates stay as they are.
    Undo {
        /// The name of the group
        name: String,
        /// This revision [default: the latest that has another template]
        #[arg(long, value_name = "REVISION")]
        to_revision: Option<u64>,
        #[command(flatten)]
        wait: Wait,
    },
    /// List the revisions of a group that are kept, or print the spec of one
    History {
        /// The name of the group
        name: String,
        /// Print the spec of this revision, in the form that `commit` reads
        #[arg(long, value_name = "REVISION")]
        revision: Option<u64>,
    },
}

pub(crate) async fn run(verb: RolloutVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        RolloutVerb::Status { name } => status(&name, global).await,
        RolloutVerb::Pause { name } => {
            let about = about(&name);
            client(global)?.call(async |c| c.rollouts().pause(about.clone()).await).await?;
            done(global, &name, "its rollout is paused: no further member is replaced")
        }
        RolloutVerb::Resume { name } => {
            let about = about(&name);
            client(global)?.call(async |c| c.rollouts().resume(about.clone()).await).await?;
            done(global, &name, "its rollout goes on")
        }
        RolloutVerb::Promote { name } => {
            let about = about(&name);
            client(global)?.call(async |c| c.rollouts().promote(about.clone()).await).await?;
            done(global, &name, "its canaries are promoted: the others follow")
        }
        RolloutVerb::Abort { name } => {
            let about = about(&name);
            client(global)?.call(async |c| c.rollouts().abort(about.clone()).await).await?;
            done(global, &name, "its rollout is taken back; `infrakit rollout status` shows how far that is")
        }
        RolloutVerb::Undo { name, to_revision, wait } => {
            let request = pb::UndoRequest { request_id: request_id(), group: name, to_revision };
            let client = client(global)?;
            let reply = client.call(async |c| c.rollouts().undo(request.clone()).await).await?;
            finish_commit(&client, reply, &wait, global).await
        }
        RolloutVerb::History { name, revision } => history(name, revision, global).await,
    }
}

fn done(global: &Global, name: &str, what: &str) -> Result<u8, Failure> {
    output::done(global.output, &format!("{name}: {what}"))?;
    Ok(0)
}

async fn status(name: &str, global: &Global) -> Result<u8, Failure> {
    let it = client(global)?.call(async |c| c.rollouts().status(about(name)).await).await?;
    if output::object(global.output, "Rollout", as_json(&it))? {
        return Ok(0);
    }
    let why = if it.message.is_empty() { String::new() } else { format!(": {}", it.message) };
    let mut lines = vec![
        format!("{}: {}, {}{why}", it.group, it.phase, ago(it.since_ms)),
        format!(
            "updated {}/{}, ready {}/{}; revision {} with the template of revision {}, begun {}",
            it.updated,
            it.desired,
            it.ready,
            it.desired,
            it.revision,
            it.target_revision,
            ago(it.began_ms)
        ),
        format!(
            "may have {} above its size and {} away; {} of {} failures, then: {}",
            it.surge, it.unavailable, it.failed, it.failures_allowed, it.on_failure
        ),
    ];
    if let Some(revision) = it.goes_back_to {
        lines.push(format!(
            "`infrakit rollout abort {}` goes back to the template of revision {revision}",
            it.group
        ));
    }
    lines.extend(it.waits.iter().map(|wait| format!("waits: {}", wait.message)));
    output::block(&lines.join("\n"))?;
    Ok(0)
}

fn as_json(it: &pb::Rollout) -> Value {
    json!({
        "group": it.group,
        "phase": it.phase,
        "reason": it.reason,
        "message": it.message,
        "revision": it.revision,
        "targetRevision": it.target_revision,
        "began": rfc3339(it.began_ms),
        "since": rfc3339(it.since_ms),
        "progressed": rfc3339(it.progressed_ms),
        "progressDeadlineMs": it.progress_deadline_ms,
        "desired": it.desired,
        "updated": it.updated,
        "ready": it.ready,
        "failed": it.failed,
        "failuresAllowed": it.failures_allowed,
        "surge": it.surge,
        "unavailable": it.unavailable,
        "onFailure": it.on_failure,
        "goesBackTo": it.goes_back_to,
        "waits": it.waits.iter().map(super::group::wait_json).collect::<Vec<_>>(),
    })
}

async fn history(name: String, revision: Option<u64>, global: &Global) -> Result<u8, Failure> {
    let request = pb::HistoryRequest { group: name, revision };
    let reply = client(global)?.call(async |c| c.rollouts().history(request.clone()).await).await?;
    if revision.is_some() {
        let spec = reply.revisions.into_iter().next().and_then(|it| it.spec).unwrap_or_default();
        return as_spec(spec, global);
    }
    let items: Vec<Value> = reply
        .revisions
        .iter()
        .map(|it| {
            json!({
                "revision": it.revision,
                "at": rfc3339(it.at_ms),
                "by": it.by,
                "summary": it.summary,
                "configHash": it.config_hash,
                "stable": it.stable,
            })
        })
        .collect();
    if !output::object(global.output, "RevisionList", json!({ "items": items }))? {
        let wide = global.output == Format::Wide;
        let header = ["REVISION", "COMMITTED", "BY", "TEMPLATE", "", "SPEC"];
        let rows = reply.revisions.iter().map(|it| {
            let hash = if wide { &it.config_hash[..] } else { it.config_hash.get(..8).unwrap_or_default() };
            let mark = if it.stable { "rolled out" } else { "" };
            vec![
                it.revision.to_string(),
                ago(it.at_ms),
                it.by.clone(),
                hash.to_owned(),
                mark.to_owned(),
                it.summary.clone(),
            ]
        });
        output::table(global.output, &header, rows)?;
    }
    Ok(0)
}
