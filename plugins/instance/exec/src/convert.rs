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

/// The id that `provision` says last, so that a program may chat before: alone in a line, or as `{"ID": …}`.
pub(crate) fn id(output: &str) -> Result<InstanceId, Error> {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(MOST_LINES);
    let json =
        (from..lines.len()).filter_map(|at| serde_json::from_str::<Value>(&lines[at..].join("\n")).ok());
    let mut json = json.filter(|it| it.is_object() || it.is_string());
    let said = match json.next() {
        Some(Value::Object(said)) => said.get("ID").and_then(Value::as_str).unwrap_or_default().to_owned(),
        Some(Value::String(said)) => said,
        Some(_) | None => lines.last().copied().unwrap_or_default().to_owned(),
    };
    let is_part = said.starts_with(['{', '[', '"']) || said.ends_with(['}', ']', '"', ',']);
    if said.is_empty() || is_part || said.len() > spi::LONGEST_ID || said.chars().any(char::is_control) {
        let why = format!("the program says no id of at most {} bytes: {said:.80}", spi::LONGEST_ID);
        return Err(Error::unsure(why));
    }
    Ok(InstanceId::new(said))
}

/// How many lines an id may have as JSON.
const MOST_LINES: usize = 100;

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
        other => Ok(other),
    };
    let all: Result<Vec<String>, Error> =
        all.into_iter().map(|item| whole(item).map(|item| item.to_string())).collect();
    spi::descriptions_from_json(&all?)
}

/// A description that may have the spec and the labels in the form in which the program got them.
fn whole(mut item: Map<String, Value>) -> Result<Value, Error> {
    let wrong = |what: &str| Error::internal(format!("it lists {what}"));
    match item.remove("Spec") {
        Some(Value::Object(spec)) => {
            let known = ["LogicalID", "Tags", "Properties"];
            for (key, value) in spec.into_iter().filter(|(key, _)| known.contains(&&**key)) {
                item.entry(key).or_insert(value);
            }
        }
        Some(Value::Null) | None => {}
        Some(_) => return Err(wrong("a Spec that is no object")),
    }
    let labels = match item.remove("Labels") {
        Some(Value::Array(labels)) => labels,
        Some(Value::Null) | None => Vec::new(),
        Some(one) => vec![one],
    };
    for label in labels {
        let Value::Object(label) = label else { return Err(wrong("Labels that are no objects")) };
        let tags = item.entry("Tags").or_insert_with(|| json!({}));
        if tags.is_null() {
            *tags = json!({});
        }
        let Value::Object(tags) = tags else { return Err(wrong("Tags that are no object")) };
        tags.extend(label);
    }
    Ok(Value::Object(item))
}
