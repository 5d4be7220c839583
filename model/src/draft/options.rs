//! Flat maps of options, such as a configuration file.

use super::tree::{Node, Tree, Value};
use crate::problem::{Place, Problem};

/// One option of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub place: Place,
    pub key: String,
    /// Its values as text: none for null, one for a scalar, all of a list of scalars; `None` for anything else.
    pub values: Option<Vec<String>>,
}

/// The options of a document, or everything on which readers of YAML do not agree.
pub(super) fn decode(tree: &Tree) -> Result<Vec<Setting>, Vec<Problem>> {
    let entries = match &tree.root.value {
        Value::Mapping(entries) => entries,
        _ => {
            return Err(vec![Problem {
                place: Some(tree.root.place),
                path: String::new(),
                what: format!("expected options, found {}", tree.root.value.kind()),
                remedy: "write OPTION: VALUE on each line".to_owned(),
            }]);
        }
    };
    let mut problems = Vec::new();
    let mut settings: Vec<Setting> = Vec::new();
    for (key, node) in entries {
        let mut wrong = |place, what: String, remedy: &str| {
            let path = key.name.clone();
            problems.push(Problem { place: Some(place), path, what, remedy: remedy.to_owned() });
        };
        if settings.iter().any(|before| before.key == key.name) {
            wrong(key.place, format!("`{}` is repeated", key.name), "keep one of them");
        }
        let inner = match &node.value {
            Value::Sequence(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        for node in std::iter::once(node).chain(inner) {
            if let Some(remark) = node.remark.as_ref().filter(|remark| remark.is_refused) {
                wrong(remark.place, remark.what.clone(), "write it as it is meant");
            }
        }
        settings.push(Setting { place: key.place, key: key.name.clone(), values: values(node) });
    }
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

fn values(node: &Node) -> Option<Vec<String>> {
    match &node.value {
        Value::Null => Some(Vec::new()),
        Value::Sequence(items) => items.iter().map(text).collect(),
        _ => text(node).map(|text| vec![text]),
    }
}

fn text(node: &Node) -> Option<String> {
    match &node.value {
        Value::Bool(it) => Some(it.to_string()),
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}
