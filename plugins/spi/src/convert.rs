//! Conversions between wire messages and the model.

use model::spec::GroupSpec;
use model::{Allocation, Description, Health, LogicalId, Opaque};
use serde_json::value::RawValue;

use crate::contract::{Attachment, InstanceSpec};
use crate::error::Error;
use crate::{listing, state, wire};

pub(crate) fn any(opaque: &Opaque) -> wire::Any {
    if opaque.is_null() {
        return None;
    }
    // `Opaque` was one JSON value when it was made; if it is not, null is the honest reading.
    RawValue::from_string(opaque.as_json().to_owned()).ok()
}

pub(crate) fn opaque(any: wire::Any) -> Opaque {
    any.map_or_else(Opaque::null, |raw| Opaque::from_json(raw.get()))
}

pub(crate) fn spec(spec: &InstanceSpec) -> wire::Spec {
    wire::Spec {
        properties: any(&spec.properties),
        tags: Some(spec.tags.clone()),
        init: spec.init.clone(),
        logical_id: spec.logical_id.as_ref().map(LogicalId::to_string),
        attachments: (!spec.attachments.is_empty()).then(|| {
            spec.attachments
                .iter()
                .map(|it| wire::Attached { id: it.id.clone(), kind: it.kind.clone() })
                .collect()
        }),
    }
}

pub(crate) fn from_spec(spec: wire::Spec) -> InstanceSpec {
    InstanceSpec {
        properties: opaque(spec.properties),
        tags: spec.tags.unwrap_or_default(),
        init: spec.init,
        logical_id: spec.logical_id.map(LogicalId::from),
        attachments: spec
            .attachments
            .unwrap_or_default()
            .into_iter()
            .map(|it| Attachment { id: it.id, kind: it.kind })
            .collect(),
    }
}

pub(crate) fn described(description: &Description) -> wire::Described {
    wire::Described {
        id: description.id.to_string(),
        logical_id: description.logical_id.as_ref().map(LogicalId::to_string),
        tags: Some(description.tags.clone()),
        properties: description.properties.as_ref().and_then(any),
        state: state::write(description),
    }
}

pub(crate) fn from_described(described: wire::Described) -> Description {
    let state = state::reported(described.state.as_deref(), described.properties.as_deref());
    Description {
        id: described.id.into(),
        logical_id: described.logical_id.filter(|id| !id.is_empty()).map(LogicalId::from),
        tags: described.tags.unwrap_or_default(),
        properties: described.properties.map(|raw| Opaque::from_json(raw.get())),
        state,
    }
}

pub(crate) fn allocation(allocation: &Allocation) -> wire::AllocationMethod {
    match allocation {
        Allocation::Size(size) => wire::AllocationMethod { size: *size, logical_ids: None },
        Allocation::LogicalIds(ids) => wire::AllocationMethod {
            size: 0,
            logical_ids: Some(ids.iter().map(LogicalId::to_string).collect()),
        },
    }
}

pub(crate) fn from_allocation(allocation: wire::AllocationMethod) -> Allocation {
    match allocation.logical_ids {
        Some(ids) if !ids.is_empty() => {
            Allocation::LogicalIds(ids.into_iter().map(LogicalId::from).collect())
        }
        Some(_) | None => Allocation::Size(allocation.size.min(GroupSpec::MOST_MEMBERS)),
    }
}

pub(crate) fn health(health: Health) -> i64 {
    match health {
        Health::Unknown => 0,
        Health::Healthy => 1,
        Health::Unhealthy => 2,
    }
}

pub(crate) fn from_health(number: i64) -> Health {
    match number {
        1 => Health::Healthy,
        2 => Health::Unhealthy,
        _ => Health::Unknown,
    }
}

/// Parses an `instance.Spec` from JSON, for commands that pass a file to a plugin.
pub fn instance_spec_from_json(json: &str) -> Result<InstanceSpec, Error> {
    let read: wire::Spec = serde_json::from_str(json)
        .map_err(|error| Error::invalid(format!("not a valid instance spec: {error}")))?;
    Ok(from_spec(read))
}

/// Writes the description of an instance as JSON.
pub fn description_to_json(it: &Description) -> String {
    serde_json::to_string(&described(it)).expect("a description holds strings and valid JSON only")
}

/// Reads the descriptions of a listing, each with the tolerance of a client. One without a usable id is an error.
pub fn descriptions_from_json(items: &[String]) -> Result<Vec<Description>, Error> {
    let items: Result<Vec<_>, _> = items.iter().map(|item| RawValue::from_string(item.clone())).collect();
    let listed = listing::read(&items.map_err(Error::internal)?);
    match listed.without_id.into_iter().next() {
        Some(why) => Err(Error::internal(format!("an instance is listed without a usable id: {why}"))),
        None => Ok(listed.known),
    }
}

/// Writes an `instance.Spec` as JSON.
pub fn instance_spec_to_json(it: &InstanceSpec) -> String {
    serde_json::to_string(&spec(it)).expect("an instance spec holds strings and valid JSON only")
}
