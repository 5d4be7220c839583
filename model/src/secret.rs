//! References to secrets: `secret://NAME` in the properties of a plugin refers to a value that is stored
//! apart from the spec. The fingerprint of a template covers the reference, never the value.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::access::Secret;
use crate::part::{Opaque, Part};

/// The prefix of a reference.
pub const SCHEME: &str = "secret://";

/// The longest name of a secret, in characters.
pub const LONGEST_NAME: usize = 64;

/// The largest value of a secret, in bytes.
pub const LARGEST: usize = 64 << 10;

/// The name of a secret: at most 64 letters, digits and any of `-` `_` `.`; a letter or a digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(Arc<str>);

/// A reference to a secret that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub SecretName);

impl SecretName {
    /// Validates a name.
    pub fn check(text: &str) -> Result<Self, String> {
        if text.len() <= LONGEST_NAME && named(text) == text.len() && !text.is_empty() {
            return Ok(Self(Arc::from(text)));
        }
        Err(format!(
            "`{text}` is not a valid name for a secret: use at most {LONGEST_NAME} letters, digits and any of \
             - _ . with a letter or a digit at both ends"
        ))
    }

    /// A name that was validated before.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The length of the name at the beginning of a text, without a trailing full stop.
fn named(text: &str) -> usize {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    let name = text[..end].trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) { name.len() } else { 0 }
}

/// The references in a text: begin, end and name.
fn references(text: &str) -> impl Iterator<Item = (usize, usize, SecretName)> {
    text.match_indices(SCHEME).filter_map(|(at, _)| {
        let from = at + SCHEME.len();
        let to = from + named(&text[from..]);
        (to > from).then(|| (at, to, SecretName::new(&text[from..to])))
    })
}

/// The secrets that these properties reference.
pub fn named_in(properties: &Opaque) -> BTreeSet<SecretName> {
    references(properties.as_json()).map(|(_, _, name)| name).collect()
}

/// The part with every reference replaced by its value, and these secrets.
pub fn filled<'a>(
    part: &Part,
    value: impl Fn(&SecretName) -> Option<&'a Secret>,
) -> Result<(Part, Vec<(SecretName, Secret)>), Missing> {
    let text = part.properties.as_json();
    let (mut whole, mut from, mut held) = (String::new(), 0, Vec::new());
    for (at, to, name) in references(text) {
        let secret = value(&name).ok_or_else(|| Missing(name.clone()))?;
        whole.push_str(&text[from..at]);
        whole.push_str(&escaped(&String::from_utf8_lossy(secret.expose())));
        from = to;
        held.push((name, secret.clone()));
    }
    if held.is_empty() {
        return Ok((part.clone(), held));
    }
    whole.push_str(&text[from..]);
    Ok((Part { plugin: part.plugin.clone(), properties: Opaque::from_json(whole) }, held))
}

/// As it stands within a JSON string (RFC 8259 §7).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            c if c < ' ' => escaped.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The shortest line of a secret that is redacted by itself: a shorter one may occur anywhere by chance.
const TELLING: usize = 8;

/// A text with these secrets redacted: the message of a plugin may contain them, in the notation of some
/// program.
pub fn redacted(text: &str, held: &[(SecretName, Secret)]) -> String {
    if text.is_empty() || held.is_empty() {
        return text.to_owned();
    }
    let mut forms: Vec<(String, &SecretName)> = Vec::new();
    for (name, secret) in held {
        let value = String::from_utf8_lossy(secret.expose()).into_owned();
        let lines: Vec<String> =
            value.lines().map(str::trim).filter(|line| line.len() >= TELLING).map(str::to_owned).collect();
        for plain in std::iter::once(value).chain(lines) {
            let json = serde_json::to_string(&plain).unwrap_or_default();
            let debug = format!("{plain:?}");
            let within = |quoted: &str| quoted.trim_matches('"').to_owned();
            forms.extend([escaped(&plain), within(&json), within(&debug), plain].map(|form| (form, name)));
        }
    }
    // A part of one must not take what the whole would be known by.
    forms.sort_by_key(|(form, _)| std::cmp::Reverse(form.len()));
    let mut text = text.to_owned();
    for (form, name) in forms.iter().filter(|(form, _)| !form.is_empty()) {
        if text.contains(form.as_str()) {
            text = text.replace(form.as_str(), &format!("[secret {name}]"));
        }
    }
    without_cut_secret(text, &forms)
}

/// A long message is cut where it arrives (decision 48), perhaps within a secret.
fn without_cut_secret(mut text: String, forms: &[(String, &SecretName)]) -> String {
    let Some(kept) = text.strip_suffix('…') else { return text };
    let begun =
        |form: &str| form.char_indices().map(|(at, _)| at).rev().find(|at| kept.ends_with(&form[..*at]));
    let longest = forms.iter().filter_map(|(form, name)| Some((begun(form)?, name))).max_by_key(|it| it.0);
    if let Some((length, name)) = longest.filter(|(length, _)| *length > 0) {
        let end = kept.len() - length;
        text.truncate(end);
        text.push_str(&format!("[secret {name}]…"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(json: &str) -> Part {
        Part { plugin: "p".into(), properties: Opaque::from_json(json) }
    }

    #[test]
    fn a_reference_is_replaced_by_its_value_wherever_it_stands_in_a_text() {
        let password = Secret::new(&b"pa\"ss\\\n\xc3\xa4"[..]);
        let value = |name: &SecretName| ["db", "a.b-c"].contains(&name.as_str()).then_some(&password);
        let written = r#"{"env":["PW=secret://db","see secret://a.b-c."],"url":"secret://","n":1.0}"#;
        let (whole, held) = filled(&part(written), value).expect("both are there");
        let expected = r#"{"env":["PW=pa\"ss\\\u000aä","see pa\"ss\\\u000aä."],"url":"secret://","n":1.0}"#;
        assert_eq!(whole.properties.as_json(), expected);
        assert_eq!(held.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["db", "a.b-c"]);
        let unknown = filled(&part(r#"["secret://x/y"]"#), value);
        assert_eq!(unknown, Err(Missing(SecretName::new("x"))));
        let names: Vec<_> = named_in(&part(written).properties).into_iter().collect();
        assert_eq!(names, [SecretName::new("a.b-c"), SecretName::new("db")]);
        // Nothing to replace: byte for byte.
        assert_eq!(filled(&part("{ }"), value).expect("there is none").0.properties.as_json(), "{ }");
    }

    #[test]
    fn a_secret_is_found_in_what_a_plugin_says() {
        let held = [(SecretName::new("db"), Secret::new(&b"a\"b"[..]))];
        assert_eq!(redacted(r#"no: {"pw":"a\"b"}, a"b"#, &held), r#"no: {"pw":"[secret db]"}, [secret db]"#);
        // A key of several lines, as JSON, as Rust and as it is; and one secret that is part of another.
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\t9w0BAQ\nshort\n-----END KEY-----";
        let held = [("k", key), ("part", "pass"), ("whole", "password123")]
            .map(|(name, value)| (SecretName::new(name), Secret::new(value.as_bytes())));
        let json = serde_json::to_string(key).expect("a text");
        for told in [key.to_owned(), json, format!("{key:?}"), "...MIIEvQIBADANBg\t9w0BAQ...".to_owned()] {
            let clean = redacted(&format!("invalid: {told}, password123"), &held);
            assert!(!clean.contains("MIIE") && !clean.contains("word123"), "{clean}");
        }
    }

    #[test]
    fn a_secret_that_was_cut_is_found_too() {
        let held = [(SecretName::new("db"), Secret::new(&b"a\"bcdefgh"[..]))];
        for (told, clean) in [
            ("no: a\"bcd…", "no: [secret db]…"),
            (r#"no: {"pw":"a\"bc…"#, r#"no: {"pw":"[secret db]…"#),
            ("no: xyz…", "no: xyz…"),
            ("no: a\"bcd", "no: a\"bcd"),
        ] {
            assert_eq!(redacted(told, &held), clean);
        }
    }

    #[test]
    fn a_name_can_be_told_apart_from_what_stands_around_it() {
        for good in ["a", "db", "reg.example-1_x", "9", &"a".repeat(64)] {
            assert_eq!(SecretName::check(good).expect("it is a name").as_str(), good);
        }
        for bad in ["", "-a", "a-", "a/b", "a b", ".", "ä", &"a".repeat(65)] {
            assert!(SecretName::check(bad).is_err(), "{bad}");
        }
    }
}
