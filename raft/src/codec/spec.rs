//! Specs and what they are made of, to protobuf and back.

use model::spec::{Amount, Canary, Healing, HealthGate, OnFailure};
use model::{Allocation, GroupSpec, LogicalId, Millis, ObjectKey, Opaque, Part, Spec, Template, Updating};

use super::Corrupt;
use crate::proto as pb;

/// A kind of object that a newer program knows: to skip it would be to diverge.
pub(super) fn unknown_kind() -> Corrupt {
    Corrupt("it is about an object of a kind that this program does not know: use the newer program".into())
}

pub(super) fn key(key: &ObjectKey) -> pb::Key {
    let object = match key.kind {
        model::ids::ObjectKind::Group => pb::key::Object::Group(key.name.to_string()),
    };
    pb::Key { object: Some(object) }
}

pub(super) fn from_key(key: Option<pb::Key>) -> Result<ObjectKey, Corrupt> {
    let key = key.ok_or_else(|| Corrupt::missing("key"))?;
    match key.object.ok_or_else(unknown_kind)? {
        pb::key::Object::Group(name) => Ok(ObjectKey::group(&name.into())),
    }
}

pub(super) fn object(spec_of: &Spec) -> pb::commit_item::Spec {
    match spec_of {
        Spec::Group(it) => pb::commit_item::Spec::Group(spec(it)),
    }
}

pub(super) fn from_object(read: Option<pb::commit_item::Spec>) -> Result<Spec, Corrupt> {
    match read.ok_or_else(unknown_kind)? {
        pb::commit_item::Spec::Group(it) => Ok(Spec::Group(from_spec(Some(it))?)),
    }
}

fn part(part: &Part) -> pb::Part {
    pb::Part { plugin: part.plugin.to_string(), properties: part.properties.as_json().to_owned() }
}

fn from_part(part: Option<pb::Part>) -> Result<Part, Corrupt> {
    let part = part.ok_or_else(|| Corrupt::missing("part"))?;
    Ok(Part { plugin: part.plugin.into(), properties: Opaque::from_json(part.properties) })
}

pub(super) fn template(template: &Template) -> pb::Template {
    pb::Template { instance: Some(part(&template.instance)), flavor: Some(part(&template.flavor)) }
}

pub(super) fn from_template(template: Option<pb::Template>) -> Result<Template, Corrupt> {
    let template = template.ok_or_else(|| Corrupt::missing("template"))?;
    Ok(Template { instance: from_part(template.instance)?, flavor: from_part(template.flavor)? })
}

pub(super) fn spec(spec: &GroupSpec) -> pb::GroupSpec {
    pb::GroupSpec {
        id: spec.id.to_string(),
        allocation: Some(match &spec.allocation {
            Allocation::Size(size) => pb::group_spec::Allocation::Size(*size),
            Allocation::LogicalIds(ids) => pb::group_spec::Allocation::LogicalIds(pb::LogicalIds {
                ids: ids.iter().map(LogicalId::to_string).collect(),
            }),
        }),
        template: Some(template(&spec.template)),
        gate: match spec.updating.gate {
            HealthGate::Once => None,
            HealthGate::Count(count) => Some(pb::group_spec::Gate::Count(count)),
            HealthGate::Duration(span) => Some(pb::group_spec::Gate::DurationMs(span.0)),
        },
        skip_drain: spec.updating.skip_drain,
        absent_for_ms: spec.healing.absent_for.map(|it| it.0),
        start: spec.healing.start,
        boot_deadline_ms: spec.healing.boot_deadline.map(|it| it.0),
        updating: updating(&spec.updating),
    }
}

/// What is beside gate and drain; none when it says nothing, as older programs write it.
fn updating(it: &Updating) -> Option<pb::Updating> {
    let amount = |it: Amount| pb::Amount {
        amount: Some(match it {
            Amount::Members(members) => pb::amount::Amount::Members(members),
            Amount::Percent(share) => pb::amount::Amount::Percent(share),
        }),
    };
    let written = pb::Updating {
        max_surge: it.max_surge.map(amount),
        max_unavailable: it.max_unavailable.map(amount),
        healthy_deadline_ms: it.healthy_deadline.map(|it| it.0),
        progress_deadline_ms: it.progress_deadline.map(|it| it.0),
        max_failures: it.max_failures,
        monitor_ms: it.monitor.0,
        on_failure: match it.on_failure {
            OnFailure::Pause => pb::updating::OnFailure::Pause,
            OnFailure::Continue => pb::updating::OnFailure::Continue,
            OnFailure::Rollback => pb::updating::OnFailure::Rollback,
        }
        .into(),
        canary: it.canary.map(|it| pb::Canary { count: it.count, bake_ms: it.bake.0, manual: it.manual }),
    };
    (written != pb::Updating::default()).then_some(written)
}

fn from_updating(
    read: Option<pb::Updating>,
    gate: HealthGate,
    skip_drain: bool,
) -> Result<Updating, Corrupt> {
    let read = read.unwrap_or_default();
    let on_failure = match read.on_failure() {
        pb::updating::OnFailure::Pause => OnFailure::Pause,
        pb::updating::OnFailure::Continue => OnFailure::Continue,
        pb::updating::OnFailure::Rollback => OnFailure::Rollback,
    };
    let amount = |it: pb::Amount| match it.amount {
        Some(pb::amount::Amount::Members(members)) => Ok(Amount::Members(members)),
        Some(pb::amount::Amount::Percent(share)) => Ok(Amount::Percent(share)),
        None => Err(Corrupt::missing("amount")),
    };
    Ok(Updating {
        gate,
        skip_drain,
        max_surge: read.max_surge.map(amount).transpose()?,
        max_unavailable: read.max_unavailable.map(amount).transpose()?,
        healthy_deadline: read.healthy_deadline_ms.map(Millis),
        progress_deadline: read.progress_deadline_ms.map(Millis),
        max_failures: read.max_failures,
        monitor: Millis(read.monitor_ms),
        on_failure,
        canary: read.canary.map(|it| Canary { count: it.count, bake: Millis(it.bake_ms), manual: it.manual }),
    })
}

pub(super) fn from_spec(spec: Option<pb::GroupSpec>) -> Result<GroupSpec, Corrupt> {
    let spec = spec.ok_or_else(|| Corrupt::missing("spec"))?;
    Ok(GroupSpec {
        id: spec.id.into(),
        allocation: match spec.allocation.ok_or_else(|| Corrupt::missing("allocation"))? {
            pb::group_spec::Allocation::Size(size) => Allocation::Size(size),
            pb::group_spec::Allocation::LogicalIds(ids) => {
                Allocation::LogicalIds(ids.ids.into_iter().map(LogicalId::from).collect())
            }
        },
        template: from_template(spec.template)?,
        updating: {
            let gate = match spec.gate {
                None => HealthGate::Once,
                Some(pb::group_spec::Gate::Count(count)) => HealthGate::Count(count),
                Some(pb::group_spec::Gate::DurationMs(ms)) => HealthGate::Duration(Millis(ms)),
            };
            from_updating(spec.updating, gate, spec.skip_drain)?
        },
        healing: Healing {
            absent_for: spec.absent_for_ms.map(Millis),
            start: spec.start,
            boot_deadline: spec.boot_deadline_ms.map(Millis),
        },
    })
}
