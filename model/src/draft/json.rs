//! JSON documents, read into trees.

use jsonc_parser::ast;

use super::tree::{Key, Node, Tree, Value};
use crate::problem::{Place, Problem};

pub(super) fn parse(text: &str) -> Result<Vec<Tree>, Problem> {
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
    let root = parsed.value.map_or(
        Node { place: Place { line: 1, column: 1 }, value: Value::Null, range: 0..0, remark: None },
        |value| from_json(value, &lines),
    );
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
                            older: None,
                        };
                        (key, from_json(property.value, lines))
                    })
                    .collect(),
            ),
        ),
    };
    Node { place: lines.place(range.start), value, range: range.start..range.end, remark: None }
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
