//! The checks of flavor plugins.

use model::tags::{self, Tags};
use model::{Allocation, Description, Opaque};

use super::Report;
use crate::client::Client;
use crate::interface;
use crate::interface::flavor::{Flavors, Index};
use crate::interface::instance::{Attachment, InstanceSpec, instance_spec_to_json};

/// Tests the flavor plugin at `subtype`, with these properties.
pub async fn flavors(client: &Client, subtype: &str, properties: &Opaque) -> Report {
    let mut report = Report::default();
    if report.open(client, "it serves Flavor/0.1.1", interface::FLAVOR, subtype).await.is_none() {
        return report;
    }
    let flavor = client.flavors(subtype);
    let allocation = Allocation::Size(2);
    let valid = flavor.validate(properties, &allocation).await.map_err(|error| error.message);
    report.note("Validate accepts the properties", valid);
    report
        .note("Prepare keeps what it does not change", prepare_keeps(&flavor, properties, &allocation).await);
    let instance = Description {
        id: "no-such-instance".into(),
        logical_id: None,
        tags: Tags::new(),
        properties: Some(Opaque::from_json("{}")),
        state: None,
    };
    let verdict = flavor.healthy(properties, &instance).await;
    let answered = verdict.map(|_| ()).map_err(|error| error.message);
    report.note("Healthy answers for any instance", answered);
    let drained = flavor.drain(properties, &instance).await.map_err(|error| error.message);
    report.note("Drain of an unknown instance succeeds", drained);
    report
}

async fn prepare_keeps<F: Flavors>(
    flavor: &F,
    properties: &Opaque,
    allocation: &Allocation,
) -> Result<(), String> {
    let spec = InstanceSpec {
        properties: Opaque::from_json(r#"{"big":12345678901234567890,"f":1.0e2}"#),
        tags: Tags::from([(tags::GROUP.into(), "g".into()), ("a".into(), "b".into())]),
        init: "echo base".into(),
        logical_id: Some("l".into()),
        attachments: vec![Attachment { id: "v".into(), kind: "volume".into() }],
    };
    let index = Index { group: "g".into(), sequence: 2 };
    let prepared = flavor
        .prepare(properties, spec.clone(), allocation, &index)
        .await
        .map_err(|error| format!("Prepare: {error}"))?;
    let lost = spec.tags.keys().find(|key| !prepared.tags.contains_key(*key));
    if let Some(lost) = lost {
        return Err(format!("the tag {lost} is missing"));
    }
    if prepared.properties != spec.properties || prepared.logical_id != spec.logical_id {
        return Err(format!("{} became {}", instance_spec_to_json(&spec), instance_spec_to_json(&prepared)));
    }
    if !prepared.init.contains("echo base") {
        return Err(format!("the base Init is missing: {:?}", prepared.init));
    }
    if prepared.attachments.iter().filter(|it| it.id == "v").count() != 1 {
        return Err("the attachment is missing or repeated".into());
    }
    Ok(())
}
