//! Converts values of the model to the messages of the public API and back. Messages are validated here.

use model::event::Event;
use model::spec::{Canary, Healing, HealthGate, OnFailure, SpecError};
use model::state::Lifecycle;
use model::status::{Condition, GroupStatus};
use model::{
    Allocation, GroupId, GroupSpec, LogicalId, Millis, Opaque, Part, PluginName, RequestId, Revision,
    Template, Updating, Wait,
};

use crate::error::{Code, Error};
use crate::proto as pb;

/// The bytes of a request id.
pub fn request_id_bytes(id: RequestId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

/// A request id from its bytes; a caller without one gets a new one, and cannot repeat its request.
pub fn request_id(bytes: &[u8]) -> Result<RequestId, Error> {
    if bytes.is_empty() {
        return Ok(RequestId(rand::random()));
    }
    let bytes: [u8; 16] =
        bytes.try_into().map_err(|_| Error::new(Code::Invalid, "the request id does not have 16 bytes"))?;
    Ok(RequestId(u128::from_be_bytes(bytes)))
}

/// A spec as a message; `revision` is 0 when it is not stored.
pub fn spec(spec: &GroupSpec, revision: Revision) -> pb::Spec {
    let part = |part: &Part| pb::Part {
        plugin: part.plugin.to_string(),
        properties: part.properties.as_json().to_owned(),
    };
    let (size, logical_ids) = match &spec.allocation {
        Allocation::Size(size) => (Some(*size), Vec::new()),
        Allocation::LogicalIds(ids) => (None, ids.iter().map(LogicalId::to_string).collect()),
    };
    let (updating_count, updating_duration_ms) = match spec.updating.gate {
        HealthGate::Once => (0, 0),
        HealthGate::Count(count) => (count, 0),
        HealthGate::Duration(span) => (0, span.0),
    };
    pb::Spec {
        id: spec.id.to_string(),
        size,
        logical_ids,
        instance: Some(part(&spec.template.instance)),
        flavor: Some(part(&spec.template.flavor)),
        updating_count,
        updating_duration_ms,
        skip_drain: spec.updating.skip_drain,
        revision: revision.0,
        absent_for_ms: spec.healing.absent_for.map(|it| it.0),
        start_stopped: spec.healing.start,
        boot_deadline_ms: spec.healing.boot_deadline.map(|it| it.0),
        max_surge: spec.updating.max_surge.map(|it| it.to_string()).unwrap_or_default(),
        max_unavailable: spec.updating.max_unavailable.map(|it| it.to_string()).unwrap_or_default(),
        healthy_deadline_ms: spec.updating.healthy_deadline.map(|it| it.0),
        progress_deadline_ms: spec.updating.progress_deadline.map(|it| it.0),
        max_failures: spec.updating.max_failures,
        monitor_ms: spec.updating.monitor.0,
        on_failure: match spec.updating.on_failure {
            OnFailure::Pause => String::new(),
            other => other.as_str().to_owned(),
        },
        canary: spec.updating.canary.map(|it| pb::Canary {
            count: it.count,
            bake_ms: it.bake.0,
            manual: it.manual,
        }),
    }
}

/// A spec from a message. The command line has checked it as it read the file; for other clients the
/// rules are enforced here.
pub fn spec_from(spec: Option<pb::Spec>) -> Result<GroupSpec, Error> {
    let wrong = |what: String| Error::new(Code::Invalid, what);
    let spec = spec.ok_or_else(|| wrong("the request has no spec".into()))?;
    let id = GroupId::check(&spec.id).map_err(|why| wrong(why.to_string()))?;
    let refused = |error: &SpecError| {
        let field = error.field();
        let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
        Error::new(Code::Invalid, format!("group `{}`: {field}{error}", spec.id)).remedy(error.remedy())
    };
    let first = |errors: Vec<SpecError>| refused(&errors[0]);
    let ids = spec.logical_ids.iter().map(LogicalId::new).collect();
    let allocation = Allocation::new(spec.size, ids).map_err(first)?;
    let part = |part: Option<pb::Part>, which: &str| {
        let part = part.ok_or_else(|| wrong(format!("group `{}` has no {which} plugin", spec.id)))?;
        let plugin = PluginName::check(&part.plugin).map_err(|why| wrong(why.to_string()))?;
        let json = if part.properties.is_empty() { "null" } else { &part.properties };
        if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
            let what = format!("the properties of the {which} are not valid JSON");
            return Err(wrong(format!("group `{}`: {what}", spec.id)));
        }
        Ok(Part { plugin, properties: Opaque::from_json(json) })
    };
    let gate = HealthGate::new(spec.updating_count, Millis(spec.updating_duration_ms))
        .map_err(|error| refused(&error))?;
    let (absent_for, boot_deadline) = (spec.absent_for_ms.map(Millis), spec.boot_deadline_ms.map(Millis));
    let healing = Healing::new(absent_for, spec.start_stopped, boot_deadline).map_err(first)?;
    let template = Template {
        instance: part(spec.instance.clone(), "instance")?,
        flavor: part(spec.flavor.clone(), "flavor")?,
    };
    let amount = |text: &str, field: &str| match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|why| wrong(format!("group `{}`: {field}: {why}", spec.id))),
    };
    let updating = Updating {
        gate,
        skip_drain: spec.skip_drain,
        max_surge: amount(&spec.max_surge, "MaxSurge")?,
        max_unavailable: amount(&spec.max_unavailable, "MaxUnavailable")?,
        healthy_deadline: spec.healthy_deadline_ms.map(Millis),
        progress_deadline: spec.progress_deadline_ms.map(Millis),
        max_failures: match spec.max_failures {
            Some(share) if share > 1000 => {
                return Err(wrong(format!("group `{}`: MaxFailureRatio: more than all", spec.id)));
            }
            share => share,
        },
        monitor: Millis(spec.monitor_ms),
        on_failure: match spec.on_failure.as_str() {
            "" => OnFailure::default(),
            name => OnFailure::ALL.into_iter().find(|it| it.as_str() == name).ok_or_else(|| {
                wrong(format!(
                    "group `{}`: OnFailure: `{name}` is none of Pause, Continue, Rollback",
                    spec.id
                ))
            })?,
        },
        canary: spec.canary.map(|it| Canary { count: it.count, bake: Millis(it.bake_ms), manual: it.manual }),
    };
    GroupSpec::new(id, allocation, template, updating, healing).map_err(first)
}

/// A group's status as a message.
pub fn group(status: &GroupStatus, template: &Template, with_slots: bool) -> pb::Group {
    let slot = |slot: &model::status::SlotStatus| pb::Slot {
        slot: slot.slot.to_string(),
        generation: slot.generation.0,
        instance: slot.instance.as_ref().map(|id| id.to_string()).unwrap_or_default(),
        state: slot.state.as_str().to_owned(),
        template_revision: slot.template.0,
        since_ms: slot.since.map(|at| at.0),
        message: slot.message.clone(),
        incoming: slot.incoming,
    };
    pb::Group {
        id: status.id.to_string(),
        revision: status.revision.0,
        committed_at_ms: status.committed_at.0,
        committed_by: status.committed_by.clone(),
        lifecycle: match status.lifecycle {
            Lifecycle::PendingValidation => "PendingValidation",
            Lifecycle::Managed => "Managed",
            Lifecycle::Destroying => "Destroying",
            Lifecycle::Releasing => "Releasing",
        }
        .to_owned(),
        phase: status.phase.to_string(),
        target_revision: status.target.0,
        config_hash: status.hash.clone(),
        desired: status.desired as u64,
        running: status.running as u64,
        ready: status.ready as u64,
        updated: status.updated as u64,
        converged: status.converged,
        summary: status.summary.clone(),
        slots: if with_slots { status.slots.iter().map(slot).collect() } else { Vec::new() },
        waits: status.waits.iter().map(wait).collect(),
        more_waits: status.more_waits as u64,
        state: status.state.as_str().to_owned(),
        strays: status.strays.iter().map(|id| id.to_string()).collect(),
        own_strays: status.own_strays.iter().map(|id| id.to_string()).collect(),
        observed_at_ms: status.observed_at.map(|at| at.0),
        instance_plugin: template.instance.plugin.to_string(),
        flavor_plugin: template.flavor.plugin.to_string(),
        conditions: status.conditions.iter().map(condition).collect(),
    }
}

fn wait(it: &Wait) -> pb::Wait {
    pb::Wait {
        reason: it.reason().to_owned(),
        message: it.to_string(),
        until_ms: it.until().map(|at| at.0),
        subject: it.subject(),
    }
}

fn condition(it: &Condition) -> pb::Condition {
    pb::Condition {
        r#type: it.kind.as_str().to_owned(),
        status: match it.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
        .to_owned(),
        reason: it.reason.code().to_owned(),
        message: it.reason.to_string(),
        since_ms: it.since.map(|at| at.0),
    }
}

impl pb::Condition {
    /// Whether it needs the attention of an operator.
    pub fn is_trouble(&self) -> bool {
        match self.r#type.as_str() {
            "UnexpectedInstance" | "Duplicated" | "Stalled" => true,
            "Healthy" => self.status == "False",
            _ => false,
        }
    }
}

/// An event as a message.
pub fn event(event: &Event) -> pb::Event {
    pb::Event {
        index: event.index.0,
        at_ms: event.at.0,
        group: event.group.as_ref().map(GroupId::to_string).unwrap_or_default(),
        by: event.by.clone(),
        kind: event.kind.as_str().to_owned(),
        message: event.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::spec::Amount;

    #[test]
    fn a_spec_comes_back_as_it_was_and_a_wrong_one_is_refused() {
        let part =
            |plugin: &str| Part { plugin: plugin.into(), properties: Opaque::from_json("{\"a\":1.0}") };
        for allocation in [Allocation::Size(3), Allocation::LogicalIds(vec!["a".into(), "b".into()])] {
            for gate in [HealthGate::Once, HealthGate::Count(2), HealthGate::Duration(Millis(5))] {
                let whole = GroupSpec {
                    id: "web".into(),
                    allocation: allocation.clone(),
                    template: Template { instance: part("file"), flavor: part("vanilla") },
                    updating: Updating {
                        gate,
                        skip_drain: true,
                        max_surge: matches!(allocation, Allocation::Size(_)).then_some(Amount::Percent(25)),
                        max_unavailable: Some(Amount::Members(2)),
                        healthy_deadline: Some(Millis::seconds(2)),
                        progress_deadline: Some(Millis::seconds(3)),
                        max_failures: Some(100),
                        monitor: Millis::seconds(4),
                        on_failure: OnFailure::Rollback,
                        canary: Some(Canary { count: 1, bake: Millis::seconds(5), manual: true }),
                    },
                    healing: Healing {
                        absent_for: Some(Millis(1)),
                        start: true,
                        boot_deadline: Some(Millis(2000)),
                    },
                };
                assert_eq!(spec_from(Some(spec(&whole, Revision(3)))), Ok(whole));
            }
        }
        let good = || pb::Spec {
            id: "web".into(),
            size: Some(1),
            instance: Some(pb::Part { plugin: "file".into(), properties: String::new() }),
            flavor: Some(pb::Part { plugin: "vanilla".into(), properties: "{}".into() }),
            ..pb::Spec::default()
        };
        assert!(spec_from(Some(good())).is_ok());
        for bad in [
            pb::Spec { id: "a/b".into(), ..good() },
            pb::Spec { size: None, ..good() },
            pb::Spec { logical_ids: vec!["a".into()], ..good() },
            pb::Spec { size: None, logical_ids: vec!["a".into(), "a".into()], ..good() },
            pb::Spec { size: Some(u32::MAX), ..good() },
            pb::Spec { instance: None, ..good() },
            pb::Spec { flavor: Some(pb::Part { plugin: String::new(), ..Default::default() }), ..good() },
            pb::Spec { flavor: Some(pb::Part { plugin: "f".into(), properties: "{".into() }), ..good() },
            pb::Spec { updating_count: 1, updating_duration_ms: 1, ..good() },
            pb::Spec { max_surge: "x".into(), ..good() },
            pb::Spec { max_surge: "0".into(), max_unavailable: "0%".into(), ..good() },
            pb::Spec { max_failures: Some(1001), ..good() },
            pb::Spec { on_failure: "Explode".into(), ..good() },
            pb::Spec { canary: Some(pb::Canary::default()), ..good() },
        ] {
            assert_eq!(spec_from(Some(bad)).expect_err("it is wrong").code, Code::Invalid);
        }
    }
}
