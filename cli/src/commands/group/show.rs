//! Groups as they are shown: tables, objects, and the stored spec.

use std::time::Duration;

use api::{Code, proto as pb};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::request::about;
use crate::commands::client;
use crate::global::{Format, Global};
use crate::output::{self, ago, from_now, rfc3339};
use crate::report::Failure;

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
        "ownStrays": group.own_strays,
        "conditions": group.conditions.iter().map(output::condition_json).collect::<Vec<_>>(),
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

/// How many seconds old observations are before their age is shown: a plugin at rest is listed every ten.
const OLD: i64 = 30;

/// `3m ago`, when the observations of a group are old: its plugins cannot be listed.
fn age(group: &pb::Group) -> Option<String> {
    output::ago_if_longer(group.observed_at_ms?, OLD)
}

/// One row of a table of groups.
pub(crate) fn row(group: &pb::Group) -> Vec<String> {
    vec![
        group.id.clone(),
        match age(group) {
            None => format!("{}/{}", group.ready, group.desired),
            Some(age) => format!("{}/{} ({age})", group.ready, group.desired),
        },
        format!("{}/{}", group.updated, group.desired),
        group.state.clone(),
        group.revision.to_string(),
        group.instance_plugin.clone(),
        group.flavor_plugin.clone(),
        ago(group.committed_at_ms),
    ]
}

pub(crate) const HEADER: [&str; 8] =
    ["NAME", "READY", "UPDATED", "STATE", "REVISION", "INSTANCE", "FLAVOR", "COMMITTED"];

pub(crate) fn brief_json(group: &pb::Group) -> Value {
    group_json(group, false)
}

pub(super) async fn list(global: &Global) -> Result<u8, Failure> {
    let groups = client(global)?.call(async |c| c.groups().list(pb::ListRequest {}).await).await?.groups;
    let items: Vec<Value> = groups.iter().map(brief_json).collect();
    if !output::object(global.output, "GroupList", json!({ "items": items }))? {
        output::table(&HEADER, groups.iter().map(row))?;
    }
    Ok(0)
}

pub(super) async fn describe(name: &str, watch: bool, global: &Global) -> Result<u8, Failure> {
    let client = client(global)?;
    if !watch {
        let group = client.call(async |c| c.groups().describe(about(name)).await).await?;
        print(&group, global)?;
        return Ok(0);
    }
    loop {
        let mut stream = client.call(async |c| c.groups().watch(about(name)).await).await?;
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
    if let Some(age) = age(group) {
        output::line(&format!("observed {age}: what follows may have changed since"))?;
    }
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
        let strays: Vec<String> = group
            .strays
            .iter()
            .map(|it| {
                let own = group.own_strays.contains(it);
                if own { it.clone() } else { format!("{it} (not made by this cluster)") }
            })
            .collect();
        output::line(&format!(
            "strays (they carry the group's tag, hold no slot and are not managed): {}",
            strays.join(", ")
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
pub(super) async fn inspect(name: &str, global: &Global) -> Result<u8, Failure> {
    let spec = client(global)?.call(async |c| c.groups().inspect(about(name)).await).await?;
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
    let mut healing = json!({});
    if let Some(ms) = spec.absent_for_ms {
        healing["AbsentFor"] = json!(model::Millis(ms).to_string());
    }
    if spec.start_stopped {
        healing["Start"] = json!(true);
    }
    if let Some(ms) = spec.boot_deadline_ms {
        healing["BootDeadline"] = json!(model::Millis(ms).to_string());
    }
    let allocation = match spec.size {
        Some(size) => json!({ "Size": size }),
        None => json!({ "LogicalIDs": spec.logical_ids }),
    };
    let mut value = json!({
        "kind": "group",
        "metadata": {"name": spec.id},
        "properties": {
            "Allocation": allocation,
            "Instance": part(spec.instance),
            "Flavor": part(spec.flavor),
            "Updating": updating,
        },
    });
    // Programs that know no healing read what has none.
    if healing != json!({}) {
        value["properties"]["Healing"] = healing;
    }
    // The output is a spec that can be committed again, not a versioned object.
    match global.output {
        Format::Json => output::block(&format!("{value:#}"))?,
        Format::Table | Format::Yaml => {
            let yaml = serde_yaml_ng::to_string(&value).map_err(|error| {
                Failure::new("the output cannot be written as YAML").cause(error.to_string())
            })?;
            output::block(&format!("# revision {}\n{}", spec.revision, yaml.trim_end()))?;
        }
    }
    Ok(0)
}
