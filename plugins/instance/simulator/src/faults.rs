//! Fault injection: a test writes a fault into a file, and the next calls fail accordingly.

use std::path::PathBuf;
use std::time::Duration;

/// A fault of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refused; nothing is done.
    Refuse,
    /// Failed with an unknown outcome.
    Error,
    /// No reply; nothing is done.
    Hang,
    /// Done; the reply is lost.
    Lose,
    /// Done after a delay, unless the caller disconnects before.
    Slow(Duration),
    /// Done after a delay, even if the caller has disconnected; no reply.
    Late(Duration),
    /// An empty listing.
    Empty,
    /// Half of the listing.
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
                tracing::warn!(fault = other, "unknown fault");
                None
            }
        }
    }
}
