//! The three forms of a group, decoded from a tree (semantics §1.1, §1.2).

use std::collections::{BTreeMap, BTreeSet};

use super::spot::Spot;
use super::tree::{Key, Node, Tree, Value};
use crate::ids::{GroupId, LogicalId, PluginName};
use crate::part::{Opaque, Part};
use crate::problem::{Place, Problem};
use crate::spec::{Allocation, GroupSpec, Healing, SpecError, Template, Updating};
use crate::time::Millis;

/// The problems, warnings and spots that were found.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    /// The instances and flavors, in the order in which they are read.
    pub(super) parts: Vec<Spot>,
}

impl Notes {
    pub(super) fn wrong(
        &mut self,
        place: Place,
        path: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(note(place, path, what, remedy));
    }

    fn warn(&mut self, place: Place, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.warnings.push(note(place, path, what, remedy));
    }

    /// Tells what readers do not agree on within properties: they are taken as InfraKit took them.
    pub(super) fn opaque(&mut self, node: &Node, path: &str) {
        let mut told = BTreeSet::new();
        self.opaque_within(node, path, &mut told);
    }

    /// A value that stands behind an alias is told once; `told` has the places, and what is told of them.
    fn opaque_within(&mut self, node: &Node, path: &str, told: &mut BTreeSet<(Place, &'static str)>) {
        if let Some(remark) = &node.remark
            && told.insert((remark.place, "value"))
        {
            let what = format!("{}: {}", remark.what, remark.taken);
            self.warn(remark.place, path, what, "write it as it is meant, or say `--yaml 1.1` or `1.2`");
        }
        match node.taken() {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            Value::Sequence(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.opaque_within(item, &format!("{path}[{i}]"), told);
                }
            }
            Value::Mapping(entries) => {
                let mut before: BTreeMap<String, &Key> = BTreeMap::new();
                for (key, item) in entries {
                    let name = key.taken();
                    let path = join(path, name);
                    if key.older.is_some() && told.insert((key.place, "key")) {
                        let what = format!(
                            "the key `{}` is `{name}` in YAML 1.1 and `{0}` in YAML 1.2: read as `{name}`",
                            key.name
                        );
                        self.warn(key.place, &path, what, "quote it, or say `--yaml 1.1` or `1.2`");
                    }
                    let Some(other) = before.insert(name.to_lowercase(), key) else {
                        self.opaque_within(item, &path, told);
                        continue;
                    };
                    if told.insert((key.place, "twice")) {
                        let same = if other.taken() == name { "twice" } else { "twice, but for its case" };
                        let what = format!("the key `{name}` stands here {same}, first at {}", other.place);
                        self.warn(
                            key.place,
                            &path,
                            what,
                            "keep one of them: readers differ in which they take",
                        );
                    }
                    self.opaque_within(item, &path, told);
                }
            }
        }
    }
}

fn note(place: Place, path: &str, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { place: Some(place), path: path.to_owned(), what: what.into(), remedy: remedy.into() }
}

/// Adds the groups of one document to `specs`.
pub(super) fn decode(tree: &Tree, notes: &mut Notes, specs: &mut Vec<GroupSpec>) {
    let mut reader = Reader { tree, notes };
    match &tree.root.value {
        Value::Sequence(items) => {
            reader.agrees(&tree.root, "");
            for (i, item) in items.iter().enumerate() {
                reader.any_form(item, &format!("[{i}]"), specs);
            }
        }
        _ => reader.any_form(&tree.root, "", specs),
    }
}

/// The fields of a map as JSON, under the names that are known.
pub(super) fn decode_map(tree: &Tree, known: &[&'static str], notes: &mut Notes) -> String {
    let mut reader = Reader { tree, notes };
    let found = reader.fields(&tree.root, "", known).map(|fields| fields.found).unwrap_or_default();
    for (name, value) in &found {
        reader.notes.opaque(value, name);
    }
    let fields: Vec<String> =
        found.iter().map(|(name, value)| format!("\"{name}\":{}", tree.json(value))).collect();
    format!("{{{}}}", fields.join(","))
}

/// Fields whose values only plugins read.
const OPAQUE: [&str; 3] = ["Properties", "Options", "Tags"];

pub(super) struct Reader<'a> {
    tree: &'a Tree,
    pub(super) notes: &'a mut Notes,
}

/// The values of a map by the names that are known.
pub(super) struct Fields<'a> {
    pub(super) place: Place,
    found: Vec<(&'static str, &'a Node)>,
}

/// The properties of a group.
struct Body {
    allocation: Allocation,
    template: Template,
    updating: Updating,
    healing: Healing,
}

impl<'a> Fields<'a> {
    /// The value of a field; a `null` counts as absent, as InfraKit's decoder has it.
    pub(super) fn get(&self, name: &str) -> Option<&'a Node> {
        let (_, node) = self.found.iter().find(|(known, _)| *known == name)?;
        (!matches!(node.value, Value::Null)).then_some(*node)
    }
}

impl<'a> Reader<'a> {
    /// Refuses what readers of YAML do not agree on in a field of ours; a merge is only told.
    fn agrees(&mut self, node: &Node, path: &str) {
        let Some(remark) = &node.remark else { return };
        let remedy = "write it as it is meant, or say `--yaml 1.1` or `--yaml 1.2`";
        if remark.is_refused {
            self.notes.wrong(remark.place, path, remark.what.clone(), remedy);
        } else {
            self.notes.warn(remark.place, path, format!("{}: {}", remark.what, remark.taken), remedy);
        }
    }

    fn any_form(&mut self, node: &'a Node, path: &str, specs: &mut Vec<GroupSpec>) {
        let Value::Mapping(entries) = &node.value else {
            self.notes.wrong(
                node.place,
                path,
                format!("expected a group, found {}", node.value.kind()),
                "begin with `kind: group`",
            );
            return;
        };
        let has = |name: &str| entries.iter().any(|(key, _)| key.name.eq_ignore_ascii_case(name));
        let spec = if has("kind") || has("metadata") {
            self.v1(node, path)
        } else if has("ID") {
            self.legacy(node, path)
        } else if has("Plugin") {
            self.listed(node, path)
        } else if has("Allocation") || has("Instance") || has("Flavor") {
            self.notes.wrong(
                node.place,
                path,
                "these are the properties of a group without a name",
                "put them under `properties`, beside `kind: group` and `metadata: {name: NAME}`",
            );
            None
        } else {
            self.notes.wrong(
                node.place,
                path,
                "this is not a group: it has neither `kind` nor `ID`",
                "begin with `kind: group`",
            );
            None
        };
        if let Some(spec) = spec {
            if specs.iter().any(|other| other.id == spec.id) {
                self.notes.wrong(
                    node.place,
                    path,
                    format!("the group `{}` is declared twice", spec.id),
                    "keep one of them",
                );
            }
            specs.push(spec);
        }
    }

    /// `{kind, version, metadata: {name}, properties}`.
    fn v1(&mut self, node: &'a Node, path: &str) -> Option<GroupSpec> {
        let fields = self.fields(
            node,
            path,
            &["kind", "version", "metadata", "properties", "options", "template", "depends", "$schema"],
        )?;
        let kind = self.text(&fields, path, "kind")?;
        if kind != "group" {
            let place = fields.get("kind").map_or(node.place, |kind| kind.place);
            self.notes.wrong(
                place,
                &join(path, "kind"),
                format!("unknown kind `{kind}`"),
                "the only kind is `group`",
            );
            return None;
        }
        for unused in ["template", "depends"] {
            if let Some(node) = fields.get(unused) {
                self.notes.wrong(node.place, &join(path, unused), "not supported", "remove it");
            }
        }
        if let Some(options) = fields.get("options") {
            let path = join(path, "options");
            self.notes.warn(options.place, &path, "options of a group are ignored", "remove them");
        }
        let id = self.metadata(&fields, path);
        let properties = self.required(&fields, path, "properties");
        let body = properties.and_then(|node| self.body(node, &join(path, "properties")));
        self.spec(id?, body?)
    }

    fn metadata(&mut self, fields: &Fields<'a>, path: &str) -> Option<(GroupId, Place)> {
        let node = self.required(fields, path, "metadata")?;
        let path = join(path, "metadata");
        let metadata = self.fields(node, &path, &["name", "id", "tags"])?;
        if let Some(tags) = metadata.get("tags") {
            self.notes.warn(tags.place, &join(&path, "tags"), "tags of a group are ignored", "remove them");
        }
        if metadata.get("id").is_some() {
            return self.group_id(&metadata, &path, "id", |text| text);
        }
        // `workers` and `group/workers` name the same group (semantics §1.1).
        self.group_id(&metadata, &path, "name", |text| text.rsplit_once('/').map_or(text, |(_, last)| last))
    }

    /// `{ID, Properties}`.
    fn legacy(&mut self, node: &'a Node, path: &str) -> Option<GroupSpec> {
        let fields = self.fields(node, path, &["ID", "Properties", "$schema"])?;
        let id = self.group_id(&fields, path, "ID", |text| text);
        let properties = self.required(&fields, path, "Properties");
        let body = properties.and_then(|node| self.body(node, &join(path, "Properties")));
        self.spec(id?, body?)
    }

    /// `{Plugin, Properties: {ID, Properties}}`: an element of the list form.
    fn listed(&mut self, node: &'a Node, path: &str) -> Option<GroupSpec> {
        let fields = self.fields(node, path, &["Plugin", "Properties"])?;
        self.text(&fields, path, "Plugin");
        let inner = self.required(&fields, path, "Properties")?;
        self.legacy(inner, &join(path, "Properties"))
    }

    fn group_id(
        &mut self,
        fields: &Fields<'a>,
        path: &str,
        field: &'static str,
        part: fn(&str) -> &str,
    ) -> Option<(GroupId, Place)> {
        let text = self.text(fields, path, field)?;
        let place = fields.get(field).map_or(fields.place, |node| node.place);
        match GroupId::check(part(text)) {
            Ok(id) => Some((id, place)),
            Err(why) => {
                self.notes.wrong(place, &join(path, field), why.to_string(), "name the group");
                None
            }
        }
    }

    fn spec(
        &mut self,
        (id, place): (GroupId, Place),
        Body { allocation, template, updating, healing }: Body,
    ) -> Option<GroupSpec> {
        match GroupSpec::new(id, allocation, template, updating, healing) {
            Ok(spec) => Some(spec),
            Err(errors) => {
                for error in &errors {
                    self.refuse(place, "", error);
                }
                None
            }
        }
    }

    /// Notes what is wrong with a block, at the place of the field or of the block.
    pub(super) fn refuse(&mut self, place: Place, path: &str, error: &SpecError) {
        let field = error.field();
        let path = if field.is_empty() { path.to_owned() } else { join(path, &field) };
        self.notes.wrong(place, &path, error.to_string(), error.remedy());
    }

    /// The properties of the group: all blocks are read, so that all problems are reported.
    fn body(&mut self, node: &'a Node, path: &str) -> Option<Body> {
        let fields = self.fields(node, path, &["Allocation", "Instance", "Flavor", "Updating", "Healing"])?;
        let allocation = self
            .required(&fields, path, "Allocation")
            .and_then(|node| self.allocation(node, &join(path, "Allocation")));
        let instance = self
            .required(&fields, path, "Instance")
            .and_then(|node| self.part(node, &join(path, "Instance")));
        let flavor =
            self.required(&fields, path, "Flavor").and_then(|node| self.part(node, &join(path, "Flavor")));
        let updating = match fields.get("Updating") {
            None => Some(Updating::default()),
            Some(node) => self.updating(node, &join(path, "Updating"), allocation.as_ref()),
        };
        let healing = match fields.get("Healing") {
            None => Some(Healing::default()),
            Some(node) => self.healing(node, &join(path, "Healing")),
        };
        let template = Template { instance: instance?, flavor: flavor? };
        Some(Body { allocation: allocation?, template, updating: updating?, healing: healing? })
    }

    fn allocation(&mut self, node: &'a Node, path: &str) -> Option<Allocation> {
        let fields = self.fields(node, path, &["Size", "LogicalIDs"])?;
        let size = match fields.get("Size") {
            None => None,
            Some(node) => Some(self.whole_number(node, &join(path, "Size"))?),
        };
        let ids = match fields.get("LogicalIDs") {
            None => Vec::new(),
            Some(node) => self.logical_ids(node, &join(path, "LogicalIDs"))?,
        };
        let errors = match Allocation::new(size, ids) {
            Ok(allocation) => return Some(allocation),
            Err(errors) => errors,
        };
        for error in &errors {
            let place = match (error, fields.get("LogicalIDs").map(|node| (&node.value, node.place))) {
                (
                    SpecError::EmptyName { at } | SpecError::RepeatedName { at, .. },
                    Some((Value::Sequence(items), _)),
                ) => items[*at].place,
                (SpecError::TooManyMembers { named: true, .. }, Some((_, place))) => place,
                _ => fields.place,
            };
            self.refuse(place, path, error);
        }
        None
    }

    fn logical_ids(&mut self, node: &'a Node, path: &str) -> Option<Vec<LogicalId>> {
        let Value::Sequence(items) = &node.value else {
            self.mistyped(node, path, "a list of strings");
            return None;
        };
        let mut ids: Vec<LogicalId> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            self.agrees(item, &format!("{path}[{i}]"));
            match &item.value {
                Value::String(text) => ids.push(LogicalId::new(text)),
                _ => self.mistyped(item, &format!("{path}[{i}]"), "a string"),
            }
        }
        (ids.len() == items.len()).then_some(ids)
    }

    fn part(&mut self, node: &'a Node, path: &str) -> Option<Part> {
        let fields = self.fields(node, path, &["Plugin", "Properties", "Options"])?;
        if let Some(options) = fields.get("Options") {
            self.notes.warn(
                options.place,
                &join(path, "Options"),
                "options of a plugin are ignored; they are set when it is started",
                "remove them",
            );
        }
        self.notes.parts.push(Spot { place: node.place, path: path.to_owned() });
        let text = self.text(&fields, path, "Plugin")?;
        let properties = match fields.get("Properties") {
            None => Opaque::null(),
            Some(node) => {
                self.notes.opaque(node, &join(path, "Properties"));
                Opaque::from_json(self.tree.json(node))
            }
        };
        match PluginName::check(text) {
            Ok(plugin) => Some(Part { plugin, properties }),
            Err(why) => {
                let place = fields.get("Plugin").map_or(fields.place, |node| node.place);
                self.notes.wrong(place, &join(path, "Plugin"), why.to_string(), "");
                None
            }
        }
    }

    pub(super) fn duration(&mut self, node: &'a Node, path: &str) -> Option<Millis> {
        let Value::String(text) = &node.value else {
            self.mistyped(node, path, "a duration such as `10s`");
            return None;
        };
        match Millis::parse_go(text) {
            Ok(span) => Some(span),
            Err(why) => {
                self.notes.wrong(node.place, path, why, "");
                None
            }
        }
    }

    pub(super) fn whole_number(&mut self, node: &'a Node, path: &str) -> Option<u32> {
        let Value::Number(text) = &node.value else {
            self.mistyped(node, path, "a whole number");
            return None;
        };
        match text.parse::<u32>() {
            Ok(number) => Some(number),
            Err(_) => {
                self.notes.wrong(
                    node.place,
                    path,
                    format!("`{text}` is not a whole number from 0 to {}", u32::MAX),
                    "",
                );
                None
            }
        }
    }

    fn text(&mut self, fields: &Fields<'a>, path: &str, field: &'static str) -> Option<&'a str> {
        let node = self.required(fields, path, field)?;
        match &node.value {
            Value::String(text) => Some(text),
            _ => {
                self.mistyped(node, &join(path, field), "a string");
                None
            }
        }
    }

    fn required(&mut self, fields: &Fields<'a>, path: &str, field: &'static str) -> Option<&'a Node> {
        let found = fields.get(field);
        if found.is_none() {
            self.notes.wrong(fields.place, path, format!("`{field}` is missing"), format!("add `{field}`"));
        }
        found
    }

    pub(super) fn mistyped(&mut self, node: &Node, path: &str, desired: &str) {
        self.notes.wrong(node.place, path, format!("expected {desired}, found {}", node.value.kind()), "");
    }

    /// Sorts a map's entries by the names that are known. Names match exactly, or apart from case
    /// with a warning; anything else is a problem with the nearest name as its remedy.
    pub(super) fn fields(
        &mut self,
        node: &'a Node,
        path: &str,
        known: &[&'static str],
    ) -> Option<Fields<'a>> {
        let Value::Mapping(entries) = &node.value else {
            self.mistyped(node, path, "a map");
            return None;
        };
        if path.is_empty() || path.ends_with(']') {
            self.agrees(node, path);
        }
        let mut found: Vec<(&'static str, &'a Node)> = Vec::new();
        for (key, value) in entries {
            let here = join(path, &key.name);
            let name = match known.iter().find(|name| **name == key.name) {
                Some(name) => *name,
                None => match known.iter().find(|name| name.eq_ignore_ascii_case(&key.name)) {
                    Some(name) => {
                        let what = format!("`{}` is read as `{name}`", key.name);
                        self.notes.warn(key.place, &here, what, format!("write `{name}`"));
                        *name
                    }
                    None => {
                        let remedy = match nearest(&key.name, known) {
                            Some(name) => format!("did you mean `{name}`?"),
                            None => format!("known fields: {}", known.join(", ")),
                        };
                        self.notes.wrong(key.place, &here, format!("unknown field `{}`", key.name), remedy);
                        continue;
                    }
                },
            };
            if found.iter().any(|(other, _)| *other == name) {
                self.notes.wrong(key.place, &here, format!("`{name}` is repeated"), "keep one of them");
                continue;
            }
            if !OPAQUE.contains(&name) {
                self.agrees(value, &here);
            }
            found.push((name, value));
        }
        Some(Fields { place: node.place, found })
    }
}

/// The known name that a mistyped word is nearest to; none when no name is like it.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_ascii_lowercase()), *name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

pub(super) fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}
