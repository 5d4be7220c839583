//! What each member is known to have agreed to: committed entries that it has acknowledged. It must have them for ever,
//! so a member that lacks one has lost something of its disk, such as by the snapshot of a machine that was set back.
//!
//! Every manager learns it from the leader, so that the next leader knows it too. Only in memory: what everybody has
//! forgotten is not noticed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use model::NodeId;
use model::failpoints::{Protection, is_left_out};
use tokio::time::Instant;

use crate::log_store::LastIndex;
use crate::proto as pb;
use crate::reason::Reason;

/// The last such entry of each member.
#[derive(Clone)]
pub(crate) struct Agreed {
    all: Arc<Mutex<BTreeMap<NodeId, u64>>>,
    me: NodeId,
    /// How far the log of this replica goes, and how far it is durable.
    last: LastIndex,
    synced: LastIndex,
    /// Since when it lacks something.
    lacks_since: Arc<Mutex<Option<Instant>>>,
    /// Why this replica takes no part any more.
    went_back: Reason,
}

/// A log that is about to be replaced by a snapshot is shorter for a moment: only what is lacking for longer was lost.
const LACKING_FOR: Duration = Duration::from_secs(5);

impl Agreed {
    pub(crate) fn of_this(me: NodeId, last: LastIndex, synced: LastIndex) -> Self {
        Self {
            all: Arc::default(),
            me,
            last,
            synced,
            lacks_since: Arc::default(),
            went_back: Reason::default(),
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<NodeId, u64>> {
        self.all.lock().expect("nobody panics while holding this")
    }

    /// This leader knows that `commit` is committed, and counts itself as far as its own log is durable.
    pub(crate) fn committed(&self, commit: u64) {
        self.learn(self.me, commit.min(self.synced.get()));
    }

    /// A member has acknowledged the log up to `matching`, to a leader who knew that `commit` is committed.
    pub(crate) fn acknowledged(&self, node: NodeId, matching: u64, commit: u64) {
        self.learn(node, matching.min(commit));
    }

    fn learn(&self, node: NodeId, index: u64) {
        let mut all = self.all();
        let known = all.entry(node).or_default();
        *known = index.max(*known);
    }

    /// The last entry that a member must have; 0 when none is known.
    pub(crate) fn of(&self, node: NodeId) -> u64 {
        if is_left_out(Protection::WentBack) {
            return 0;
        }
        self.all().get(&node).copied().unwrap_or_default()
    }

    /// For others.
    pub(crate) fn tell(&self) -> Vec<pb::Agreed> {
        self.all().iter().map(|(node, index)| pb::Agreed { node: node.0, index: *index }).collect()
    }

    /// From another. Whether this replica has everything that it is known to have agreed to: if not, it takes no part
    /// as long as that is so, and after a while for ever.
    pub(crate) fn hear(&self, told: &[pb::Agreed]) -> Result<(), String> {
        for it in told.iter().take(MOST) {
            self.learn(NodeId(it.node), it.index);
        }
        // What was agreed to was there before anybody could know it.
        let (agreed, last) = (self.of(self.me), self.last.get());
        let mut lacks_since = self.lacks_since.lock().expect("nobody panics while holding this");
        if last >= agreed {
            *lacks_since = None;
            return Ok(());
        }
        let why = went_back(self.me, last, agreed);
        if lacks_since.get_or_insert_with(Instant::now).elapsed() >= LACKING_FOR {
            self.went_back.say(why.clone());
        }
        Err(why)
    }

    /// Waits until this replica lacks what it has agreed to, and returns the reason.
    pub(crate) async fn went_back(&self) -> String {
        self.went_back.reason().await
    }
}

/// Far more than there are members.
const MOST: usize = 1000;

/// What is said of a member that lacks what it agreed to.
pub(crate) fn went_back(node: NodeId, last: u64, agreed: u64) -> String {
    format!(
        "the disk of manager {node} went back in time: its log ends at entry {last}, and it had acknowledged entry {agreed}"
    )
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_what_is_committed_and_acknowledged_counts_and_it_counts_for_ever() {
        let of = |node| Agreed::of_this(NodeId(node), LastIndex::default(), LastIndex::default());
        let (agreed, two) = (of(1), NodeId(2));
        agreed.acknowledged(two, 40, 30);
        assert_eq!(agreed.of(two), 30, "the rest may still be replaced");
        agreed.acknowledged(two, 35, 50);
        agreed.acknowledged(two, 10, 60);
        assert_eq!(agreed.of(two), 35);
        agreed.committed(50);
        assert_eq!(agreed.of(NodeId(1)), 0, "its own log is not durable yet");
        let other = of(3);
        other.hear(&agreed.tell()).expect("it has agreed to nothing");
        assert_eq!((other.of(two), other.of(NodeId(3))), (35, 0));
        let why = of(2).hear(&other.tell()).expect_err("its log is empty");
        assert!(why.contains("ends at entry 0") && why.contains("entry 35"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lacking_for_a_moment_is_awaited_and_what_stays_away_was_lost() {
        let last = LastIndex::default();
        let agreed = Agreed::of_this(NodeId(2), last.clone(), LastIndex::default());
        let told = [pb::Agreed { node: 2, index: 35 }];
        agreed.hear(&told).expect_err("it takes no part meanwhile");
        tokio::time::advance(LACKING_FOR / 2).await;
        last.set(35);
        agreed.hear(&told).expect("a snapshot was installed");
        last.set(34);
        agreed.hear(&told).expect_err("it lacks one");
        tokio::time::advance(LACKING_FOR).await;
        assert!(agreed.went_back().now_or_never().is_none(), "nobody has looked");
        agreed.hear(&told).expect_err("it still does");
        assert!(agreed.went_back().now_or_never().is_some());
    }
}
