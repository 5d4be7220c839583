//! What goes into a program, and what comes out of it.

use model::{Allocation, Description, InstanceId, LogicalId, Opaque};
use serde_json::{Map, Value, json};
use spi::{Error, Index, InstanceSpec};

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

/// What a flavor is asked about a group, and about a member that is to be created.
pub(crate) fn about_group(
    properties: &Opaque,
    allocation: &Allocation,
    member: Option<(&InstanceSpec, &Index)>,
) -> String {
    let mut about = json!({ "Properties": value(properties.as_json()) });
    match allocation {
        Allocation::Size(size) => about["Size"] = json!(size),
        Allocation::LogicalIds(ids) => {
            about["LogicalIDs"] = ids.iter().map(LogicalId::to_string).collect::<Vec<_>>().into();
        }
    }
    if let Some((spec, index)) = member {
        about["Spec"] = value(&spi::instance_spec_to_json(spec));
        about["Group"] = json!(index.group.to_string());
    }
    about.to_string()
}

/// What a flavor is asked about an instance.
pub(crate) fn about_instance(properties: &Opaque, instance: &Description) -> String {
    let instance = value(&spi::description_to_json(instance));
    json!({ "Properties": value(properties.as_json()), "Instance": instance }).to_string()
}

/// The id that `provision` says: alone in its last line, so that a program may chat before, or as `{"ID": …}`.
pub(crate) fn id(output: &str) -> Result<InstanceId, Error> {
    let last = output.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let said = match serde_json::from_str::<Value>(output.trim()) {
        Ok(Value::Object(said)) => said.get("ID").and_then(Value::as_str).unwrap_or_default().to_owned(),
        Ok(Value::String(said)) => said,
        Ok(_) | Err(_) => last.to_owned(),
    };
    if said.is_empty() || said.len() > spi::LONGEST_ID || said.chars().any(char::is_control) {
        let why = format!("the program says no id of at most {} bytes: {said:.80}", spi::LONGEST_ID);
        return Err(Error::unsure(why));
    }
    Ok(InstanceId::new(said))
}

/// The descriptions that `describe` says: JSON objects and lists of such, one after another. One that cannot be read is
/// an error, because what is not listed is taken to be gone.
pub(crate) fn descriptions(output: &str) -> Result<Vec<Description>, Error> {
    let mut all = Vec::new();
    for item in serde_json::Deserializer::from_str(output).into_iter::<Value>() {
        match item.map_err(|error| Error::internal(format!("it lists what is not JSON: {error}")))? {
            Value::Array(items) => all.extend(items),
            item => all.push(item),
        }
    }
    let whole = |item| match item {
        Value::Object(item) => whole(item),
        other => other,
    };
    let all: Vec<String> = all.into_iter().map(|item| whole(item).to_string()).collect();
    spi::descriptions_from_json(&all)
}

/// A description that may have the spec and the labels in the form in which the program got them.
fn whole(mut item: Map<String, Value>) -> Value {
    let (spec, labels) = (item.remove("Spec"), item.remove("Labels"));
    if let Some(Value::Object(spec)) = spec {
        for (key, value) in
            spec.into_iter().filter(|(key, _)| ["LogicalID", "Tags", "Properties"].contains(&&**key))
        {
            item.entry(key).or_insert(value);
        }
    }
    let labels = match labels {
        Some(Value::Array(labels)) => labels,
        Some(one @ Value::Object(_)) => vec![one],
        Some(_) | None => Vec::new(),
    };
    for label in labels.into_iter().filter(|it| it.is_object()) {
        let tags = item.entry("Tags").or_insert_with(|| json!({}));
        if tags.is_null() {
            *tags = json!({});
        }
        if let (Value::Object(tags), Value::Object(label)) = (tags, label) {
            tags.extend(label);
        }
    }
    Value::Object(item)
}
