//! Data to the standard output: tables for people, versioned JSON and YAML for programs.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::escape;
use crate::global::{API_VERSION, Format};
use crate::report::Failure;
use crate::yaml;

/// Writes one line, with everything escaped that would make it another one or control the terminal: ids and
/// messages come from plugins.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    block(&escape::line(text))
}

/// Writes lines; within them, what controls the terminal is escaped. If the reader has closed the pipe, the
/// program exits quietly.
pub(crate) fn block(text: &str) -> Result<(), Failure> {
    raw(format!("{}\n", escape::lines(text)).as_bytes())
}

/// Writes text of this program, as it is.
#[allow(clippy::disallowed_methods)]
pub(crate) fn raw(text: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => {
            result.map_err(|error| Failure::new("the output cannot be written").cause(error.to_string()))
        }
    }
}

/// Prints one object as JSON or YAML, with its version and kind; false if the format is a table.
pub(crate) fn object(format: Format, kind: &str, mut value: Value) -> Result<bool, Failure> {
    if let Value::Object(map) = &mut value {
        map.insert("apiVersion".into(), json!(API_VERSION));
        map.insert("kind".into(), json!(kind));
    }
    match format {
        Format::Table | Format::Wide | Format::Name => return Ok(false),
        Format::Json if std::io::stdout().is_terminal() => block(&format!("{value:#}"))?,
        Format::Json => block(&value.to_string())?,
        Format::Yaml => {
            block(&format!("---\n{}", yaml::write(&value).trim_end()))?;
        }
    }
    Ok(true)
}

/// Prints aligned columns under a header, or the names alone: the column `NAME`, else the first.
pub(crate) fn table(
    format: Format,
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Result<(), Failure> {
    let text = rows_of(format, header, rows);
    if text.is_empty() { Ok(()) } else { block(&text) }
}

/// The lines of such a table.
pub(crate) fn rows_of(
    format: Format,
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    if format != Format::Name {
        return aligned(header, rows);
    }
    let at = header.iter().position(|it| *it == "NAME").unwrap_or_default();
    let name = |row: Vec<String>| escape::line(row.get(at).map_or("", String::as_str));
    let mut names: Vec<String> = rows.into_iter().map(name).collect();
    names.dedup();
    names.join("\n")
}

/// Shows lines that replace those of before: on a terminal in their place, as much as fits; otherwise one block
/// after the other.
pub(crate) fn redraw(text: &str) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() {
        return block(&format!("{text}\n"));
    }
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    // A terminal without a size says 0.
    let or = |said: Option<u16>, usual| said.filter(|it| *it > 0).map_or(usual, usize::from);
    let (rows, columns) = (or(size.map(|it| it.ws_row), 24), or(size.map(|it| it.ws_col), 80));
    let screen = escape::lines(text);
    raw(format!("\x1b[H\x1b[2J{}", fitted(&screen, rows, columns)).as_bytes())
}

/// The lines that fit, each cut to the width, and how many more there are.
fn fitted(text: &str, rows: usize, columns: usize) -> String {
    let cut = |line: &str| line.chars().take(columns.max(1)).collect::<String>();
    let all: Vec<String> = text.lines().map(cut).collect();
    // The cursor stands in the line below.
    let space = rows.saturating_sub(1).max(2);
    if all.len() <= space {
        return all.join("\n") + "\n";
    }
    let more = all.len() - (space - 1);
    format!("{}\n{}\n", all[..space - 1].join("\n"), cut(&format!("and {more} more lines")))
}

/// Says what was done: a sentence or a few for people, one object for programs.
pub(crate) fn done(format: Format, text: &str) -> Result<(), Failure> {
    if object(format, "Done", json!({ "message": text }))? { Ok(()) } else { block(text) }
}

pub(crate) fn aligned(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| escape::line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// How long ago a time was, for people.
pub(crate) fn ago(at_ms: u64) -> String {
    format!("{} ago", span(seconds_since(at_ms)))
}

/// The same, when it was longer ago than so many seconds.
pub(crate) fn ago_if_longer(at_ms: u64, seconds: i64) -> Option<String> {
    (seconds_since(at_ms) > seconds).then(|| ago(at_ms))
}

fn seconds_since(at_ms: u64) -> i64 {
    (jiff::Timestamp::now().as_millisecond() - at_ms as i64).max(0) / 1000
}

/// How long it is until then; nothing when it has passed.
pub(crate) fn from_now(at_ms: u64) -> Option<String> {
    let left = at_ms as i64 - jiff::Timestamp::now().as_millisecond();
    (left > 0).then(|| span((left + 999) / 1000))
}

fn span(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A condition of a group or a manager.
pub(crate) fn condition_json(it: &api::proto::Condition) -> Value {
    json!({
        "type": it.r#type,
        "status": it.status,
        "reason": it.reason,
        "message": it.message,
        "since": it.since_ms.map(rfc3339),
    })
}

/// A time for programs: RFC 3339 in UTC.
pub(crate) fn rfc3339(at_ms: u64) -> String {
    jiff::Timestamp::from_millisecond(at_ms as i64)
        .map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_stays_in_its_row() {
        let table = aligned(&["ID", "WHY"], [vec!["a\nb".into(), "\u{1b}[31mred".into()]]);
        assert_eq!(table, "ID    WHY\na\\nb  \\u001b[31mred");
    }

    #[test]
    fn a_screen_has_what_fits_and_says_what_does_not() {
        assert_eq!(fitted("one\ntwo\nthree", 4, 80), "one\ntwo\nthree\n");
        assert_eq!(fitted("one\ntwo\nthree", 3, 12), "one\nand 2 more l\n");
        assert_eq!(fitted("long line\nb", 24, 4), "long\nb\n");
    }
}
