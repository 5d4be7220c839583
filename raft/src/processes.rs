//! Which processes speak as each member. A process draws a number when it starts and says it with everything it says;
//! two that speak in turns are two that run at once, one of them on a copy of the other's disk. The one that was started
//! later is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::NodeId;
use model::failpoints::{Protection, is_left_out};
use tokio::time::Instant;

use crate::proto as pb;

/// What a process said before it ended may be read after the first words of its successor, all at once. Only a process
/// that is heard again so much later counts as one that still runs.
const APART: Duration = Duration::from_secs(1);
/// How often the speaker must have come back to an earlier process until two run at once.
const RETURNS: u32 = 2;
/// How long after that it is told.
const TOLD_FOR: Duration = Duration::from_secs(600);
/// The processes of one member that are remembered.
const REMEMBERED: usize = 4;

/// The processes of all members, as this one hears them.
#[derive(Clone)]
pub(crate) struct Processes {
    /// The number of this process, and when it started.
    own: u64,
    started: Instant,
    heard: Arc<Mutex<BTreeMap<NodeId, Speakers>>>,
    /// Members of which another manager says that two processes speak, and when it said so.
    told: Arc<Mutex<BTreeMap<NodeId, Instant>>>,
}

/// The processes that speak as one member.
struct Speakers {
    now: u64,
    /// When each of them started, as it says.
    all: Vec<(u64, Instant)>,
    returns: u32,
    returned: Option<Instant>,
    /// The one that started later, of two that run at once; and when that became known last.
    second: Option<(u64, Instant)>,
}

impl Processes {
    pub(crate) fn of(own: u64) -> Self {
        Self { own, started: Instant::now(), heard: Arc::default(), told: Arc::default() }
    }

    /// What this process says of itself.
    pub(crate) fn own(&self) -> pb::Process {
        pb::Process { number: self.own, runs_ms: self.started.elapsed().as_millis() as u64 }
    }

    /// A process speaks as this member; none when its program says nothing of it. Refused is the second of two.
    pub(crate) fn hear(&self, node: NodeId, process: Option<&pb::Process>) -> Result<(), String> {
        let Some(&pb::Process { number: process, runs_ms }) = process else { return Ok(()) };
        if is_left_out(Protection::OneOfCopies) {
            return Ok(());
        }
        let mut heard = self.heard.lock().expect("nobody panics while holding the processes");
        let now = Instant::now();
        let speakers = heard.entry(node).or_insert_with(|| Speakers {
            now: process,
            all: Vec::new(),
            returns: 0,
            returned: None,
            second: None,
        });
        let started = now.checked_sub(Duration::from_millis(runs_ms)).unwrap_or(now);
        speakers.speaks(process, started, now);
        match speakers.second {
            Some((second, at)) if second == process && now.duration_since(at) < TOLD_FOR => Err(format!(
                "two managers run as manager {node}: this one started later, so it runs on a copy of the other's data"
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Another manager says that two processes speak as these members.
    pub(crate) fn told(&self, nodes: &[u64]) {
        let mut told = self.told.lock().expect("nobody panics while holding the processes");
        told.retain(|_, at| at.elapsed() < TOLD_FOR);
        for node in nodes.iter().take(REMEMBERED) {
            told.insert(NodeId(*node), Instant::now());
        }
    }

    /// The members of whom two processes were heard a while ago at most, by this manager.
    pub(crate) fn duplicated(&self) -> BTreeSet<NodeId> {
        let heard = self.heard.lock().expect("nobody panics while holding the processes");
        let is_fresh = |it: &Speakers| it.second.is_some_and(|(_, at)| at.elapsed() < TOLD_FOR);
        heard.iter().filter(|(_, it)| is_fresh(it)).map(|(node, _)| *node).collect()
    }

    /// The same, by any manager that this one hears.
    pub(crate) fn duplicated_anywhere(&self) -> BTreeSet<NodeId> {
        let told = self.told.lock().expect("nobody panics while holding the processes");
        let fresh = told.iter().filter(|(_, at)| at.elapsed() < TOLD_FOR).map(|(node, _)| *node);
        fresh.chain(self.duplicated()).collect()
    }
}

impl Speakers {
    fn started(&self, process: u64) -> Option<Instant> {
        self.all.iter().find(|(known, _)| *known == process).map(|(_, started)| *started)
    }

    fn speaks(&mut self, process: u64, started: Instant, now: Instant) {
        if process == self.now && !self.all.is_empty() {
            return;
        }
        let before = std::mem::replace(&mut self.now, process);
        if self.started(process).is_none() {
            self.all.push((process, started));
            if self.all.len() > REMEMBERED {
                self.all.remove(0);
            }
            return;
        }
        let apart = self.returned.map_or(Duration::MAX, |at| now.duration_since(at));
        if apart < APART {
            return;
        }
        self.returned = Some(now);
        // Long ago is another time.
        self.returns = if apart < TOLD_FOR { self.returns + 1 } else { 1 };
        if self.returns >= RETURNS {
            let second = if self.started(process) > self.started(before) { process } else { before };
            self.second = Some((second, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NodeId = NodeId(2);

    /// Of two processes the one with the lower number has run for longer.
    fn speaks(processes: &Processes, number: u64) -> Result<(), String> {
        processes.hear(TWO, Some(&pb::Process { number, runs_ms: 500_000 - 10_000 * number }))
    }

    #[tokio::test(start_paused = true)]
    async fn two_that_speak_in_turns_run_at_once_and_the_later_one_is_refused() {
        let processes = Processes::of(9);
        // The second is heard first, such as by one that it asks for its vote.
        for (process, is_refused) in [(2, false), (1, false), (2, false), (1, false), (2, true), (1, false)] {
            assert_eq!(speaks(&processes, process).is_err(), is_refused, "{process}");
            tokio::time::advance(APART).await;
        }
        assert_eq!(processes.duplicated(), [TWO].into());
        let other = Processes::of(8);
        other.told(&[2]);
        assert_eq!((other.duplicated_anywhere(), other.duplicated()), ([TWO].into(), BTreeSet::new()));
        // The second has ended.
        tokio::time::advance(TOLD_FOR).await;
        assert_eq!(speaks(&processes, 1), Ok(()));
        assert!(processes.duplicated().is_empty() && other.duplicated_anywhere().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_starts_again_is_one_also_when_its_last_words_come_late() {
        let processes = Processes::of(9);
        for process in 1..20 {
            // Words of the one before, read all at once among the first of the next.
            for said in [process, process + 1, process, process + 1] {
                assert_eq!(speaks(&processes, said), Ok(()), "{process}");
                assert_eq!(processes.hear(TWO, None), Ok(()), "an older program");
            }
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        assert!(processes.duplicated().is_empty());
    }
}
