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
    /// Where its text stands; for JSON only.
    pub(super) range: Range<usize>,
    /// What readers of YAML do not agree on.
    pub(super) remark: Option<Box<Remark>>,
}

/// What YAML 1.1, as InfraKit read it, and YAML 1.2 make of a node.
#[derive(Clone)]
pub(super) struct Remark {
    pub(super) place: Place,
    /// Both meanings, in a sentence.
    pub(super) what: String,
    /// Which of them is taken within properties.
    pub(super) taken: String,
    /// The value by YAML 1.1, if it is another one.
    pub(super) older: Option<Value>,
    /// Whether it is refused in a field of ours.
    pub(super) is_refused: bool,
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
    /// The name by YAML 1.1, if it is another one.
    pub(super) older: Option<String>,
}

impl Key {
    /// The name that it has within properties.
    pub(super) fn taken(&self) -> &str {
        self.older.as_ref().unwrap_or(&self.name)
    }
}

impl Node {
    /// The value that it has within properties.
    pub(super) fn taken(&self) -> &Value {
        self.remark.as_ref().and_then(|remark| remark.older.as_ref()).unwrap_or(&self.value)
    }
}

impl Value {
    /// The value in a message.
    pub(super) fn shown(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(it) => it.to_string(),
            Value::Number(number) => number.clone(),
            Value::String(text) => format!("the text {text:?}"),
            Value::Sequence(_) | Value::Mapping(_) => self.kind().to_owned(),
        }
    }

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
    /// The JSON text of `node`, as properties have it: cut from the source where that was JSON, so that the digits and
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
    match node.taken() {
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
                write_string(out, key.taken());
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
