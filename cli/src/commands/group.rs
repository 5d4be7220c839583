//! `infrakit group`: declare, inspect and change groups.

use std::time::{Duration, Instant};

use api::{Client, Code, proto as pb};
use model::draft::{self, Draft, Spot};
use model::{RequestId, Revision};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::{client, confirm, duration, read_file};
use crate::args::{Files, Format, Global, GroupVerb, Wait};
use crate::output::{self, ago, from_now, rfc3339};
use crate::progress::Progress;
use crate::report::{self, Failure};

pub(crate) async fn run(verb: GroupVerb, global: &Global) -> Result<u8, Failure> {
    match verb {
        GroupVerb::Plan { files, detailed_exitcode } => plan(&files, detailed_exitcode, global).await,
        GroupVerb::Commit { files, pretend: true, .. } => plan(&files, false, global).await,
        GroupVerb::Commit { files, wait, .. } => commit(&files, &wait, global).await,
        GroupVerb::Ls => list(global).await,
        GroupVerb::Describe { name, watch } => describe(&name, watch, global).await,
        GroupVerb::Inspect { name } => inspect(&name, global).await,
        GroupVerb::Scale { name, size, wait } => scale(&name, size, &wait, global).await,
        GroupVerb::Pause { name } => pause(&name, global).await,
        GroupVerb::Resume { name } => resume(&name, global).await,
        GroupVerb::Resolve { name, slot, absent: _, instance } => {
            resolve(&name, slot, instance, global).await
        }
        GroupVerb::Free { name, yes } => free(&name, yes, global).await,
        GroupVerb::Destroy { name, yes, wait } => destroy(&name, yes, &wait, global).await,
    }
}

fn new_request() -> Vec<u8> {
    api::request_id_bytes(RequestId(rand::random()))
}

fn about(name: &str) -> pb::GroupRequest {
    pb::GroupRequest { request_id: new_request(), group: name.to_owned(), brief: false }
}

/// Where the instance and the flavor of each item of a request are: the file, and the spot in it.
type Parts = Vec<(String, [Spot; 2])>;

/// Reads every file; the problems of all files are reported together.
fn read(files: &Files) -> Result<(pb::CommitRequest, Parts), Failure> {
    let mut items = Vec::new();
    let mut places = Parts::new();
    let mut problems: Option<Failure> = None;
    for path in files.all() {
        let (name, bytes) = read_file(path)?;
        match draft::read(&name, &bytes) {
            Ok(Draft { specs, parts, warnings }) => {
                for warning in warnings.to_string().lines() {
                    report::warn(warning);
                }
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
                request_id: new_request(),
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

async fn plan(files: &Files, detailed: bool, global: &Global) -> Result<u8, Failure> {
    let (request, parts) = read(files)?;
    let reply = client(global)?.call(async |mut c| c.plan(request.clone()).await).await;
    let reply = reply.map_err(|error| placed(error, &parts))?;
    let changes = reply.planned.iter().any(|planned| planned.summary != "Noop");
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
    })
}

async fn commit(files: &Files, wait: &Wait, global: &Global) -> Result<u8, Failure> {
    let deadline = duration(&wait.timeout)?;
    let (request, parts) = read(files)?;
    let client = client(global)?;
    let reply = client.call(async |mut c| c.commit(request.clone()).await).await;
    let reply = reply.map_err(|error| placed(error, &parts))?;
    print_committed(&reply, global)?;
    if wait.wait {
        for committed in &reply.committed {
            wait_for(&client, &committed.group, committed.revision, deadline).await?;
        }
    }
    Ok(0)
}

fn print_committed(reply: &pb::CommitReply, global: &Global) -> Result<(), Failure> {
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

/// Follows a group until it has converged at this revision or a later one.
async fn wait_for(client: &Client, name: &str, revision: u64, deadline: Duration) -> Result<(), Failure> {
    let mut progress = Progress::new(name);
    let mut last = None;
    let follow = async {
        loop {
            let brief = || pb::GroupRequest { brief: true, ..about(name) };
            let mut stream = client.call(async |mut c| c.watch_group(brief()).await).await?;
            while let Some(next) = stream.next().await {
                match next {
                    Ok(group) => {
                        progress.show(&group);
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
    match tokio::time::timeout(deadline, follow).await {
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

fn group_json(group: &pb::Group, slots: bool) -> Value {
    let mut value = json!({
        "name": group.id,
        "revision": group.revision,
        "committedAt": rfc3339(group.committed_at_ms),
        "committedBy": group.committed_by,
        "lifecycle": group.lifecycle,
        "rollout": {"phase": group.phase, "targetRevision": group.target_revision, "configHash": group.config_hash},
        "plugins": {"instance": group.instance_plugin, "flavor": group.flavor_plugin},
        "desired": group.desired,
        "running": group.running,
        "ready": group.ready,
        "updated": group.updated,
        "converged": group.converged,
        "summary": group.summary,
        "state": group.state,
        "waits": group.waits.iter().map(wait_json).collect::<Vec<_>>(),
        "moreWaits": group.more_waits,
        "strays": group.strays,
        "conditions": group
            .conditions
            .iter()
            .map(|it| {
                json!({
                    "type": it.r#type,
                    "status": it.status,
                    "reason": it.reason,
                    "message": it.message,
                    "since": it.since_ms.map(rfc3339),
                })
            })
            .collect::<Vec<_>>(),
        "observedAt": group.observed_at_ms.map(rfc3339),
    });
    if slots {
        let slots: Vec<Value> = group
            .slots
            .iter()
            .map(|slot| {
                json!({
                    "slot": slot.slot,
                    "generation": slot.generation,
                    "instance": if slot.instance.is_empty() { Value::Null } else { json!(slot.instance) },
                    "state": slot.state,
                    "templateRevision": slot.template_revision,
                    "since": slot.since_ms.map(rfc3339),
                    "message": slot.message,
                    "incoming": slot.incoming,
                })
            })
            .collect();
        value["slots"] = json!(slots);
    }
    value
}

fn wait_json(wait: &pb::Wait) -> Value {
    json!({
        "reason": wait.reason,
        "message": wait.message,
        "until": wait.until_ms.map(rfc3339),
        "subject": if wait.subject.is_empty() { Value::Null } else { json!(wait.subject) },
    })
}

/// One row of a table of groups.
pub(super) fn row(group: &pb::Group) -> Vec<String> {
    vec![
        group.id.clone(),
        format!("{}/{}", group.ready, group.desired),
        format!("{}/{}", group.updated, group.desired),
        group.state.clone(),
        group.revision.to_string(),
        group.instance_plugin.clone(),
        group.flavor_plugin.clone(),
        ago(group.committed_at_ms),
    ]
}

pub(super) const HEADER: [&str; 8] =
    ["NAME", "READY", "UPDATED", "STATE", "REVISION", "INSTANCE", "FLAVOR", "COMMITTED"];

pub(super) fn brief_json(group: &pb::Group) -> Value {
    group_json(group, false)
}

async fn list(global: &Global) -> Result<u8, Failure> {
    let groups = client(global)?.call(async |mut c| c.list_groups(pb::ListRequest {}).await).await?.groups;
    let items: Vec<Value> = groups.iter().map(brief_json).collect();
    if !output::object(global.output, "GroupList", json!({ "items": items }))? {
        output::table(&HEADER, groups.iter().map(row))?;
    }
    Ok(0)
}

async fn describe(name: &str, watch: bool, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    if !watch {
        let group = client.call(async |mut c| c.describe_group(about(name)).await).await?;
        print(&group, global)?;
        return Ok(0);
    }
    loop {
        let mut stream = client.call(async |mut c| c.watch_group(about(name)).await).await?;
        while let Some(next) = stream.next().await {
            match next {
                Ok(group) => {
                    print(&group, global)?;
                    if global.output == Format::Table {
                        output::line("")?;
                    }
                }
                Err(status) => match api::Error::from(status) {
                    error if error.code == Code::Unavailable => break,
                    error => return Err(error.into()),
                },
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn print(group: &pb::Group, global: &Global) -> Result<(), Failure> {
    if output::object(global.output, "Group", group_json(group, true))? {
        return Ok(());
    }
    output::line(&format!("{}: {}", group.id, group.summary))?;
    output::line(&format!(
        "revision {} by {}, {}; {} with {}; template {}",
        group.revision,
        group.committed_by,
        ago(group.committed_at_ms),
        group.instance_plugin,
        group.flavor_plugin,
        group.config_hash
    ))?;
    for condition in group.conditions.iter().filter(|it| it.is_trouble()) {
        output::line(&format!(
            "condition {} ({}): {}",
            condition.r#type, condition.reason, condition.message
        ))?;
    }
    for wait in &group.waits {
        let until = wait.until_ms.and_then(from_now).map(|left| format!(" (in {left})")).unwrap_or_default();
        output::line(&format!("waits: {}{until}", wait.message))?;
    }
    if group.more_waits > 0 {
        output::line(&format!("waits: {} more like these", group.more_waits))?;
    }
    if !group.strays.is_empty() {
        output::line(&format!(
            "strays (they carry the group's tag, hold no slot and are not managed): {}",
            group.strays.join(", ")
        ))?;
    }
    let rows = group.slots.iter().map(|slot| {
        vec![
            slot.slot.clone(),
            if slot.instance.is_empty() { "-".to_owned() } else { slot.instance.clone() },
            if slot.incoming { format!("{} (incoming)", slot.state) } else { slot.state.clone() },
            slot.template_revision.to_string(),
            slot.generation.to_string(),
            slot.since_ms.map(ago).unwrap_or_default(),
            slot.message.clone(),
        ]
    });
    output::table(&["SLOT", "INSTANCE", "STATE", "TEMPLATE", "GENERATION", "SINCE", "MESSAGE"], rows)
}

/// The stored spec in the form that `commit` reads.
async fn inspect(name: &str, global: &Global) -> Result<u8, Failure> {
    let spec = client(global)?.call(async |mut c| c.inspect_group(about(name)).await).await?;
    let part = |part: Option<pb::Part>| -> Value {
        let part = part.unwrap_or_default();
        let properties: Value = serde_json::from_str(&part.properties).unwrap_or(Value::Null);
        json!({"Plugin": part.plugin, "Properties": properties})
    };
    let mut updating = json!({});
    if spec.updating_count > 0 {
        updating["Count"] = json!(spec.updating_count);
    }
    if spec.updating_duration_ms > 0 {
        updating["Duration"] = json!(model::Millis(spec.updating_duration_ms).to_string());
    }
    if spec.skip_drain {
        updating["SkipBeforeInstanceDestroy"] = json!("drain");
    }
    let allocation = match spec.size {
        Some(size) => json!({ "Size": size }),
        None => json!({ "LogicalIDs": spec.logical_ids }),
    };
    let value = json!({
        "kind": "group",
        "metadata": {"name": spec.id},
        "properties": {
            "Allocation": allocation,
            "Instance": part(spec.instance),
            "Flavor": part(spec.flavor),
            "Updating": updating,
        },
    });
    // The output is a spec that can be committed again, not a versioned object.
    match global.output {
        Format::Json => output::line(&format!("{value:#}"))?,
        Format::Table | Format::Yaml => {
            let yaml = serde_yaml_ng::to_string(&value).map_err(|error| {
                Failure::new("the output cannot be written as YAML").cause(error.to_string())
            })?;
            output::line(&format!("# revision {}\n{}", spec.revision, yaml.trim_end()))?;
        }
    }
    Ok(0)
}

async fn scale(name: &str, size: u32, wait: &Wait, global: &Global) -> Result<u8, Failure> {
    let deadline = duration(&wait.timeout)?;
    let client = client(global)?;
    let request =
        pb::ScaleRequest { request_id: new_request(), group: name.to_owned(), size, if_revision: None };
    let reply = client.call(async |mut c| c.scale(request.clone()).await).await?;
    print_committed(&reply, global)?;
    if wait.wait {
        for committed in &reply.committed {
            wait_for(&client, &committed.group, committed.revision, deadline).await?;
        }
    }
    Ok(0)
}

async fn resolve(name: &str, slot: String, instance: Option<String>, global: &Global) -> Result<u8, Failure> {
    let resolved = instance.clone().map_or_else(
        || format!("{name}: slot {slot} is empty and will be filled again"),
        |instance| format!("{name}: slot {slot} is held by {instance}"),
    );
    let request = pb::ResolveRequest { request_id: new_request(), group: name.to_owned(), slot, instance };
    client(global)?.call(async |mut c| c.resolve(request.clone()).await).await?;
    output::line(&resolved)?;
    Ok(0)
}

async fn pause(name: &str, global: &Global) -> Result<u8, Failure> {
    let request = about(name);
    client(global)?.call(async |mut c| c.pause_group(request.clone()).await).await?;
    output::line(&format!(
        "{name}: paused; no action of any kind is taken until `infrakit group resume {name}`"
    ))?;
    Ok(0)
}

async fn resume(name: &str, global: &Global) -> Result<u8, Failure> {
    let request = about(name);
    client(global)?.call(async |mut c| c.resume_group(request.clone()).await).await?;
    output::line(&format!("{name}: resumed"))?;
    Ok(0)
}

async fn free(name: &str, yes: bool, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    let group = client.call(async |mut c| c.describe_group(about(name)).await).await?;
    confirm(yes, &format!("This stops managing `{name}`; its {} instances remain", group.running), name)?;
    let request = about(name);
    client.call(async |mut c| c.free(request.clone()).await).await?;
    output::line(&format!("{name}: no longer managed; {} instances remain", group.running))?;
    Ok(0)
}

async fn destroy(name: &str, yes: bool, wait: &Wait, global: &Global) -> Result<u8, Failure> {
    let deadline = duration(&wait.timeout)?;
    let client = client(global)?;
    let group = client.call(async |mut c| c.describe_group(about(name)).await).await?;
    confirm(yes, &format!("This drains and destroys the {} instances of `{name}`", group.running), name)?;
    let request = about(name);
    client.call(async |mut c| c.destroy(request.clone()).await).await?;
    output::line(&format!("{name}: {} instances will be destroyed", group.running))?;
    if !wait.wait {
        return Ok(0);
    }
    let until = Instant::now() + deadline;
    loop {
        match client.call(async |mut c| c.describe_group(about(name)).await).await {
            Err(error) if error.code == Code::NotFound => {
                output::line(&format!("{name}: destroyed"))?;
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
            Ok(group) if Instant::now() > until => {
                return Err(Failure::new(format!("{} instances of `{name}` are still there", group.running))
                    .cause(group.waits.first().map(|first| first.message.clone()).unwrap_or_default())
                    .remedy("the managers continue to destroy them")
                    .exit(report::DEADLINE));
            }
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
