//! Spec files, parsed into specs: all problems are reported together, each with its place.
//!
//! Accepts JSON and YAML, which are distinguished automatically, and the three forms of a group of
//! Docker's InfraKit (semantics §1.1): `v1` (`kind: group`), legacy (`ID`, `Properties`) and the list form.

mod group;
mod json;
mod options;
mod rules;
mod scalar;
mod spot;
mod tree;
mod version;
mod yaml;

use crate::problem::{Place, Problem, Problems};
use crate::spec::GroupSpec;

pub use group::nearest;
pub use options::Setting;
pub use spot::Spot;
pub use version::Yaml;

/// The largest accepted file: eight of the largest specs.
pub const LARGEST_FILE: usize = 8 * GroupSpec::LARGEST;

/// The valid specs of a file, with warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The specs in the order of the file; no group twice.
    pub specs: Vec<GroupSpec>,
    /// The places of the instance and the flavor of each spec, for problems that are found later.
    pub parts: Vec<[Spot; 2]>,
    /// Accepted, but probably not intended.
    pub warnings: Problems,
}

/// A document as JSON, for a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// One JSON value.
    pub json: String,
    /// Accepted, but probably not intended.
    pub warnings: Problems,
}

/// Reads group specs from `bytes`; `file` only names them in messages.
pub fn read(file: &str, bytes: &[u8], yaml: Yaml) -> Result<Draft, Problems> {
    let trees = documents(file, bytes, yaml)?;
    let mut notes = group::Notes::default();
    let mut specs = Vec::new();
    for tree in &trees {
        group::decode(tree, &mut notes, &mut specs);
    }
    if specs.is_empty() && notes.problems.is_empty() {
        notes.problems.push(whole("the file has no group", "declare one with `kind: group`"));
    }
    // Every spec that is valid has one of each, in this order.
    let parts = notes.parts.as_chunks().0.to_vec();
    let warnings = finish(file, notes)?;
    Ok(Draft { specs, parts, warnings })
}

/// Converts a JSON or YAML document to JSON, for commands that pass a file to a plugin.
pub fn to_json(file: &str, bytes: &[u8], yaml: Yaml) -> Result<Converted, Problems> {
    let tree = document(file, bytes, yaml)?;
    let mut notes = group::Notes::default();
    notes.opaque(&tree.root, "");
    let warnings = finish(file, notes)?;
    Ok(Converted { json: tree.json(&tree.root), warnings })
}

/// The same for a map with these fields only.
pub fn map_to_json(
    file: &str,
    bytes: &[u8],
    yaml: Yaml,
    known: &[&'static str],
) -> Result<Converted, Problems> {
    let tree = document(file, bytes, yaml)?;
    let mut notes = group::Notes::default();
    let json = group::decode_map(&tree, known, &mut notes);
    let warnings = finish(file, notes)?;
    Ok(Converted { json, warnings })
}

/// Reads a file of options; an empty one has none.
pub fn options(file: &str, bytes: &[u8]) -> Result<Vec<Setting>, Problems> {
    let trees = documents(file, bytes, Yaml::Unsaid)?;
    let read = match &trees[..] {
        [] => return Ok(Vec::new()),
        [tree] => options::decode(tree),
        _ => return document(file, bytes, Yaml::Unsaid).map(|_| Vec::new()),
    };
    read.map_err(|list| Problems { file: file.to_owned(), list })
}

/// The warnings, if there is no problem.
fn finish(file: &str, mut notes: group::Notes) -> Result<Problems, Problems> {
    let named = |list| Problems { file: file.to_owned(), list };
    if notes.problems.is_empty() {
        return Ok(named(notes.warnings));
    }
    notes.problems.sort_by_key(|problem| problem.place);
    Err(named(notes.problems))
}

fn document(file: &str, bytes: &[u8], yaml: Yaml) -> Result<tree::Tree, Problems> {
    let mut trees = documents(file, bytes, yaml)?;
    if trees.len() == 1 {
        return Ok(trees.remove(0));
    }
    let problem = whole(
        format!("expected one document, found {}", trees.len()),
        "split it into one file for each document",
    );
    Err(Problems { file: file.to_owned(), list: vec![problem] })
}

fn documents(file: &str, bytes: &[u8], yaml: Yaml) -> Result<Vec<tree::Tree>, Problems> {
    let refuse = |problem| Problems { file: file.to_owned(), list: vec![problem] };
    if bytes.len() > LARGEST_FILE {
        return Err(refuse(whole(
            format!("the file has {} bytes; at most {LARGEST_FILE} are accepted", bytes.len()),
            "split it into several files",
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        refuse(whole(
            format!("not valid UTF-8 at byte {}", error.valid_up_to() + 1),
            "give a JSON or YAML file",
        ))
    })?;
    if text.trim_start_matches('\u{feff}').trim_start().starts_with("{{") {
        return Err(refuse(Problem {
            place: Some(Place { line: 1, column: 1 }),
            ..whole("the file is a template, and templates are not rendered", "render it first")
        }));
    }
    parse(text, yaml).map_err(refuse)
}

/// Parses `text` as JSON when it looks like JSON, otherwise as YAML; one tree a document.
fn parse(text: &str, yaml: Yaml) -> Result<Vec<tree::Tree>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with(['{', '[']) {
        return Ok(yaml::parse(text, yaml)?.0);
    }
    let problem = match json::parse(text) {
        Ok(trees) => return Ok(trees),
        Err(problem) => problem,
    };
    // A YAML flow mapping may begin with a brace too, and comments and last commas are YAML. When neither parser
    // takes it, or it has numbers or words that JSON has not, the author most likely meant JSON.
    match yaml::parse(text, yaml) {
        Ok((trees, false)) => Ok(trees),
        Ok((_, true)) | Err(_) => Err(problem),
    }
}

fn whole(what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { place: None, path: String::new(), what: what.into(), remedy: remedy.into() }
}

#[cfg(test)]
mod tests;
