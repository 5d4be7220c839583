//! What of a listing can be read: every instance by itself, so that none hides the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use model::tags::Tags;
use model::{Description, InstanceId, InstanceState, LogicalId, Opaque, RunStatus};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::state;
use crate::bounds;
use crate::json::{self, Tried};

/// The instances of a listing.
pub(super) struct Instances {
    /// Each id once; what was listed last for it.
    pub(super) known: Vec<Description>,
    /// Why the others are not known, which have no usable id.
    pub(super) without_id: Vec<String>,
}

pub(super) fn read(items: &[Box<RawValue>]) -> Instances {
    let mut places: HashMap<InstanceId, usize> = HashMap::new();
    let (mut known, mut without_id): (Vec<Description>, _) = (Vec::new(), Vec::new());
    for item in items {
        let found = match instance(item) {
            Ok(found) => found,
            Err(why) => {
                without_id.push(why);
                continue;
            }
        };
        match places.entry(found.id.clone()) {
            Entry::Occupied(place) => known[*place.get()] = found,
            Entry::Vacant(place) => {
                place.insert(known.len());
                known.push(found);
            }
        }
    }
    Instances { known, without_id }
}

/// An instance in the form of the contract, which nearly all are: read at once. Anything else is read field by field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Plain<'a> {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "LogicalID")]
    logical_id: Option<String>,
    tags: Option<Tags>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
}

fn plain(item: &RawValue) -> Option<Description> {
    let read: Plain<'_> = serde_json::from_str(item.get()).ok()?;
    let tags = read.tags.unwrap_or_default();
    let fits = |text: &String| text.len() <= bounds::LONGEST_ID;
    let all_fit = fits(&read.id)
        && read.logical_id.iter().chain(tags.keys()).chain(tags.values()).all(fits)
        && !read.id.is_empty();
    all_fit.then(|| Description {
        id: InstanceId::from(read.id),
        logical_id: read.logical_id.filter(|id| !id.is_empty()).map(LogicalId::from),
        tags,
        properties: read.properties.map(|raw| Opaque::from_json(raw.get())),
        state: state::reported(read.state, read.properties),
    })
}

/// A description in a listing, as it is read: each field by itself.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ReadDescribed<'a> {
    #[serde(rename = "ID")]
    pub(super) id: Tried<String>,
    #[serde(rename = "LogicalID")]
    pub(super) logical_id: Tried<Option<String>>,
    #[serde(rename = "Tags")]
    pub(super) tags: Tried<Tags>,
    #[serde(rename = "Properties", borrow)]
    pub(super) properties: Option<&'a RawValue>,
    #[serde(rename = "State")]
    pub(super) state: Option<&'a RawValue>,
}

/// What can be read of one instance, if it has an id.
fn instance(item: &RawValue) -> Result<Description, String> {
    if let Some(plain) = plain(item) {
        return Ok(plain);
    }
    let read: ReadDescribed<'_> = json::read_raw(item).map_err(|error| error.to_string())?;
    let id = bounds::id(read.id.0.map_err(|error| format!("its ID cannot be read: {error}"))?)?;
    let mut unreadable = Vec::new();
    let logical_id = match read.logical_id.0.map(|it| it.filter(|id| !id.is_empty())) {
        Ok(Some(id)) if id.len() > bounds::LONGEST_ID => {
            unreadable.push(format!("its LogicalID has {} bytes", id.len()));
            None
        }
        Ok(logical_id) => logical_id,
        Err(why) => {
            unreadable.push(format!("its LogicalID cannot be read: {why}"));
            None
        }
    };
    let mut tags = read.tags.0.unwrap_or_else(|why| {
        unreadable.push(format!("its Tags cannot be read: {why}"));
        Tags::new()
    });
    // InfraKit's own tags are ids, which may be recorded; the others are only compared.
    tags.retain(|key, value| {
        let fits = !key.starts_with("infrakit.") || key.len().max(value.len()) <= bounds::LONGEST_ID;
        if !fits {
            unreadable.push(format!("its tag {:.40} has {} bytes", key, value.len()));
        }
        fits
    });
    let unknown = || InstanceState {
        status: RunStatus::Unknown,
        ended: false,
        exit_code: None,
        since: None,
        message: bounds::shorten(unreadable.join("; ")),
    };
    Ok(Description {
        id,
        logical_id: logical_id.map(LogicalId::from),
        tags,
        properties: read.properties.map(|raw| Opaque::from_json(raw.get())),
        state: match unreadable.is_empty() {
            true => state::reported(read.state, read.properties),
            false => Some(unknown()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(items: &[&str]) -> Instances {
        let raw = |item: &&str| RawValue::from_string((*item).to_owned()).expect("JSON");
        read(&items.iter().map(raw).collect::<Vec<_>>())
    }

    fn ids(instances: &Instances) -> Vec<&str> {
        instances.known.iter().map(|it| it.id.as_str()).collect()
    }

    #[test]
    fn an_instance_that_cannot_be_read_hides_no_other() {
        let long = format!(r#"{{"ID":"{}"}}"#, "x".repeat(bounds::LONGEST_ID + 1));
        let listed = listed(&[
            r#"{"id":"a","tags":{"k":null,"n":5}}"#,
            "null",
            "[]",
            "5",
            "{}",
            r#"{"ID":""}"#,
            r#"{"ID":{"x":1}}"#,
            r#"{"ID":true}"#,
            &long,
            r#"{"ID":"b","Tags":["x"],"LogicalID":"l","Properties":{"p": 1}}"#,
            r#"{"ID":"c","LogicalID":[1],"Tags":{"k":"v"},"State":{"Status":"Running"}}"#,
            r#"{"ID":7}"#,
        ]);
        assert_eq!(ids(&listed), ["a", "b", "c", "7"]);
        assert_eq!(listed.without_id.len(), 8, "{:?}", listed.without_id);
        let [a, b, c, _] = &listed.known[..] else { panic!("four") };
        assert_eq!(a.tags, Tags::from([("k".into(), String::new()), ("n".into(), "5".into())]));
        assert_eq!(a.state, None);
        assert_eq!(b.logical_id.as_ref().map(LogicalId::as_str), Some("l"));
        assert_eq!(b.properties.as_ref().map(Opaque::as_json), Some(r#"{"p": 1}"#));
        assert_eq!(c.tags.get("k").map(String::as_str), Some("v"));
        for (one, field) in [(b, "Tags"), (c, "LogicalID")] {
            let state = one.state.as_ref().expect("a state");
            assert_eq!(state.status, RunStatus::Unknown);
            assert!(state.message.contains(field), "{}", state.message);
        }
    }

    #[test]
    fn the_same_id_twice_is_one_instance_and_the_last_holds() {
        let twice =
            listed(&[r#"{"ID":"a","Tags":{"n":"1"}}"#, r#"{"ID":"b"}"#, r#"{"ID":"a","Tags":{"n":"2"}}"#]);
        assert_eq!(ids(&twice), ["a", "b"]);
        assert_eq!(twice.known[0].tags, Tags::from([("n".into(), "2".into())]));
    }

    #[test]
    fn ids_beside_the_id_are_bounded_too() {
        let long = "x".repeat(bounds::LONGEST_ID + 1);
        let listed = listed(&[
            &format!(r#"{{"ID":"a","LogicalID":"{long}"}}"#),
            &format!(r#"{{"ID":"b","Tags":{{"infrakit.logical_id":"{long}","note":"{long}"}}}}"#),
        ]);
        assert_eq!(listed.known[0].logical_id, None);
        assert_eq!(listed.known[1].tags.keys().collect::<Vec<_>>(), ["note"]);
        for one in listed.known {
            let state = one.state.expect("a state");
            assert!(state.message.contains("4097"), "{}", state.message);
        }
    }
}
