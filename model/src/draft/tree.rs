//! A parsed document in which every value still knows its place, whether it was JSON or YAML.

use std::ops::Range;

use crate::problem::Place;

/// One document.
pub(super) struct Tree {
    pub(super) root: Node,
    /// The text, if it was JSON: opaque parts are cut from it unchanged.
    pub(super) source: Option<String>,
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    pub(super) range: Range<usize>,
}

#[derive(Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// The number as JSON text: its digits are the author's.
    Number(String),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

#[derive(Clone)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: String,
}

impl Value {
    /// Its type, for messages such as "found a string".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing (null)",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a map",
        }
    }
}

impl Tree {
    /// The JSON text of `node`: cut from the source where that was JSON, so that the digits and
    /// escapes stay the author's; only insignificant white space goes.
    pub(super) fn json(&self, node: &Node) -> String {
        match &self.source {
            Some(source) => without_blanks(&source[node.range.clone()]),
            None => {
                let mut out = String::new();
                write_json(&mut out, node);
                out
            }
        }
    }
}

fn without_blanks(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in json.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        } else {
            quoted = c == '"';
        }
        out.push(c);
    }
    out
}

fn write_json(out: &mut String, node: &Node) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Number(number) => out.push_str(number),
        Value::String(text) => write_string(out, text),
        Value::Sequence(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(out, item);
            }
            out.push(']');
        }
        Value::Mapping(entries) => {
            out.push('{');
            for (i, (key, item)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(out, &key.name);
                out.push(':');
                write_json(out, item);
            }
            out.push('}');
        }
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
