//! The progress of a group: a bar on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use api::proto as pb;
use indicatif::{ProgressBar, ProgressStyle};

use crate::escape;

/// A plain line is repeated after this time without a change, so that a log shows progress is still awaited.
const STILL_HERE: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    group: String,
    began: Instant,
    last: Option<(String, Instant)>,
}

impl Progress {
    pub(crate) fn new(group: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {msg} {elapsed}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(group.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, group: group.to_owned(), began: Instant::now(), last: None }
    }

    #[allow(clippy::print_stderr)]
    pub(crate) fn show(&mut self, group: &pb::Group) {
        let mut text = group.summary.clone();
        if let Some(first) = group.waits.first() {
            text.push_str(&format!("; {}", first.message));
        }
        let text = escape::line(&text);
        match &self.bar {
            Some(bar) => {
                bar.set_length(group.desired);
                bar.set_position(group.ready.min(group.updated));
                bar.set_message(text);
            }
            None => {
                let printed =
                    self.last.as_ref().is_some_and(|(last, at)| *last == text && at.elapsed() < STILL_HERE);
                if !printed {
                    eprintln!("{} [{:6.2}s] {text}", self.group, self.began.elapsed().as_secs_f64());
                    self.last = Some((text, Instant::now()));
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
