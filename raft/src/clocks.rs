//! How far the wall clocks of the peers are from that of this leader, as their replies say. For people: nothing is
//! decided by it, for no promise relies on clocks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use model::NodeId;

/// How many replies are remembered: a reply that was late makes a clock look behind, so the one that was least late counts.
const REMEMBERED: usize = 8;

/// The last differences in milliseconds, by peer.
#[derive(Clone, Default)]
pub(crate) struct Clocks(Arc<Mutex<BTreeMap<NodeId, VecDeque<i64>>>>);

/// The wall clock in milliseconds since the Unix epoch.
pub(crate) fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Clocks {
    /// A peer replied at `now`, with the time of its clock. 0 when its program does not say.
    pub(crate) fn heard(&self, node: NodeId, theirs: u64, now: u64) {
        if theirs == 0 {
            return;
        }
        let mut all = self.0.lock().expect("nobody panics while holding the clocks");
        let known = all.entry(node).or_default();
        known.push_back(theirs as i64 - now as i64);
        if known.len() > REMEMBERED {
            known.pop_front();
        }
    }

    /// By how many milliseconds the clock of a peer is ahead.
    pub(crate) fn ahead(&self, node: NodeId) -> Option<i64> {
        let all = self.0.lock().expect("nobody panics while holding the clocks");
        all.get(&node)?.iter().max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_that_was_least_late_says_how_far_a_clock_is_off() {
        let (clocks, two) = (Clocks::default(), NodeId(2));
        assert_eq!(clocks.ahead(two), None);
        clocks.heard(two, 0, 5000);
        assert_eq!(clocks.ahead(two), None, "its program does not say");
        for late in [900, 2, 1500] {
            clocks.heard(two, 100_000, 50_000 + late);
        }
        assert_eq!(clocks.ahead(two), Some(49_998));
        // It was set right.
        for _ in 0..REMEMBERED {
            clocks.heard(two, 70_000, 70_003);
        }
        assert_eq!(clocks.ahead(two), Some(-3));
    }
}
