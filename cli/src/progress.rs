//! The progress of a group: one line that is redrawn on a terminal, lines of a log otherwise.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use api::proto as pb;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::escape;

/// In a log, a cause is told when it is new, and then at most this often.
const AT_MOST_EVERY: Duration = Duration::from_secs(10);
/// How often the line of a terminal is redrawn in a second, at most.
const REDRAWS: u8 = 5;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    group: String,
    began: Instant,
    log: Log,
}

/// When each cause was told.
#[derive(Default)]
struct Log {
    told: BTreeMap<String, Instant>,
    last: Option<Instant>,
}

impl Log {
    /// Whether a line with this cause is due: the cause was not told for a while, or nothing was.
    fn is_due(&mut self, cause: &str, now: Instant) -> bool {
        let is_old = |at: Option<&Instant>| at.is_none_or(|at| now.duration_since(*at) >= AT_MOST_EVERY);
        let is_due = is_old(self.told.get(cause)) || is_old(self.last.as_ref());
        if is_due {
            self.told.insert(cause.to_owned(), now);
            self.last = Some(now);
        }
        is_due
    }
}

impl Progress {
    pub(crate) fn new(group: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAWS));
            // The message takes what is left of the width.
            if let Ok(style) = ProgressStyle::with_template("{prefix:.32} {elapsed} {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(group.to_owned());
            bar.enable_steady_tick(Duration::from_secs(1) / u32::from(REDRAWS));
            bar
        });
        Self { bar, group: group.to_owned(), began: Instant::now(), log: Log::default() }
    }

    #[allow(clippy::print_stderr)]
    pub(crate) fn show(&mut self, group: &pb::Group) {
        let first = group.waits.first();
        let mut text = group.summary.clone();
        if let Some(first) = first {
            text.push_str(&format!("; {}", first.message));
        }
        let text = escape::line(&text);
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
            }
            None => {
                let cause = first.map_or("", |first| first.reason.as_str());
                if self.log.is_due(cause, Instant::now()) {
                    eprintln!("{} [{:6.2}s] {text}", self.group, self.began.elapsed().as_secs_f64());
                }
            }
        }
    }

    #[allow(clippy::print_stderr)]
    pub(crate) fn done(self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{} {} after {:.2} s", self.group, escape::line(text), self.began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_when_it_is_new_and_then_every_ten_seconds() {
        let (mut log, begin) = (Log::default(), Instant::now());
        let mut told = Vec::new();
        for (second, cause) in
            [(0, "a"), (1, "a"), (2, "b"), (3, "a"), (4, "b"), (9, "a"), (10, "a"), (11, "b"), (12, "b")]
        {
            if log.is_due(cause, begin + Duration::from_secs(second)) {
                told.push((second, cause));
            }
        }
        assert_eq!(told, [(0, "a"), (2, "b"), (10, "a"), (12, "b")]);
        let mut quiet = Log::default();
        let told = (0..100).filter(|second| quiet.is_due("", begin + Duration::from_secs(*second))).count();
        assert_eq!(told, 10);
    }
}
