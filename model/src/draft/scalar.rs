//! What the scalars and tags of YAML mean: to YAML 1.2, and to the reader of Docker's InfraKit, which read
//! YAML 1.1 (yaml.v2; go-cli.md, Strictness).

use std::borrow::Cow;

use saphyr_parser::{ScalarStyle, Tag};

use super::tree::Value;

/// One scalar by both readings; an error says why a reading has no meaning for it.
pub(super) struct Readings {
    /// By YAML 1.2's core schema: `y`, `on` and `no` are strings, as they look.
    pub(super) newer: Result<Value, String>,
    /// By YAML 1.1, as InfraKit read it; `None` if it is the same.
    pub(super) older: Option<Value>,
    /// Whether the two mean different things: `1.0` and `1` do not.
    pub(super) is_told: bool,
}

/// The prefix of the tags of YAML itself.
const CORE: &str = "tag:yaml.org,2002:";

/// The tag as an author writes it.
pub(super) fn written(tag: &Tag) -> String {
    match tag.handle.as_str() {
        CORE => format!("!!{}", tag.suffix),
        handle => format!("{handle}{}", tag.suffix),
    }
}

/// The meaning of a tag on a list or a map: an error if only InfraKit's reader, which ignores tags there,
/// takes it.
pub(super) fn collection_tag(tag: Option<&Tag>, own: &str) -> Result<(), String> {
    match tag.map(written) {
        None => Ok(()),
        Some(tag) if tag == "!" || tag == own => Ok(()),
        Some(tag) => Err(unsupported(&tag)),
    }
}

fn unsupported(tag: &str) -> String {
    format!("the tag `{tag}` is not supported")
}

/// Resolves a scalar.
pub(super) fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Readings {
    let string = || Value::String(text.to_owned());
    let same = |value| Readings { newer: Ok(value), older: None, is_told: false };
    let never = |what| Readings { newer: Err(what), older: None, is_told: false };
    let tag = tag.map(written);
    match tag.as_deref() {
        None if style == ScalarStyle::Plain => {
            let older = older_plain(text);
            match newer_plain(text) {
                Ok(newer) => {
                    let is_told = !means_the_same(&newer, &older);
                    Readings { newer: Ok(newer), older: Some(older), is_told }
                }
                Err(what) => never(what),
            }
        }
        None | Some("!" | "!!str") => same(string()),
        Some("!!binary") => {
            let decoded = data_encoding::BASE64.decode(without_line_ends(text).as_bytes());
            match decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(decoded) => Readings {
                    newer: Err("the tag `!!binary` is of YAML 1.1".to_owned()),
                    older: Some(Value::String(decoded)),
                    is_told: true,
                },
                None => never("`!!binary` is not base64 of UTF-8 text".to_owned()),
            }
        }
        Some(core @ ("!!int" | "!!float" | "!!bool" | "!!null")) => {
            let fits = |value: &Value| match value {
                Value::Number(number) => core == "!!float" || core == "!!int" && is_whole(number),
                Value::Bool(_) => core == "!!bool",
                Value::Null => core == "!!null",
                Value::String(_) | Value::Sequence(_) | Value::Mapping(_) => false,
            };
            let newer = newer_plain(text).ok().filter(fits);
            let older = Some(older_plain(text)).filter(fits);
            let is_told = match (&newer, &older) {
                (Some(newer), Some(older)) => !means_the_same(newer, older),
                _ => true,
            };
            Readings {
                newer: newer.ok_or_else(|| format!("`{text}` is no {}, as its tag says", &core[2..])),
                older,
                is_told,
            }
        }
        Some(tag) => Readings { newer: Err(unsupported(tag)), older: Some(string()), is_told: true },
    }
}

/// The name that a key gets by both readings: names of JSON are strings.
pub(super) fn key(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
) -> Result<(String, Option<String>), String> {
    let Readings { newer, older, .. } = scalar(text, style, tag);
    let older = match older.or_else(|| newer.as_ref().ok().cloned()) {
        None | Some(Value::Null | Value::Sequence(_) | Value::Mapping(_)) => text.to_owned(),
        Some(Value::Bool(it)) => it.to_string(),
        Some(Value::Number(number)) if is_whole(&number) => number,
        // InfraKit's reader wrote such a key with the digits of a float of 32 bits, large ones with an exponent.
        Some(Value::Number(number)) => match number.parse::<f32>() {
            Ok(float) if float == 0.0 || (1e-4..1e6).contains(&float.abs()) => float.to_string(),
            _ => return Err("a key is a fraction".to_owned()),
        },
        Some(Value::String(text)) => text,
    };
    newer?;
    Ok((text.to_owned(), (older != text).then_some(older)))
}

fn without_line_ends(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_whitespace) { text.split_whitespace().collect() } else { text.into() }
}

fn is_whole(number: &str) -> bool {
    number.strip_prefix('-').unwrap_or(number).bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether two readings are one value; numbers by their value, as programs read them.
fn means_the_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Number(a), Value::Number(b)) if is_whole(a) && is_whole(b) => {
            let digits = |number: &str| if number == "-0" { "0".to_owned() } else { number.to_owned() };
            digits(a) == digits(b)
        }
        (Value::Number(a), Value::Number(b)) => a.parse::<f64>().ok() == b.parse::<f64>().ok(),
        _ => false,
    }
}

fn newer_plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("`{text}` cannot be written as JSON"));
    }
    Ok(match number(text) {
        Some(number) => Value::Number(number),
        None => Value::String(text.to_owned()),
    })
}

/// The words of yaml.v2 for true and false, beside those of YAML 1.2.
const TRUE: [&str; 8] = ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON"];
const FALSE: [&str; 8] = ["n", "N", "no", "No", "NO", "off", "Off", "OFF"];

fn older_plain(text: &str) -> Value {
    if TRUE.contains(&text) {
        return Value::Bool(true);
    }
    if FALSE.contains(&text) {
        return Value::Bool(false);
    }
    let newer = || newer_plain(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
        return newer();
    }
    let plain = text.replace('_', "");
    if let Some(whole) = go_integer(&plain) {
        return Value::Number(whole);
    }
    // Neither a fraction nor a number with an exponent has a prefix: one that is too large is a text, like a float
    // that is infinite.
    let float = number(&plain).filter(|_| !plain.contains(['x', 'o']));
    match float.and_then(|digits| Some((digits.parse::<f64>().ok().filter(|it| it.is_finite())?, digits))) {
        // Go writes a float without a fraction as an integer, up to this size.
        Some((float, _)) if float.fract() == 0.0 && float.abs() < 1e21 => {
            Value::Number(format!("{float:.0}"))
        }
        Some((_, digits)) => Value::Number(digits),
        None => Value::String(text.to_owned()),
    }
}

/// An integer of 64 bits as Go's `ParseInt` and `ParseUint` take it with base 0: `010` is 8.
fn go_integer(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0b") => (&lower[2..], 2),
        Some("0o") => (&lower[2..], 8),
        _ if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    // `from_str_radix` takes a sign of its own.
    if digits.starts_with(['-', '+']) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if sign == "-" { -value } else { value };
    let largest = if sign.is_empty() { i128::from(u64::MAX) } else { i128::from(i64::MAX) };
    (i128::from(i64::MIN)..=largest).contains(&value).then(|| value.to_string())
}

/// The JSON text of a YAML core-schema number; the author's own digits where JSON allows them.
fn number(text: &str) -> Option<String> {
    let radix = |digits: &str, radix| match digits.starts_with('+') {
        true => None,
        false => u128::from_str_radix(digits, radix).ok().map(|n| n.to_string()),
    };
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
