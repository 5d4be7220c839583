//! YAML documents, read into trees.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::scalar::{self, Readings};
use super::tree::{Key, Node, Remark, Tree, Value};
use super::version::Yaml;
use crate::problem::{Place, Problem};

/// A document must not nest deeper than this: it is walked by recursion.
const DEEPEST: usize = 128;
/// A document must not hold more values than this once its aliases and merges are followed; a long text counts as
/// several.
const MOST_NODES: usize = 500_000;
/// As many bytes of a text count as one value more.
const BYTES_OF_A_NODE: usize = 32;

/// The documents of a text, and whether all of it could be meant as JSON but for numbers and literals that
/// JSON does not have.
pub(super) fn parse(text: &str, yaml: Yaml) -> Result<(Vec<Tree>, bool), Problem> {
    let mut reader = Reader {
        text,
        parser: Parser::new_from_str(text),
        said: yaml,
        version: yaml,
        anchors: Vec::new(),
        earlier: 0,
        nodes: 0,
        bare_key: false,
        odd_literal: false,
    };
    let mut trees = Vec::new();
    let mut end = 0;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok((trees, reader.odd_literal && !reader.bare_key)),
            Event::StreamStart | Event::Nothing => {}
            Event::DocumentEnd => end = span.start.line(),
            Event::DocumentStart(_) => {
                let last = reader.anchors.iter().map(|anchor| anchor.id).max();
                reader.earlier = last.unwrap_or(reader.earlier);
                reader.anchors.clear();
                reader.version = reader.version_from(end, span.end.line())?;
            }
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
    text: &'a str,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// What the caller says.
    said: Yaml,
    /// What holds for this document.
    version: Yaml,
    anchors: Vec<Anchor>,
    /// The last anchor of the documents before: they are numbered through the file.
    earlier: usize,
    nodes: usize,
    /// A key without quotes was found.
    bare_key: bool,
    /// A scalar without quotes was found that is not JSON.
    odd_literal: bool,
}

/// A value that aliases may name.
struct Anchor {
    id: usize,
    node: Node,
    /// What a copy of it counts, and how deep it is.
    cost: usize,
    height: usize,
}

/// The entries of a map that is being read.
#[derive(Default)]
struct Entries {
    list: Vec<(Key, Node)>,
    /// Where the entries are that were merged.
    merged: BTreeMap<String, usize>,
    /// The place of a merge.
    merge: Option<Place>,
}

impl Entries {
    fn push(&mut self, key: Key, node: Node) {
        match self.merged.remove(key.taken()) {
            // A key takes precedence over what was merged before it.
            Some(at) => self.list[at] = (key, node),
            None => self.list.push((key, node)),
        }
    }

    /// Adds what `<<` names: of several maps, the first that has a key.
    fn merge(&mut self, place: Place, node: Node) -> Result<(), Problem> {
        let maps = match node.value {
            Value::Mapping(entries) => vec![entries],
            Value::Sequence(items) if items.iter().all(|it| matches!(it.value, Value::Mapping(_))) => {
                let entries = items.into_iter().filter_map(|it| match it.value {
                    Value::Mapping(entries) => Some(entries),
                    _ => None,
                });
                entries.collect()
            }
            other => {
                let what = format!("`<<` takes a map or a list of maps, found {}", other.kind());
                return Err(problem(place, what, "merge maps, or quote the key"));
            }
        };
        let names = self.list.iter().map(|(key, _)| key.taken());
        let before: BTreeSet<String> =
            names.filter(|name| !self.merged.contains_key(*name)).map(str::to_owned).collect();
        let mut own = BTreeSet::new();
        for (key, node) in maps.into_iter().flatten() {
            let name = key.taken();
            if before.contains(name) {
                // InfraKit's reader took the later one, every other reader the one that is written out.
                let what = format!("`{name}` stands before a `<<` that has it too: readers differ");
                return Err(problem(place, what, "put `<<` first"));
            }
            if !own.insert(name.to_owned()) {
                continue;
            }
            match self.merged.get(name) {
                // Of two merges, the last one won.
                Some(at) => self.list[*at] = (key, node),
                None => {
                    self.merged.insert(name.to_owned(), self.list.len());
                    self.list.push((key, node));
                }
            }
        }
        self.merge = Some(place);
        Ok(())
    }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        let error = match self.parser.next_event() {
            Some(Ok(found)) => return Ok(found),
            None => return Ok((Event::StreamEnd, Span::default())),
            Some(Err(error)) => error,
        };
        let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
        if !error.info().contains("unknown anchor") {
            return Err(problem(place, format!("not valid YAML: {}", error.info()), ""));
        }
        Err(self.no_anchor(place))
    }

    /// What is said of an alias without an anchor in its document.
    fn no_anchor(&self, place: Place) -> Problem {
        let line = self.text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
        let rest: String = line.chars().skip(place.column - 1).collect();
        let name: String = rest
            .trim_start_matches('*')
            .chars()
            .take_while(|c| !c.is_whitespace() && !"[]{},".contains(*c))
            .collect();
        if self.text.contains(&format!("&{name}")) {
            problem(
                place,
                format!("the alias `*{name}` names an anchor of another document, or one that comes later"),
                "an anchor holds from where it stands to the end of its document",
            )
        } else {
            problem(place, format!("the alias `*{name}` has no anchor `&{name}`"), "write the value out")
        }
    }

    /// The version of the document whose directives and start are in these lines.
    fn version_from(&self, after: usize, to: usize) -> Result<Yaml, Problem> {
        for (at, line) in self.text.lines().enumerate().take(to).skip(after.saturating_sub(1)) {
            let Some(version) = line.strip_prefix("%YAML") else { continue };
            let place = Place { line: at + 1, column: 1 };
            let declared = match version.split('#').next().unwrap_or_default().trim() {
                "1.1" => Yaml::V1_1,
                "1.2" => Yaml::V1_2,
                other => {
                    let what = format!("YAML {other} is not supported");
                    return Err(problem(place, what, "write it in YAML 1.2, or 1.1"));
                }
            };
            if self.said != Yaml::Unsaid && self.said != declared {
                let what = "the document names another version of YAML than `--yaml`".to_owned();
                return Err(problem(place, what, "remove one of them"));
            }
            return Ok(declared);
        }
        Ok(self.said)
    }

    fn counted(&mut self, place: Place, more: usize) -> Result<(), Problem> {
        self.nodes += more;
        if self.nodes > MOST_NODES {
            return Err(problem(place, format!("more than {MOST_NODES} values"), "split it"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        let place = place_of(&span);
        if depth > DEEPEST {
            return Err(too_deep(place));
        }
        self.counted(place, 1)?;
        let (anchor, value, remark) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.counted(place, text.len() / BYTES_OF_A_NODE)?;
                let (value, remark) = self.scalar(place, &text, style, tag.as_deref())?;
                (anchor, value, remark)
            }
            Event::SequenceStart(anchor, tag) => {
                let remark = self.tag(place, tag.as_deref(), "!!seq")?;
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (anchor, Value::Sequence(items), remark)
            }
            Event::MappingStart(anchor, tag) => {
                let remark = self.tag(place, tag.as_deref(), "!!map")?;
                let entries = self.entries(depth)?;
                let remark = remark.or_else(|| self.merge_remark(entries.merge));
                (anchor, Value::Mapping(entries.list), remark)
            }
            Event::Alias(id) if id <= self.earlier => return Err(self.no_anchor(place)),
            Event::Alias(id) => {
                let known = self.anchors.iter().rposition(|anchor| anchor.id == id);
                let known = known
                    .ok_or_else(|| problem(place, "an alias refers to itself", "write the value out"))?;
                let Anchor { cost, height, .. } = self.anchors[known];
                self.counted(place, cost)?;
                if depth + height > DEEPEST {
                    return Err(too_deep(place));
                }
                return Ok(Node { place, ..self.anchors[known].node.clone() });
            }
            other => return Err(problem(place, format!("not valid YAML: unexpected {other:?}"), "")),
        };
        let node = Node { place, value, range: 0..0, remark: remark.map(Box::new) };
        if anchor > 0 {
            let (cost, height) = cost_and_height(node.taken());
            self.counted(place, cost)?;
            self.anchors.push(Anchor { id: anchor, node: node.clone(), cost, height });
        }
        Ok(node)
    }

    fn entries(&mut self, depth: usize) -> Result<Entries, Problem> {
        let mut entries = Entries::default();
        loop {
            let (event, span) = self.next()?;
            let place = place_of(&span);
            let (name, style, tag) = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(name, style, _, tag) => (name, style, tag),
                _ => return Err(problem(place, "a key is not a string", "use a plain name as the key")),
            };
            let is_bare = style == ScalarStyle::Plain;
            self.bare_key |= is_bare;
            let tag = tag.as_deref();
            let says_merge = tag.map_or(is_bare, |tag| scalar::written(tag) == "!!merge");
            let is_merge = &*name == "<<" && says_merge && self.version != Yaml::V1_2;
            let key = match is_merge {
                true => None,
                false => Some(self.key(place, &name, style, tag)?),
            };
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            match key {
                Some(key) => entries.push(key, node),
                None => entries.merge(place, node)?,
            }
        }
    }

    fn key(
        &mut self,
        place: Place,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
    ) -> Result<Key, Problem> {
        let (name, older) =
            scalar::key(text, style, tag).map_err(|what| problem(place, what, "quote the key"))?;
        Ok(match self.version {
            Yaml::Unsaid => Key { place, name, older },
            Yaml::V1_1 => Key { place, name: older.unwrap_or(name), older: None },
            Yaml::V1_2 => Key { place, name, older: None },
        })
    }

    fn scalar(
        &mut self,
        place: Place,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
    ) -> Result<(Value, Option<Remark>), Problem> {
        let Readings { newer, older, is_told } = scalar::scalar(text, style, tag);
        // An absent value is no literal.
        if style == ScalarStyle::Plain && !text.is_empty() {
            self.odd_literal |= serde_json::from_str::<serde_json::Value>(text).is_err();
        }
        let refuse = |what| problem(place, what, "quote it, or write it out");
        let remark = |what, taken, older| Remark { place, what, taken, older, is_refused: true };
        match (self.version, newer, older) {
            (Yaml::V1_2, newer, _) => newer.map(|value| (value, None)).map_err(refuse),
            (Yaml::V1_1, _, Some(older)) => Ok((older, None)),
            (Yaml::Unsaid, Ok(_), Some(older)) if !is_told => Ok((older, None)),
            (Yaml::Unsaid, Ok(newer), Some(older)) => {
                let (new, old) = (newer.shown(), older.shown());
                let what = format!("`{text}` is {old} in YAML 1.1 and {new} in YAML 1.2");
                Ok((newer, Some(remark(what, format!("read as {old}"), Some(older)))))
            }
            (Yaml::Unsaid, Err(what), Some(older)) => {
                let taken = format!("read as {}", older.shown());
                Ok((older, Some(remark(what, taken, None))))
            }
            (_, newer, None) => newer.map(|value| (value, None)).map_err(refuse),
        }
    }

    /// Judges the tag of a list or a map.
    fn tag(&self, place: Place, tag: Option<&Tag>, own: &str) -> Result<Option<Remark>, Problem> {
        match (scalar::collection_tag(tag, own), self.version) {
            (Ok(()), _) | (Err(_), Yaml::V1_1) => Ok(None),
            (Err(what), Yaml::V1_2) => Err(problem(place, what, "remove it")),
            (Err(what), Yaml::Unsaid) => {
                let taken = "left out".to_owned();
                Ok(Some(Remark { place, what, taken, older: None, is_refused: true }))
            }
        }
    }

    fn merge_remark(&self, merge: Option<Place>) -> Option<Remark> {
        let place = merge.filter(|_| self.version == Yaml::Unsaid)?;
        let what = "`<<` merges maps in YAML 1.1 and is a key like any other in YAML 1.2".to_owned();
        Some(Remark { place, what, taken: "merged".to_owned(), older: None, is_refused: false })
    }
}

fn problem(place: Place, what: impl Into<String>, remedy: &str) -> Problem {
    Problem { place: Some(place), path: String::new(), what: what.into(), remedy: remedy.to_owned() }
}

fn too_deep(place: Place) -> Problem {
    problem(place, format!("more than {DEEPEST} levels of nesting"), "flatten it")
}

/// What a value counts, and how many levels are below it.
fn cost_and_height(value: &Value) -> (usize, usize) {
    let of = |text: &str| 1 + text.len() / BYTES_OF_A_NODE;
    let below = |all: &mut dyn Iterator<Item = (usize, usize)>| {
        all.fold((1, 0), |(cost, height), (c, h)| (cost + c, height.max(h + 1)))
    };
    match value {
        Value::Sequence(items) => below(&mut items.iter().map(|item| cost_and_height(item.taken()))),
        Value::Mapping(entries) => below(&mut entries.iter().map(|(key, item)| {
            let (cost, height) = cost_and_height(item.taken());
            (of(&key.name) + cost, height)
        })),
        Value::String(text) | Value::Number(text) => (of(text), 0),
        Value::Null | Value::Bool(_) => (1, 0),
    }
}

fn place_of(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}
