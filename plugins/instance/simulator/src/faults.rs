//! Faults on request: a test writes what shall go wrong into a file, and the next calls obey.

use std::path::PathBuf;
use std::time::Duration;

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refused, and nothing was done.
    Refuse,
    /// Failed, without saying what was done.
    Error,
    /// Never answered, nothing done.
    Hang,
    /// Done, and the answer is lost.
    Lose,
    /// Done after a while, unless the caller hangs up before.
    Slow(Duration),
    /// Done after a while, whether or not anybody still waits for it, and never answered.
    Late(Duration),
    /// A listing that shows nothing.
    Empty,
    /// A listing that shows half.
    Partial,
}

/// Reads `DIR/<call>`: a fault (`refuse`, `error`, `hang`, `lose`, `slow 2s`, `late 2s`, `empty`,
/// `partial`), optionally followed by `x N` for the next N calls; without it, until the file is removed.
#[derive(Clone)]
pub(crate) struct Faults {
    dir: Option<PathBuf>,
}

impl Faults {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    /// The fault for this call, if any; counted faults are used up.
    pub(crate) fn take(&self, call: &str) -> Option<Fault> {
        let path = self.dir.as_ref()?.join(call);
        let text = std::fs::read_to_string(&path).ok()?;
        let (what, count) = match text.trim().split_once(" x ") {
            Some((what, count)) => (what, count.trim().parse::<u64>().ok()),
            None => (text.trim(), None),
        };
        match count {
            Some(0) => return None,
            Some(1) => drop(std::fs::remove_file(&path)),
            Some(more) => drop(std::fs::write(&path, format!("{what} x {}", more - 1))),
            None => {}
        }
        let after = |span: &str| model::Millis::parse_go(span).ok().map(|it| Duration::from_millis(it.0));
        match what.split_once(' ').unwrap_or((what, "")) {
            ("refuse", _) => Some(Fault::Refuse),
            ("error", _) => Some(Fault::Error),
            ("hang", _) => Some(Fault::Hang),
            ("lose", _) => Some(Fault::Lose),
            ("empty", _) => Some(Fault::Empty),
            ("partial", _) => Some(Fault::Partial),
            ("slow", span) => after(span).map(Fault::Slow),
            ("late", span) => after(span).map(Fault::Late),
            (other, _) => {
                tracing::warn!(fault = other, "this fault is not known");
                None
            }
        }
    }
}
