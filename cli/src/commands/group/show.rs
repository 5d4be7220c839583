//! Groups as they are shown: tables, objects, and the stored spec.

use std::time::Duration;

use api::{Code, proto as pb};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::request::about;
use crate::commands::client;
use crate::escape;
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
        let slots: Vec<Value> = in_order(&group.slots)
            .into_iter()
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

/// By name, with the numbers in it as numbers: `db-2` comes before `db-10`.
fn in_order(slots: &[pb::Slot]) -> Vec<&pb::Slot> {
    let mut all: Vec<&pb::Slot> = slots.iter().collect();
    all.sort_by_cached_key(|slot| (natural(&slot.slot), slot.incoming));
    all
}

/// The text in pieces, each with the number that follows it.
fn natural(text: &str) -> Vec<(String, u64)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(number);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (digits, after) = after.split_at(end);
        // One that is too large for a number is compared as text.
        let value = digits.parse();
        pieces.push((
            if value.is_err() { format!("{word}{digits}") } else { word.to_owned() },
            value.unwrap_or_default(),
        ));
        rest = after;
    }
    pieces
}

pub(crate) fn wait_json(wait: &pb::Wait) -> Value {
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

/// One row of a table of groups: what fits on a narrow terminal, or all.
pub(crate) fn row(group: &pb::Group, format: Format) -> Vec<String> {
    let mut row = vec![
        group.id.clone(),
        match age(group) {
            None => format!("{}/{}", group.ready, group.desired),
            Some(age) => format!("{}/{} ({age})", group.ready, group.desired),
        },
        format!("{}/{}", group.updated, group.desired),
        group.state.clone(),
        group.revision.to_string(),
        ago(group.committed_at_ms),
    ];
    if format == Format::Wide {
        row.extend([group.instance_plugin.clone(), group.flavor_plugin.clone(), group.committed_by.clone()]);
    }
    row
}

/// The columns of the rows.
pub(crate) fn header(format: Format) -> &'static [&'static str] {
    let all = &["NAME", "READY", "UPDATED", "STATE", "REVISION", "COMMITTED", "INSTANCE", "FLAVOR", "BY"];
    if format == Format::Wide { all } else { &all[..6] }
}

pub(crate) fn brief_json(group: &pb::Group) -> Value {
    group_json(group, false)
}

pub(super) async fn list(global: &Global) -> Result<u8, Failure> {
    let groups = client(global)?.call(async |c| c.groups().list(pb::ListRequest {}).await).await?.groups;
    let items: Vec<Value> = groups.iter().map(brief_json).collect();
    if !output::object(global.output, "GroupList", json!({ "items": items }))? {
        let rows = groups.iter().map(|group| row(group, global.output));
        output::table(global.output, header(global.output), rows)?;
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
                    if !output::object(global.output, "Group", group_json(&group, true))? {
                        output::redraw(&text(&group, global.output))?;
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
    if global.output == Format::Name {
        return output::line(&group.id);
    }
    output::block(&text(group, global.output))
}

/// The group, its conditions and waits, and its slots: one line each.
fn text(group: &pb::Group, format: Format) -> String {
    let slots = in_order(&group.slots);
    let mut lines = vec![format!("{}: {}", group.id, group.summary)];
    lines.push(format!(
        "revision {} by {}, {}; {} with {}; template {}",
        group.revision,
        group.committed_by,
        ago(group.committed_at_ms),
        group.instance_plugin,
        group.flavor_plugin,
        group.config_hash
    ));
    if let Some(age) = age(group) {
        lines.push(format!("observed {age}: what follows may have changed since"));
    }
    for condition in group.conditions.iter().filter(|it| it.is_trouble()) {
        lines.push(format!("condition {} ({}): {}", condition.r#type, condition.reason, condition.message));
    }
    for wait in &group.waits {
        let until = wait.until_ms.and_then(from_now).map(|left| format!(" (in {left})")).unwrap_or_default();
        lines.push(format!("waits: {}{until}", wait.message));
    }
    if group.more_waits > 0 {
        lines.push(format!("waits: {} more like these", group.more_waits));
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
        lines.push(format!(
            "strays (they carry the group's tag, hold no slot and are not managed): {}",
            strays.join(", ")
        ));
    }
    let rows = slots.iter().map(|slot| {
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
    let lines: Vec<String> = lines.iter().map(|line| escape::line(line)).collect();
    let table = output::rows_of(
        format,
        &["SLOT", "INSTANCE", "STATE", "TEMPLATE", "GENERATION", "SINCE", "MESSAGE"],
        rows,
    );
    format!("{}\n{table}", lines.join("\n"))
}

/// The stored spec in the form that `commit` reads.
pub(super) async fn inspect(name: &str, global: &Global) -> Result<u8, Failure> {
    let spec = client(global)?.call(async |c| c.groups().inspect(about(name)).await).await?;
    as_spec(spec, global)
}

/// Prints a spec in the form that `commit` reads.
pub(crate) fn as_spec(spec: pb::Spec, global: &Global) -> Result<u8, Failure> {
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
    for (name, amount) in [("MaxSurge", &spec.max_surge), ("MaxUnavailable", &spec.max_unavailable)] {
        if !amount.is_empty() {
            updating[name] = amount.parse::<u32>().map_or_else(|_| json!(amount), |members| json!(members));
        }
    }
    let mut time = |name: &str, ms: Option<u64>| {
        if let Some(ms) = ms {
            updating[name] = json!(model::Millis(ms).to_string());
        }
    };
    time("HealthyDeadline", spec.healthy_deadline_ms);
    time("ProgressDeadline", spec.progress_deadline_ms);
    time("Monitor", Some(spec.monitor_ms).filter(|ms| *ms > 0));
    if let Some(share) = spec.max_failures {
        updating["MaxFailureRatio"] = json!(f64::from(share) / 1000.0);
    }
    if !spec.on_failure.is_empty() {
        updating["OnFailure"] = json!(spec.on_failure);
    }
    if let Some(canary) = &spec.canary {
        let promote = if canary.manual { "Manual" } else { "Auto" };
        let bake = model::Millis(canary.bake_ms).to_string();
        updating["Canary"] = json!({"Count": canary.count, "Bake": bake, "Promote": promote});
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
        Format::Table | Format::Wide | Format::Name | Format::Yaml => {
            let yaml = crate::yaml::write(&value);
            output::block(&format!("# revision {}\n{}", spec.revision, yaml.trim_end()))?;
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_in_the_order_of_their_numbers() {
        let slot = |name: &str| pb::Slot { slot: name.into(), ..pb::Slot::default() };
        let order = |names: &[&str]| {
            let slots: Vec<pb::Slot> = names.iter().map(|name| slot(name)).collect();
            in_order(&slots).iter().map(|slot| slot.slot.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order(&["10", "9", "0", "1"]), "0 1 9 10");
        assert_eq!(
            order(&["db-10", "db-2", "db", "app-3", "db-2-b", "db-2-a"]),
            "app-3 db db-2 db-2-a db-2-b db-10"
        );
        let huge = "99999999999999999999999";
        assert_eq!(order(&[huge, "1"]), format!("1 {huge}"));
    }

    #[test]
    fn a_table_of_groups_fits_a_narrow_terminal() {
        let group = pb::Group {
            id: "sixteen-letters-".into(),
            state: "PendingValidation".into(),
            ready: 1000,
            desired: 1000,
            updated: 1000,
            revision: 123,
            ..pb::Group::default()
        };
        let table = output::aligned(header(Format::Table), [row(&group, Format::Table)]);
        assert!(table.lines().all(|line| line.len() <= 80), "{table}");
        assert_eq!(row(&group, Format::Table).len(), header(Format::Table).len());
        assert_eq!(row(&group, Format::Wide).len(), header(Format::Wide).len());
    }
}
