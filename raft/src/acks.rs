//! Until when each peer certainly followed this leader: the basis of leases and reads.
//!
//! openraft keeps such times too, but credits a response to the newest request with the same last log id: a
//! delayed response then confirms a request that the peer has never seen
//! (`InflightAppendQueue::drain_acked`). Here a response confirms the request that it answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// For each peer, the newest request that it has answered as a follower.
#[derive(Clone, Default)]
pub(crate) struct Acks {
    newest: Arc<Mutex<BTreeMap<u64, Ack>>>,
    news: Arc<Notify>,
}

#[derive(Clone, Copy)]
struct Ack {
    /// The term of the leader that the peer followed.
    term: u64,
    /// When the request was sent.
    sent: Instant,
}

/// The requests of one stream that have not been answered. A peer answers them in their order.
#[derive(Clone)]
pub(crate) struct Unanswered {
    acks: Acks,
    peer: u64,
    sent: Arc<Mutex<VecDeque<Ack>>>,
}

impl Acks {
    pub(crate) fn stream_to(&self, peer: u64) -> Unanswered {
        Unanswered { acks: self.clone(), peer, sent: Arc::default() }
    }

    fn newest(&self) -> MutexGuard<'_, BTreeMap<u64, Ack>> {
        self.newest.lock().expect("nobody panics while holding this")
    }

    /// Whether a majority of every one of these sets of voters, of which `me` is one, followed `me` in
    /// `term` when they got something that was sent at `since` or later.
    pub(crate) fn followed<'a>(
        &self,
        me: u64,
        term: u64,
        since: Instant,
        configs: impl IntoIterator<Item = &'a BTreeSet<u64>>,
    ) -> bool {
        let newest = self.newest();
        let follows =
            |id: &&u64| **id == me || newest.get(id).is_some_and(|ack| ack.term == term && ack.sent >= since);
        configs.into_iter().all(|voters| voters.iter().filter(follows).count() * 2 > voters.len())
    }

    /// Waits for the next response of any peer, from this call on.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.news.notified()
    }
}

impl Unanswered {
    pub(crate) fn asks(&self, term: u64) {
        self.queue().push_back(Ack { term, sent: Instant::now() });
    }

    /// The first that was not answered is; `follows` unless the peer knows a later leader.
    pub(crate) fn is_answered(&self, follows: bool) {
        let Some(ack) = self.queue().pop_front() else { return };
        if !follows {
            return;
        }
        {
            let mut newest = self.acks.newest();
            let known = newest.entry(self.peer).or_insert(ack);
            if (known.term, known.sent) < (ack.term, ack.sent) {
                *known = ack;
            }
        }
        self.acks.news.notify_waiters();
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Ack>> {
        self.sent.lock().expect("nobody panics while holding this")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_confirms_the_request_it_answers_and_none_that_was_sent_after_it() {
        let acks = Acks::default();
        let stream = acks.stream_to(2);
        let voters = [BTreeSet::from([1, 2, 3])];
        stream.asks(5);
        tokio::time::advance(Duration::from_secs(1)).await;
        let later = Instant::now();
        stream.asks(5);
        stream.is_answered(true);
        let second = Duration::from_secs(1);
        assert!(acks.followed(1, 5, later - second, &voters));
        assert!(!acks.followed(1, 5, later, &voters), "the second request is not answered");
        stream.is_answered(true);
        assert!(acks.followed(1, 5, later, &voters));
        assert!(!acks.followed(1, 6, later - second, &voters), "it was another term");
        stream.is_answered(true);
        assert!(!acks.followed(1, 5, later + second, &voters), "an answer to nothing says nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_majority_of_both_sets_is_needed_while_members_change() {
        let acks = Acks::default();
        let now = Instant::now();
        for peer in [2, 4] {
            let stream = acks.stream_to(peer);
            stream.asks(1);
            stream.is_answered(peer == 2);
        }
        let (old, new) = (BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 4, 5]));
        assert!(acks.followed(1, 1, now, [&old]));
        assert!(!acks.followed(1, 1, now, [&old, &new]), "4 knows a later leader");
        assert!(acks.followed(1, 1, now, [&BTreeSet::from([1])]), "alone it is a majority");
    }
}
