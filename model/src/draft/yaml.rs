//! YAML documents, read into trees.

use saphyr_parser::{Event, Parser, Span};

use super::scalar::scalar;
use super::tree::{Key, Node, Tree, Value};
use crate::problem::{Place, Problem};

/// A document must not nest deeper than this: it is walked by recursion.
const DEEPEST: usize = 128;
/// A document must not hold more values than this once its aliases are followed.
const MOST_NODES: usize = 500_000;

pub(super) fn parse(text: &str) -> Result<Vec<Tree>, Problem> {
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
