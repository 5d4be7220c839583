//! `infrakit events`: who did what, and what the managers found.

use std::time::Duration;

use api::proto as pb;
use clap::Args;
use serde_json::json;
use tokio_stream::StreamExt;

use super::{client, duration};
use crate::global::{Format, Global};
use crate::output::{self, rfc3339};
use crate::report::Failure;

#[derive(Args)]
pub(crate) struct EventsArgs {
    /// Only events of this group
    pub(crate) group: Option<String>,
    /// Keep printing new events
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last events
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// Only events of the last time, such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}

pub(crate) async fn run(args: EventsArgs, global: &Global) -> Result<u8, Failure> {
    let since = args.since.as_deref().map(duration).transpose()?;
    let (client, group) = (client(global)?, args.group.unwrap_or_default());
    let from = since
        .map(|span| (jiff::Timestamp::now().as_millisecond() as u64).saturating_sub(span.as_millis() as u64));
    let mut shown = Shown::default();
    if args.last.is_some() || from.is_some() {
        let request = pb::EventsRequest { group: group.clone(), follow: false, after: 0 };
        let mut stream = client.call(async |c| c.cluster().events(request.clone()).await).await?;
        let mut kept = Vec::new();
        while let Some(event) = stream.next().await {
            kept.push(event.map_err(api::Error::from)?);
        }
        for event in &kept {
            shown.is_new(event.index);
        }
        kept.retain(|event| from.is_none_or(|from| event.at_ms >= from));
        let surplus = args.last.map_or(0, |last| kept.len().saturating_sub(last));
        kept[surplus..].iter().try_for_each(|event| print_event(event, global))?;
        if !args.follow {
            return Ok(0);
        }
    }
    loop {
        let after = shown.entry.saturating_sub(1);
        let request = pb::EventsRequest { group: group.clone(), follow: args.follow, after };
        let mut stream = client.call(async |c| c.cluster().events(request.clone()).await).await?;
        shown.skips = shown.of_entry;
        loop {
            match stream.next().await {
                Some(Ok(event)) if shown.is_new(event.index) => print_event(&event, global)?,
                Some(Ok(_)) => {}
                Some(Err(status)) if args.follow && api::goes_on_elsewhere(&status) => break,
                None if args.follow => break,
                Some(Err(status)) => return Err(api::Error::from(status).into()),
                None => return Ok(0),
            }
        }
        // Another manager has the same events: it goes on from there.
        tokio::time::sleep(FOLLOWED_AGAIN).await;
    }
}

/// Pause before events are followed at another manager.
const FOLLOWED_AGAIN: Duration = Duration::from_millis(200);

/// What has been shown of the events. An entry may have several, in the same order at every manager.
#[derive(Default)]
struct Shown {
    /// The last entry, and how many of its events.
    entry: u64,
    of_entry: usize,
    /// How many of them come again.
    skips: usize,
}

impl Shown {
    /// Whether the next event, of this entry, has not been shown.
    fn is_new(&mut self, entry: u64) -> bool {
        if entry == self.entry && self.skips > 0 {
            self.skips -= 1;
            return false;
        }
        if entry < self.entry {
            // An older manager tells everything again.
            return false;
        }
        if entry != self.entry {
            (self.entry, self.of_entry, self.skips) = (entry, 0, 0);
        }
        self.of_entry += 1;
        true
    }
}

fn print_event(event: &pb::Event, global: &Global) -> Result<(), Failure> {
    if !matches!(global.output, Format::Json | Format::Yaml) {
        let group = if event.group.is_empty() { "-" } else { &event.group };
        let (at, kind) = (rfc3339(event.at_ms), &event.kind);
        output::line(&format!("{at}  {kind:<20} {group:<12} {} ({})", event.message, event.by))?;
        return Ok(());
    }
    let value = json!({
        "index": event.index,
        "at": rfc3339(event.at_ms),
        "group": event.group,
        "by": event.by,
        "type": event.kind,
        "message": event.message,
    });
    output::object(global.output, "Event", value)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_come_again_are_shown_once() {
        let mut shown = Shown::default();
        let first = [3, 5, 5, 7];
        assert!(first.iter().all(|entry| shown.is_new(*entry)));
        // The next manager begins with the last entry, and with one more event of it than was shown.
        shown.skips = shown.of_entry;
        assert_eq!([7, 7, 8].map(|entry| shown.is_new(entry)), [false, true, true]);
        // An older one begins with everything.
        shown.skips = shown.of_entry;
        assert_eq!(
            [3, 5, 5, 7, 7, 8, 9].map(|entry| shown.is_new(entry)),
            [false, false, false, false, false, false, true]
        );
    }
}
