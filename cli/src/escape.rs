//! Texts from outside, such as ids and messages of plugins, so that they cannot control the terminal.

/// A text on one line: without line breaks, control characters, and characters that change the direction of
/// others.
pub(crate) fn line(text: &str) -> String {
    escape(text, |c| {
        let breaks_or_turns = matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}');
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c.is_control() || breaks_or_turns || turns
    })
}

/// A text of several lines, without other control characters.
pub(crate) fn lines(text: &str) -> String {
    escape(text, |c| c.is_control() && c != '\n')
}

/// The escapes are those of JSON, so that JSON stays JSON.
fn escape(text: &str, odd: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if !odd(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_text_from_outside_stays_on_its_line_and_out_of_control() {
        for (text, shown) in [
            ("i-1 ü€😀 \"quoted\" \\", "i-1 ü€😀 \"quoted\" \\"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[2J\0\u{7f}\u{9b}", "\\u001b[2J\\u0000\\u007f\\u009b"),
            ("a\u{202e}b\u{2028}", "a\\u202eb\\u2028"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("a\n\u{1b}b"), "a\n\\u001bb");
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let value = json!({ "id": "a\u{9b}\u{7f}\n\u{1b}" });
        let shown = lines(&value.to_string());
        assert!(!shown.contains(char::is_control));
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), value);
    }
}
