//! JSON values written as YAML that readers of version 1.1 and 1.2 take for the same.

use serde_json::Value;

/// The value as a YAML document of lines. Texts that a reader could take for anything else are quoted.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    node(&mut out, value, 0);
    out.trim_start_matches([' ', '\n']).to_owned() + "\n"
}

/// What follows a key, a dash, or nothing.
fn node(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                line(out, indent);
                out.push_str(&scalar(key));
                out.push(':');
                // A list stands under its key without more indentation, as Kubernetes writes it.
                let inner = if value.is_array() { indent } else { indent + 2 };
                node(out, value, inner);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                line(out, indent);
                out.push('-');
                let mut inner = String::new();
                node(&mut inner, item, indent + 2);
                // The first line of a map or a list goes on after the dash.
                match item {
                    Value::Object(_) | Value::Array(_) => {
                        out.push(' ');
                        out.push_str(inner.trim_start_matches([' ', '\n']));
                    }
                    _ => out.push_str(&inner),
                }
            }
        }
        Value::String(text) if is_block(text) => {
            out.push_str(if text.ends_with('\n') { " |" } else { " |-" });
            for text in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                match text {
                    "" => out.push('\n'),
                    text => {
                        line(out, indent.max(2));
                        out.push_str(text);
                    }
                }
            }
        }
        Value::String(text) => {
            out.push(' ');
            out.push_str(&scalar(text));
        }
        // JSON of one line is YAML.
        other => {
            out.push(' ');
            out.push_str(&other.to_string());
        }
    }
}

fn line(out: &mut String, indent: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Whether a text is written line by line: its first line must show how far it is indented, and nothing that
/// readers fold, drop or refuse may stand in it.
fn is_block(text: &str) -> bool {
    let is_plain =
        |c: char| c == '\n' || c == '\t' || matches!(c, ' '..='~' | '\u{a1}'..='\u{d7ff}') && is_shown(c);
    let first = text.chars().next();
    text.contains('\n')
        && first.is_some_and(|c| !c.is_whitespace())
        && text.chars().all(is_plain)
        && text.split('\n').all(|line| !line.ends_with([' ', '\t']))
        && !text.ends_with("\n\n")
}

/// Not a line end of Unicode, which YAML 1.1 breaks lines at.
fn is_shown(c: char) -> bool {
    !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn scalar(text: &str) -> String {
    if is_bare(text) { text.to_owned() } else { quoted(text) }
}

/// Whether a text without quotes is that text to every reader: words, paths and names that begin with a letter
/// or a slash.
fn is_bare(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let mut all = text.chars();
    let first = all.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let inner = first && all.all(|c| word(c) || c == ' ' || c == ':' || c == ',' || c == '=');
    let reserved = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    inner
        && !text.contains(": ")
        && !text.ends_with([' ', ':'])
        && !reserved.iter().any(|it| it.eq_ignore_ascii_case(text))
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            '\u{a1}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' if is_shown(c) => out.push(c),
            '\u{10000}'.. => out.push(c),
            other => out.push_str(&format!("\\u{:04x}", u32::from(other))),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use model::draft::{Yaml, to_json};
    use rand::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_what_people_write() {
        let value = json!({
            "kind": "group",
            "properties": {
                "Init": ["#!/bin/sh\necho hi\n", "one"],
                "Empty": {},
                "None": [],
                "Size": 3,
                "Nested": [{"a": 1, "b": [true, null]}, [1]],
            },
        });
        assert_eq!(
            write(&value),
            "kind: group\nproperties:\n  Empty: {}\n  Init:\n  - |\n    #!/bin/sh\n    echo hi\n  - one\n  \
             Nested:\n  - a: 1\n    b:\n    - true\n    - null\n  - - 1\n  None: []\n  Size: 3\n"
        );
    }

    #[test]
    fn what_readers_take_for_something_else_is_quoted() {
        for text in [
            "yes",
            "on",
            "No",
            "y",
            "N",
            "1_000",
            "010",
            "12:30:00",
            "=",
            "<<",
            "~",
            "",
            "null",
            "1e3",
            "0x1F",
            ".5",
            "2026-11-20",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a",
            "[a",
            "a ",
            " a",
            "?",
            "|",
            ">",
            "'a",
            "\"a",
            "+1",
            "-",
            "a:",
            "\u{2028}",
            "\u{85}",
            "\u{7f}",
        ] {
            let yaml = write(&json!({ "a": text }));
            assert!(yaml.starts_with("a: \""), "{text:?} gave {yaml}");
        }
        assert_eq!(write(&json!({"on": "v1.2", "path": "/a b/c"})), "\"on\": v1.2\npath: /a b/c\n");
    }

    #[test]
    fn every_value_is_read_again_by_both_versions() {
        let mut rng = StdRng::seed_from_u64(15);
        let pieces = [
            "a",
            "yes",
            "1",
            "0",
            " ",
            "\n",
            "\t",
            ": ",
            "#",
            "-",
            "'",
            "\"",
            "\\",
            "\u{e4}",
            "\u{2028}",
            "\u{1f600}",
            "\u{1}",
            "{",
            "]",
            ",",
            "&",
            "*",
            "!",
            "|",
            ">",
            "%",
            "---",
            "...",
            "\r",
            "<<",
            "=",
            "_",
            ".",
            "\u{feff}",
        ];
        fn any(rng: &mut StdRng, pieces: &[&str], depth: usize) -> Value {
            let text = |rng: &mut StdRng| {
                let n = rng.random_range(0..5);
                (0..n).map(|_| *pieces.choose(rng).expect("a piece")).collect::<String>()
            };
            match rng.random_range(0..if depth == 0 { 5 } else { 8 }) {
                0 => Value::Null,
                1 => Value::Bool(rng.random()),
                2 => json!(rng.random::<i32>()),
                3 | 4 => Value::String(text(rng)),
                5 => (0..rng.random_range(0..4)).map(|_| any(rng, pieces, depth - 1)).collect(),
                _ => {
                    let n = rng.random_range(0..4);
                    Value::Object((0..n).map(|_| (text(rng), any(rng, pieces, depth - 1))).collect())
                }
            }
        }
        for _ in 0..20_000 {
            let value = json!({ "root": any(&mut rng, &pieces, 4) });
            let yaml = write(&value);
            for version in [Yaml::V1_1, Yaml::V1_2] {
                let read =
                    to_json("f", yaml.as_bytes(), version).unwrap_or_else(|e| panic!("{e}\n{yaml}\n{value}"));
                let read: Value = serde_json::from_str(&read.json).expect("JSON");
                assert_eq!(read, value, "{version:?}\n{yaml}");
            }
        }
    }
}
