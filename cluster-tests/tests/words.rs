//! What operators and contributors read, held against the list of retired words: help, messages, logs, manuals
//! and the comments of the public `.proto` say what docs/contributing/glossary.md says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Each retired word or phrase, and what to say instead. The glossary has the same list.
const RETIRED: &[(&str, &str)] = &[
    ("known no more", "revoked"),
    ("trusted no more", "no longer trusted"),
    ("vote no more", "a learner"),
    ("who asks", "the caller"),
    ("stranger", "unauthenticated caller"),
    ("strangers", "unauthenticated callers"),
    ("door", "listener, service, or authentication layer"),
    ("doors", "listeners, services, or authentication layer"),
    ("door-keeper", "authentication layer"),
    ("asks for the role", "requires the role"),
    ("let in", "admitted, or allowed to log in"),
    ("lets in", "admits"),
    ("taken in", "adopted (an instance), or joined (a manager)"),
    ("is no YAML", "is not valid YAML"),
    ("is no JSON", "is not valid JSON"),
    ("is no address", "is not an address"),
    ("is no name", "is not a valid name"),
    ("is no token", "is not a valid token"),
    ("is no key", "is not a valid key"),
    ("is no text", "is not valid UTF-8"),
    ("oddly", "unexpectedly"),
    ("odd answer", "unexpected response (a bug)"),
    ("rubbish", "invalid data"),
    ("told at once", "reported together"),
    ("stands twice", "is repeated"),
    ("take it out", "remove it"),
    ("anew", "again"),
    ("in vain", "without success"),
    ("tells how it is", "reports metrics and health"),
    ("without a word", "without notice, or without a reply"),
    ("the lead", "leadership"),
    ("its lead", "its leadership"),
    ("given away", "transferred"),
    ("gives away", "transfers"),
    ("handed over", "transferred"),
    ("hands over", "transfers"),
    ("is given up", "is removed by autopilot"),
    ("given up for", "removed by autopilot"),
    ("bears the loss", "tolerates the loss"),
    ("bear the loss", "tolerate the loss"),
    ("bears more", "has a higher fault tolerance"),
    ("bears less", "has a lower fault tolerance"),
    ("founds", "bootstraps"),
    ("founded", "bootstrapped"),
    ("founding", "bootstrap"),
    ("not all managers know", "not supported by every manager yet"),
    ("holds against", "takes precedence over"),
    ("to its contract", "run the conformance tests"),
    ("what became of", "the outcome of, or resolve"),
    ("group settle", "group resolve"),
    ("--no-rescue", "--no-restart-managers"),
    ("speak with", "call"),
    ("past the managers", "without the managers"),
    ("belongs elsewhere", "was not created for this slot"),
    ("wish", "requested change"),
    ("wishes", "requested changes"),
    ("twin", "duplicate"),
    ("twins", "duplicates"),
    ("doomed", "terminating"),
    ("sighted", "listed"),
    ("untold", "with an unknown token"),
    ("the look", "the listing"),
    ("a look", "a listing"),
    ("one look", "one listing"),
    ("looks agree", "listings agree"),
    ("pulse", "metrics, or health sample"),
    ("sabotage", "failpoints"),
    ("mend", "repair"),
    ("nobody knows", "unknown"),
    ("grows old", "is upgraded"),
];

/// Whose code is read.
const CRATES: &[&str] = &["cli", "api", "manager", "plugins", "raft", "model"];

/// The list of retired words is where they may stand.
const GLOSSARY: &str = "docs/contributing/glossary.md";
const LIST: &str = "## Retired words";

/// A text with the line on which each of its bytes stands.
#[derive(Default)]
struct Text {
    words: String,
    lines: BTreeMap<usize, usize>,
}

impl Text {
    /// Adds a piece that stands on a line: what is cut by the end of a line is one phrase all the same.
    fn push(&mut self, line: usize, piece: &str) {
        for (below, piece) in piece.split('\n').enumerate() {
            self.lines.insert(self.words.len(), line + below);
            self.words.push_str(&piece.split_whitespace().collect::<Vec<_>>().join(" "));
            self.words.push(' ');
        }
    }

    fn of(file: &str) -> Text {
        let mut text = Text::default();
        text.push(1, file);
        text
    }

    /// The retired words in it: line, word, and what to say instead.
    fn retired(&self) -> Vec<(usize, &'static str, &'static str)> {
        let words = self.words.to_lowercase();
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let mut found = Vec::new();
        for (retired, instead) in RETIRED {
            for (at, _) in words.match_indices(&retired.to_lowercase()) {
                let end = at + retired.len();
                // That there is no token is another thing than that this is no token.
                if retired.starts_with("is no ") && words[..at].ends_with("there ") {
                    continue;
                }
                if !is_part(words[..at].chars().next_back()) && !is_part(words[end..].chars().next()) {
                    let line = self.lines.range(..=at).next_back().map_or(1, |(_, line)| *line);
                    found.push((line, *retired, *instead));
                }
            }
        }
        found
    }
}

/// The strings and the manuals of Rust code, tests left out. Each string is a text of its own, and so are the
/// lines of a manual that follow each other.
fn of_code(code: &str) -> Vec<Text> {
    let tokens: TokenStream = code.parse().expect("it is Rust");
    let mut texts = Vec::new();
    read(tokens, &mut texts, &mut None);
    texts
}

fn read(tokens: TokenStream, texts: &mut Vec<Text>, manual: &mut Option<usize>) {
    let mut rest = tokens.into_iter().peekable();
    let mut is_for_tests = false;
    let mut is_attribute = false;
    while let Some(token) = rest.next() {
        let was_attribute = std::mem::take(&mut is_attribute);
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                rest.next_if(|it| matches!(it, TokenTree::Punct(it) if it.as_char() == '!'));
                is_attribute = true;
            }
            TokenTree::Group(group) if was_attribute && group.delimiter() == Delimiter::Bracket => {
                match group.stream().to_string().as_str() {
                    it if it.starts_with("cfg") && it.contains("test") && !it.contains("not") => {
                        is_for_tests = true;
                    }
                    it if it.starts_with("doc =") => {
                        let literal = group.stream().into_iter().nth(2);
                        let Some(TokenTree::Literal(literal)) = literal else { continue };
                        let line = literal.span().start().line;
                        let follows = manual.replace(line).is_some_and(|before| before + 1 == line);
                        if !follows {
                            texts.push(Text::default());
                        }
                        let text = value(&literal.to_string()).unwrap_or_default();
                        texts.last_mut().expect("one was begun").push(line, &text);
                    }
                    _ => read(group.stream(), texts, manual),
                }
            }
            // What `#[cfg(test)]` stands before ends with it.
            TokenTree::Group(group) if is_for_tests && group.delimiter() == Delimiter::Brace => {
                is_for_tests = false;
            }
            TokenTree::Punct(punct) if is_for_tests && punct.as_char() == ';' => is_for_tests = false,
            _ if is_for_tests => {}
            TokenTree::Group(group) => read(group.stream(), texts, manual),
            TokenTree::Literal(literal) => {
                if let Some(text) = value(&literal.to_string()) {
                    let mut one = Text::default();
                    one.push(literal.span().start().line, &text);
                    texts.push(one);
                    *manual = None;
                }
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// What a string says; none when it is no string.
fn value(literal: &str) -> Option<String> {
    // A line that is cut by a backslash goes on at the same place; its number is that of its first line.
    syn::parse_str::<syn::LitStr>(literal).ok().map(|it| it.value())
}

/// The comments of a `.proto`.
fn of_proto(file: &str) -> Vec<Text> {
    let mut text = Text::default();
    for (at, line) in file.lines().enumerate() {
        if let Some((_, comment)) = line.split_once("//") {
            text.push(at + 1, comment);
        }
    }
    vec![text]
}

fn files(dir: &Path, ends: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.filter_map(|it| Some(it.ok()?.path())) {
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && name != "tests" && name != "target" {
            files(&path, ends, found);
        } else if name.ends_with(ends) && name != "tests.rs" && name != "build.rs" {
            found.push(path);
        }
    }
}

#[test]
fn what_people_read_has_no_retired_word_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let papers = ["README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG", "SECURITY"];
    let mut paths: Vec<_> = papers.iter().map(|it| root.join(format!("{it}.md"))).collect();
    files(&root.join("docs"), ".md", &mut paths);
    files(&root.join("api/proto"), ".proto", &mut paths);
    CRATES.iter().for_each(|it| files(&root.join(it), ".rs", &mut paths));
    paths.sort();
    let mut complaints = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&root).expect("it is below").display().to_string();
        let file = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let texts = match path.extension().and_then(|it| it.to_str()) {
            Some("rs") => of_code(&file),
            Some("proto") => of_proto(&file),
            _ if name == GLOSSARY => vec![Text::of(file.split(LIST).next().unwrap_or_default())],
            _ => vec![Text::of(&file)],
        };
        let retired = texts.iter().flat_map(Text::retired);
        complaints
            .extend(retired.map(|(line, word, instead)| format!("{name}:{line}: `{word}`: say `{instead}`")));
    }
    assert!(
        complaints.is_empty(),
        "{} retired words, see {GLOSSARY}:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

#[test]
fn the_glossary_lists_every_retired_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let glossary = fs::read_to_string(root.join(GLOSSARY)).expect("the glossary");
    let (_, list) = glossary.split_once(LIST).expect("it has the list");
    let missing: Vec<&str> =
        RETIRED.iter().map(|(word, _)| *word).filter(|it| !list.contains(&format!("`{it}`"))).collect();
    assert!(missing.is_empty(), "{GLOSSARY} does not list {missing:?}");
}

#[test]
fn every_place_that_the_glossary_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let glossary = fs::read_to_string(root.join(GLOSSARY)).expect("the glossary");
    let mut missing = Vec::new();
    for line in glossary.split(LIST).next().unwrap_or_default().lines() {
        let columns: Vec<&str> = line.split('|').collect();
        // What stands in backticks in the last of three columns: paths, and names that are found there.
        let [_, _, _, places, _] = columns[..] else { continue };
        let (mut folder, mut code) = (PathBuf::new(), String::new());
        for place in places.split('`').skip(1).step_by(2) {
            if place.contains('/') || place.ends_with(".rs") {
                // A file alone lies beside the one before it.
                let path = if place.contains('/') { root.join(place) } else { folder.join(place) };
                folder = path.with_file_name("");
                code.push_str(&fs::read_to_string(&path).unwrap_or_default());
                missing.extend((!path.exists()).then_some(place));
            } else {
                let name = place.rsplit("::").next().unwrap_or(place);
                missing.extend((!code.contains(name)).then_some(place));
            }
        }
    }
    assert!(missing.is_empty(), "{GLOSSARY} names places that are gone: {missing:?}");
}

#[test]
fn a_retired_word_is_found_where_people_read_and_nowhere_else() {
    let lines = |code: &str| -> Vec<(usize, &str)> {
        of_code(code).iter().flat_map(Text::retired).map(|(line, word, _)| (line, word)).collect()
    };
    for (code, found) in [
        ("/// Opens to a stranger.\nfn f() {}", vec![(1, "stranger")]),
        ("//! It is known\n//! no more.", vec![(1, "known no more")]),
        ("fn f() {\n    info!(%x, \"the lead is given away\") }", vec![(2, "the lead"), (2, "given away")]),
        ("#[command(about = \"Settle wishes\")] struct A;", vec![(1, "wishes")]),
        ("const A: &str = \"who \\\n    asks\";", vec![(1, "who asks")]),
        ("const A: &str = r#\"who asks\"#;", vec![(1, "who asks")]),
        ("/// There is no token; this is no token.\nfn f() {}", vec![(1, "is no token")]),
        // In the way of the words: a part of another word, a name, a comment, a test.
        ("/// The leader outdoors.\nfn stranger() {} // stranger", vec![]),
        (
            "#[cfg(test)]\nmod tests { const A: &str = \"stranger\"; }\nconst B: &str = \"twin\";",
            vec![(3, "twin")],
        ),
        ("#[cfg(test)] use a::b; /// A twin.\nfn f() {}", vec![(1, "twin")]),
    ] {
        assert_eq!(lines(code), found, "{code}");
    }
    let proto = of_proto("// For strangers.\nstring door = 1; // A twin.");
    let found: Vec<_> = proto.iter().flat_map(Text::retired).map(|(line, word, _)| (line, word)).collect();
    assert_eq!(found, [(1, "strangers"), (2, "twin")]);
}
