//! A parsed document in which every value still knows its place, whether it was JSON or YAML.

use std::borrow::Cow;
use std::ops::Range;

use jsonc_parser::ast;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::problem::{Place, Problem};

/// A document must not nest deeper than this: it is walked by recursion.
const DEEPEST: usize = 128;
/// A document must not hold more values than this once its aliases are followed.
const MOST_NODES: usize = 500_000;

/// One document.
pub(super) struct Tree {
    pub(super) root: Node,
    /// The text, if it was JSON: opaque parts are cut from it unchanged.
    source: Option<String>,
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
    range: Range<usize>,
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

/// Parses `text` as JSON when it looks like JSON, otherwise as YAML; one tree a document.
pub(super) fn parse(text: &str) -> Result<Vec<Tree>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with(['{', '[']) {
        return parse_yaml(text);
    }
    // A YAML flow mapping may begin with a brace too. When neither parser takes it, the author
    // most likely meant JSON.
    parse_json(text).or_else(|problem| parse_yaml(text).map_err(|_| problem))
}

fn parse_json(text: &str) -> Result<Vec<Tree>, Problem> {
    let strict = jsonc_parser::ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = jsonc_parser::parse_to_ast(text, &Default::default(), &strict).map_err(|error| Problem {
        place: Some(Place { line: error.line_display(), column: error.column_display() }),
        path: String::new(),
        what: format!("not valid JSON: {}", error.kind()),
        remedy: String::new(),
    })?;
    let lines = Lines::of(text);
    let root = parsed
        .value
        .map_or(Node { place: Place { line: 1, column: 1 }, value: Value::Null, range: 0..0 }, |value| {
            from_json(value, &lines)
        });
    Ok(vec![Tree { root, source: Some(text.to_owned()) }])
}

fn from_json(value: ast::Value<'_>, lines: &Lines<'_>) -> Node {
    let (range, value) = match value {
        ast::Value::NullKeyword(it) => (it.range, Value::Null),
        ast::Value::BooleanLit(it) => (it.range, Value::Bool(it.value)),
        ast::Value::NumberLit(it) => (it.range, Value::Number(it.value.to_owned())),
        ast::Value::StringLit(it) => (it.range, Value::String(it.value.into_owned())),
        ast::Value::Array(it) => {
            (it.range, Value::Sequence(it.elements.into_iter().map(|item| from_json(item, lines)).collect()))
        }
        ast::Value::Object(it) => (
            it.range,
            Value::Mapping(
                it.properties
                    .into_iter()
                    .map(|property| {
                        let key = Key {
                            place: lines.place(property.range.start),
                            name: property.name.into_string(),
                        };
                        (key, from_json(property.value, lines))
                    })
                    .collect(),
            ),
        ),
    };
    Node { place: lines.place(range.start), value, range: range.start..range.end }
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        Place { line, column: self.text[start..offset].chars().count() + 1 }
    }
}

fn parse_yaml(text: &str) -> Result<Vec<Tree>, Problem> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: Vec::new(), nodes: 0 };
    let mut trees = Vec::new();
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(trees),
            Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
            Event::DocumentStart(_) => reader.anchors.clear(),
            other => {
                let root = reader.node(other, span, 0)?;
                // An empty document (such as after a last `---`) says nothing.
                if !matches!(root.value, Value::Null) {
                    trees.push(Tree { root, source: None });
                }
            }
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(Problem {
                place: Some(Place { line: error.marker().line(), column: error.marker().col() + 1 }),
                path: String::new(),
                what: format!("not valid YAML: {}", error.info()),
                remedy: String::new(),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let place = place_of(&span);
        let fail = |what: String, remedy: &str| Problem {
            place: Some(place),
            path: String::new(),
            what,
            remedy: remedy.to_owned(),
        };
        if depth > DEEPEST {
            return Err(fail(format!("more than {DEEPEST} levels of nesting"), "flatten it"));
        }
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(fail(format!("more than {MOST_NODES} values"), "split it"));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| format!("{}{}", tag.handle, tag.suffix));
                (anchor, scalar(text, style, tag.as_deref()).map_err(|what| fail(what, "quote it"))?)
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (anchor, Value::Sequence(items))
            }
            Event::MappingStart(anchor, _) => {
                let mut entries = Vec::new();
                loop {
                    let key = match self.next()? {
                        (Event::MappingEnd, _) => break,
                        (Event::Scalar(name, ..), span) => {
                            Key { place: place_of(&span), name: name.into_owned() }
                        }
                        (_, span) => {
                            return Err(Problem {
                                place: Some(place_of(&span)),
                                ..fail("a key is not a string".into(), "use a plain name as the key")
                            });
                        }
                    };
                    let (event, span) = self.next()?;
                    entries.push((key, self.node(event, span, depth + 1)?));
                }
                (anchor, Value::Mapping(entries))
            }
            Event::Alias(id) => {
                let Some((_, known)) = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id) else {
                    return Err(fail("an alias refers to itself".into(), "write the value out"));
                };
                let copy = known.value.clone();
                self.nodes += count(&copy);
                (0, copy)
            }
            other => return Err(fail(format!("not valid YAML: unexpected {other:?}"), "")),
        };
        let node = Node { place, value, range: 0..0 };
        if anchor > 0 {
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Sequence(items) => 1 + items.iter().map(|item| count(&item.value)).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|(_, item)| count(&item.value)).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn place_of(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

/// Resolves a scalar by YAML 1.2's core schema: `y`, `on` and `no` are strings, as they look.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&str>) -> Result<Value, String> {
    let string = |text: Cow<'_, str>| Ok(Value::String(text.into_owned()));
    match tag {
        Some("tag:yaml.org,2002:str" | "!") => return string(text),
        Some(other) if !other.starts_with("tag:yaml.org,2002:") => {
            return Err(format!("the tag `{other}` is not supported"));
        }
        _ => {}
    }
    if style != ScalarStyle::Plain {
        return string(text);
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(&text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(&*text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("`{text}` cannot be written as JSON"));
    }
    match number(&text) {
        Some(number) => Ok(Value::Number(number)),
        None => string(text),
    }
}

/// The JSON text of a YAML core-schema number; the author's own digits where JSON allows them.
fn number(text: &str) -> Option<String> {
    let radix = |digits: &str, radix| u128::from_str_radix(digits, radix).ok().map(|n| n.to_string());
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at..])),
        None => (rest, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    if !digits(whole)
        || !digits(fraction.unwrap_or(""))
        || (whole.is_empty() && fraction.unwrap_or("").is_empty())
    {
        return None;
    }
    if let Some(exponent) = exponent {
        let power = exponent[1..].strip_prefix(['-', '+']).unwrap_or(&exponent[1..]);
        if power.is_empty() || !digits(power) {
            return None;
        }
    }
    let trimmed = whole.trim_start_matches('0');
    let whole = if trimmed.is_empty() { "0" } else { trimmed };
    let fraction = match fraction {
        None => String::new(),
        Some("") => ".0".to_owned(),
        Some(fraction) => format!(".{fraction}"),
    };
    Some(format!("{sign}{whole}{fraction}{}", exponent.unwrap_or("")))
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
