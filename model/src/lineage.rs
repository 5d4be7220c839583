//! The lineages of a cluster: after a recovery it has a new, higher number, so that managers of the previous
//! one are recognized.

use crate::ids::{IntentId, LogIndex};

/// The lineage of a cluster, and those that are over.
///
/// The name of an intent has the lineage that opened it. One that was open when its lineage ended is looked
/// for, and repeated, under the name that it had: by another one it would be done twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lineages {
    pub now: u32,
    /// Oldest first.
    pub earlier: Vec<Era>,
}

/// A lineage that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Era {
    pub lineage: u32,
    /// The last index of its log that the next one took over.
    pub until: LogIndex,
}

impl Lineages {
    /// The lineage that opened an intent.
    pub fn of(&self, intent: IntentId) -> u32 {
        let era = self.earlier.iter().find(|era| intent.index <= era.until);
        era.map_or(self.now, |era| era.lineage)
    }

    /// Another lineage begins, after this entry.
    #[must_use]
    pub fn followed_by(&self, next: u32, until: LogIndex) -> Self {
        let mut earlier = self.earlier.clone();
        earlier.push(Era { lineage: self.now, until });
        Self { now: next, earlier }
    }
}

impl From<u32> for Lineages {
    fn from(now: u32) -> Self {
        Self { now, earlier: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_keeps_the_lineage_that_opened_it() {
        let lineages = Lineages::from(1).followed_by(5, LogIndex(100)).followed_by(9, LogIndex(2000));
        let of = |index| lineages.of(IntentId { index, offset: 0 });
        assert_eq!(
            [of(LogIndex(1)), of(LogIndex(100)), of(LogIndex(101)), of(LogIndex(2000)), of(LogIndex(2001))],
            [1, 1, 5, 5, 9]
        );
    }
}
