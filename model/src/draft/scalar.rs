//! What the scalars of YAML mean.

use std::borrow::Cow;

use saphyr_parser::ScalarStyle;

use super::tree::Value;

/// Resolves a scalar by YAML 1.2's core schema: `y`, `on` and `no` are strings, as they look.
pub(super) fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&str>) -> Result<Value, String> {
    let string = |text: Cow<'_, str>| Ok(Value::String(text.into_owned()));
    match tag {
        Some("tag:yaml.org,2002:str" | "!") => return string(text),
        Some(other) if !other.starts_with("tag:yaml.org,2002:") => {
            return Err(format!("the tag `{other}` is not supported"));
        }
        _ => {}
    }
    if style != ScalarStyle::Plain {
        return string(text);
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(&text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(&*text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("`{text}` cannot be written as JSON"));
    }
    match number(&text) {
        Some(number) => Ok(Value::Number(number)),
        None => string(text),
    }
}

/// The JSON text of a YAML core-schema number; the author's own digits where JSON allows them.
fn number(text: &str) -> Option<String> {
    let radix = |digits: &str, radix| u128::from_str_radix(digits, radix).ok().map(|n| n.to_string());
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
