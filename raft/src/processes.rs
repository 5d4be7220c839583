//! Which processes speak as each member. A process draws a number when it starts, and says it with what it says, and for
//! how long it has run. One that goes on speaking after a younger one has begun runs beside it: one of the two is on a
//! copy of the other's disk. The younger one gets no vote any more, and stops when it asks for one.
//!
//! A process that was copied with its memory has the number of the original, and is not noticed here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::NodeId;
use model::failpoints::{Protection, is_left_out};
use tokio::time::Instant;

use crate::proto as pb;

/// What a process said before it ended may be read after the first words of its successor, in one go or in a few. It
/// runs still when it is heard again and again, each time so much later.
const APART: Duration = Duration::from_secs(5);
/// How often it must be heard so.
const HEARD: u32 = 3;
/// When the older one has been silent for so long, it has ended.
const SILENT: Duration = Duration::from_secs(60);
/// The longest list of members that is taken from another manager.
const MOST_TOLD: usize = 16;

/// The processes of all members, as this one hears them.
#[derive(Clone)]
pub(crate) struct Processes {
    /// The number of this process, and when it started.
    own: u64,
    started: Instant,
    heard: Arc<Mutex<BTreeMap<NodeId, Pair>>>,
    /// Members of which another manager says that two processes speak, and when it said so.
    told: Arc<Mutex<BTreeMap<NodeId, Instant>>>,
}

/// The youngest process that speaks as a member, and the one before it.
struct Pair {
    youngest: u64,
    /// When it started, as it says, and when it was heard first.
    started: Instant,
    first_heard: Instant,
    older: Option<Older>,
}

/// A process that was heard after a younger one.
struct Older {
    number: u64,
    /// How often, each time so much later, and when last.
    heard: u32,
    at: Instant,
}

impl Processes {
    pub(crate) fn of(own: u64) -> Self {
        Self { own, started: Instant::now(), heard: Arc::default(), told: Arc::default() }
    }

    /// What this process says of itself.
    pub(crate) fn own(&self) -> pb::Process {
        pb::Process { number: self.own, runs_ms: self.started.elapsed().as_millis() as u64 }
    }

    /// A process speaks as this member; none when its program says nothing of it. Refused is the younger of two that run
    /// at once.
    pub(crate) fn hear(&self, node: NodeId, process: Option<&pb::Process>) -> Result<(), String> {
        let Some(process) = process.filter(|_| !is_left_out(Protection::OneOfCopies)) else { return Ok(()) };
        let now = Instant::now();
        let started = now.checked_sub(Duration::from_millis(process.runs_ms)).unwrap_or(now);
        let mut heard = self.heard.lock().expect("nobody panics while holding the processes");
        let fresh = || Pair { youngest: process.number, started, first_heard: now, older: None };
        let pair = heard.entry(node).or_insert_with(fresh);
        if process.number == pair.youngest {
            return match pair.are_two(now) {
                true => Err(format!(
                    "another process, which was started earlier, runs as manager {node}: one of the two is on a copy of \
                     the other's data directory"
                )),
                false => Ok(()),
            };
        }
        if started > pair.started {
            *pair = fresh();
        } else {
            pair.hears_older(process.number, now);
        }
        Ok(())
    }

    /// Another manager says that two processes speak as these members.
    pub(crate) fn told(&self, nodes: &[u64]) {
        if nodes.is_empty() {
            return;
        }
        let mut told = self.told.lock().expect("nobody panics while holding the processes");
        told.retain(|_, at| at.elapsed() < SILENT);
        told.extend(nodes.iter().take(MOST_TOLD).map(|node| (NodeId(*node), Instant::now())));
    }

    /// The members as whom this manager hears two processes.
    pub(crate) fn duplicated(&self) -> BTreeSet<NodeId> {
        let heard = self.heard.lock().expect("nobody panics while holding the processes");
        let now = Instant::now();
        heard.iter().filter(|(_, pair)| pair.are_two(now)).map(|(node, _)| *node).collect()
    }

    /// The same, by any manager that this one hears.
    pub(crate) fn duplicated_anywhere(&self) -> BTreeSet<NodeId> {
        let told = self.told.lock().expect("nobody panics while holding the processes");
        let fresh = told.iter().filter(|(_, at)| at.elapsed() < SILENT).map(|(node, _)| *node);
        fresh.chain(self.duplicated()).collect()
    }
}

impl Pair {
    fn are_two(&self, now: Instant) -> bool {
        self.older.as_ref().is_some_and(|it| it.heard >= HEARD && now.duration_since(it.at) < SILENT)
    }

    fn hears_older(&mut self, number: u64, now: Instant) {
        let after_youngest = now.duration_since(self.first_heard) >= APART;
        let known = self.older.take().filter(|it| it.number == number && now.duration_since(it.at) < SILENT);
        self.older = match known {
            Some(older) if now.duration_since(older.at) < APART => Some(older),
            Some(older) => Some(Older { heard: older.heard + 1, at: now, ..older }),
            None => after_youngest.then_some(Older { number, heard: 1, at: now }),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NodeId = NodeId(2);

    /// One that started so many seconds before the test speaks.
    fn speaks(processes: &Processes, number: u64, began: Instant) -> bool {
        let runs_ms = began.elapsed().as_millis() as u64;
        processes.hear(TWO, Some(&pb::Process { number, runs_ms })).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_goes_on_beside_a_younger_one_runs_beside_it_and_the_younger_is_refused() {
        // The younger is heard first by some, such as by those whom it asks for a vote.
        for younger_first in [false, true] {
            let processes = Processes::of(9);
            let older = Instant::now();
            tokio::time::advance(Duration::from_secs(100)).await;
            let younger = Instant::now();
            if younger_first {
                assert!(speaks(&processes, 7, younger));
            }
            for turn in 0..5 {
                assert!(speaks(&processes, 5, older), "{turn}: the older one never is");
                tokio::time::advance(APART).await;
                assert!(speaks(&processes, 7, younger) || turn > 2, "{turn}: not proven yet");
            }
            assert!(!speaks(&processes, 7, younger));
            assert_eq!(processes.duplicated(), [TWO].into());
            let other = Processes::of(8);
            other.told(&[2]);
            assert_eq!((other.duplicated_anywhere(), other.duplicated()), ([TWO].into(), BTreeSet::new()));
            // The older one has ended.
            tokio::time::advance(SILENT).await;
            assert!(speaks(&processes, 7, younger));
            assert!(processes.duplicated().is_empty() && other.duplicated_anywhere().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_starts_again_is_one_also_when_its_last_words_come_late() {
        // How late the last words of a process come, in milliseconds after the first ones of the next.
        for late in [0, 50, 1000, 5000, 20_000, 100_000] {
            let processes = Processes::of(9);
            let mut before: Option<(u64, Instant)> = None;
            for number in 1..20 {
                let began = Instant::now();
                for step in 0..3 {
                    assert!(speaks(&processes, number, began), "{late} {number} {step}");
                    tokio::time::advance(Duration::from_millis(late)).await;
                    if let Some((number, began)) = before.filter(|_| step < 2) {
                        // In one go, and once more.
                        assert!((0..3).all(|_| speaks(&processes, number, began)));
                    }
                }
                assert_eq!(processes.hear(TWO, None), Ok(()), "an older program");
                before = Some((number, began));
            }
            assert!(processes.duplicated().is_empty());
        }
    }
}
