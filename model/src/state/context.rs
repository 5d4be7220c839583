//! Where a command stands, for the functions that apply it.

use crate::command::Actor;
use crate::event::{Event, Kind};
use crate::ids::{GroupId, LogId};
use crate::time::Timestamp;

/// Where a command stands, for the functions that apply it.
pub(crate) struct Context<'a> {
    pub(crate) log: LogId,
    pub(crate) at: Timestamp,
    /// What the proposer's own clock said, which may be behind.
    pub(crate) said: Timestamp,
    pub(crate) by: &'a Actor,
    /// The feature level of the cluster: below it, everything is done as older programs do it.
    pub(crate) level: u32,
    pub(crate) events: Vec<Event>,
}

impl Context<'_> {
    pub(crate) fn emit(&mut self, group: Option<&GroupId>, kind: Kind, message: impl Into<String>) {
        self.events.push(Event {
            index: self.log.index,
            at: self.at,
            group: group.cloned(),
            by: self.by.to_string(),
            kind,
            message: message.into(),
        });
    }
}
