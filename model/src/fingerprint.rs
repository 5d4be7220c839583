//! The configuration hash, compatible with Docker's InfraKit (plugin-protocol appendix B).
//!
//! Existing instances have it as a tag: if it were different, every adopted fleet would be replaced.

use data_encoding::BASE32_NOPAD;
use serde_json::Value;
use sha1::{Digest, Sha1};

use crate::part::Part;
use crate::spec::Template;

impl Template {
    /// The value of the tag `infrakit.config.hash`, as in Docker's InfraKit.
    pub fn fingerprint(&self) -> String {
        of(&self.instance, &self.flavor)
    }
}

/// 32 characters of `[a-z2-7]` for an instance block and a flavor block.
pub fn of(instance: &Part, flavor: &Part) -> String {
    let mut sha = Sha1::new();
    for part in [instance, flavor] {
        let properties = serde_json::from_str(part.properties.as_json()).unwrap_or(Value::Null);
        let mut text = String::new();
        let block = serde_json::json!({ "Plugin": part.plugin.as_str(), "Properties": properties });
        write_value(&mut text, &block, 0);
        sha.update(text.as_bytes());
    }
    BASE32_NOPAD.encode(&sha.finalize()).to_ascii_lowercase()
}

/// Go's `MarshalIndent` with a prefix and an indent of two spaces each: the prefix begins every
/// line but the first.
fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(items) if items.is_empty() => out.push_str("[]"),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                new_line(out, i, depth + 1);
                write_value(out, item, depth + 1);
            }
            new_line(out, 0, depth);
            out.push(']');
        }
        Value::Object(map) if map.is_empty() => out.push_str("{}"),
        Value::Object(map) => {
            out.push('{');
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            for (i, (key, item)) in keys.into_iter().enumerate() {
                new_line(out, i, depth + 1);
                write_string(out, key);
                out.push_str(": ");
                write_value(out, item, depth + 1);
            }
            new_line(out, 0, depth);
            out.push('}');
        }
    }
}

fn new_line(out: &mut String, place: usize, depth: usize) {
    if place > 0 {
        out.push(',');
    }
    out.push('\n');
    for _ in 0..=depth {
        out.push_str("  ");
    }
}

/// The shortest digits that give back the double; plain from 1e-6 up to 1e21.
fn write_number(out: &mut String, number: &serde_json::Number) {
    let double = number.as_f64().unwrap_or(0.0);
    let size = double.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{double:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                out.push_str(digits);
                out.push_str("e+");
                out.push_str(exponent);
            }
            _ => out.push_str(&text),
        }
    } else {
        out.push_str(&format!("{double}"));
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::part::Opaque;

    fn part(plugin: &str, properties: &str) -> Part {
        Part { plugin: plugin.into(), properties: Opaque::from_json(properties) }
    }

    /// Every vector was seen as a tag on instances made by InfraKit (plugin-protocol appendix B).
    #[test]
    fn the_hash_is_infrakits_bit_for_bit() {
        let x = part("vanilla", r#"{"Init":["x"]}"#);
        let hi = part("vanilla", r#"{"Init":["echo hi"],"Tags":{"tier":"w"}}"#);
        let odd = r#"{"z":1.0,"a":"<b>&","big":12345678901234567890,"f":0.1,"e":1e21,"u":"\u00e9\u2028","neg":-0.0,"sm":1e-7,"n":null,"arr":[1,{"k":2}],"emp":{},"ea":[]}"#;
        for (instance, flavor, hash) in [
            (part("file", r#"{"v":1}"#), &x, "txu5ozkogtjsxququavibjaa7zcxhcd4"),
            (part("file", r#"{"v":2}"#), &x, "v3fo6oafg32djedro6ctwk5rtibah4dj"),
            (part("simulator/compute", r#"{"image":"x"}"#), &hi, "oym2qc54gljibhx5suoir7whl66pb6ub"),
            (part("simulator/compute", r#"{"i":1}"#), &x, "ihozh4s4dfqrur2dvm7nb7tcoxly5jkw"),
            (
                part("instance-file", r#"{"a":1}"#),
                &part("flavor-vanilla", r#"{"Init":["x"]}"#),
                "win6opkd37uv3vqsyk4vh5gziqa32nnr",
            ),
            (part("file", odd), &x, "7a5lpbzonixrmuf5zmosbaxhvxn2ggym"),
        ] {
            assert_eq!(of(&instance, flavor), hash, "{instance:?}");
        }
    }

    #[test]
    fn the_order_of_keys_does_not_matter_but_every_value_does() {
        let flavor = part("vanilla", "{}");
        let hash = |properties| of(&part("file", properties), &flavor);
        assert_eq!(hash(r#"{"a":1,"b":[2]}"#), hash(r#"{ "b" : [ 2 ], "a" : 1.0 }"#));
        for other in [r#"{"a":2,"b":[2]}"#, r#"{"a":1,"b":[]}"#, r#"{"a":"1","b":[2]}"#, "null"] {
            assert_ne!(hash(r#"{"a":1,"b":[2]}"#), hash(other), "{other}");
        }
    }
}
