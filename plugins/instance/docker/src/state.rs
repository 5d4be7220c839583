//! What a container does, in the words of every instance plugin.
//!
//! ```text
//!   created ---> running <---> paused
//!     Starting     |  ^          Paused
//!     or Stopped   |  |
//!                  v  |
//!               exited, restarting ---> removing, dead
//!                 Stopped or Failed       Failed
//! ```
//!
//! A running container whose Init runs is Starting; one whose Init failed is Failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerState, ContainerSummary, ContainerSummaryStateEnum as Status};
use model::{InstanceState, RunStatus, Timestamp};
use spi::Error;
use tokio::time::Instant;

use crate::boot::{self, Boot};
use crate::engine;

/// What only an inspect of the container tells.
#[derive(Debug, Clone, Default)]
struct Facts {
    exit_code: Option<i64>,
    since: Option<Timestamp>,
    /// Why it ended, as far as the engine knows.
    error: String,
    /// Its Init, if it has one.
    boot: Option<Boot>,
}

fn of(status: Status, making: bool, facts: Facts) -> InstanceState {
    let Facts { exit_code, since, error, boot } = facts;
    let say = |status, message: &str| InstanceState {
        status,
        ended: false,
        exit_code,
        since,
        message: message.to_owned(),
    };
    let ended = |status, message: &str| match error.as_str() {
        "" => say(status, message),
        error if message.is_empty() => say(status, error),
        error => say(status, &format!("{message}: {error}")),
    };
    match status {
        Status::CREATED | Status::RUNNING if making => say(RunStatus::Starting, "it is being made"),
        Status::CREATED if boot.is_some() => {
            say(RunStatus::Failed, "it is half made: it was not started, and its Init has not run")
        }
        Status::CREATED => ended(RunStatus::Stopped, "it was not started"),
        Status::RUNNING | Status::STOPPING => booted(boot),
        Status::PAUSED => say(RunStatus::Paused, ""),
        Status::RESTARTING => ended(RunStatus::Failed, "it restarts again and again"),
        Status::EXITED => match (exit_code, boot) {
            (_, Some(Boot::Never | Boot::Runs { .. } | Boot::CutOff)) => {
                ended(RunStatus::Failed, "it ended before its Init did")
            }
            (_, Some(Boot::Ended { code, said })) if code != 0 => {
                say(RunStatus::Failed, &boot::told(code, &said))
            }
            (Some(0), _) => ended(RunStatus::Stopped, ""),
            (Some(code), _) => {
                let failed = ended(RunStatus::Failed, &format!("it exited with {code}"));
                InstanceState { ended: true, ..failed }
            }
            (None, _) => say(RunStatus::Unknown, "it has ended, and the engine does not say how"),
        },
        Status::REMOVING => say(RunStatus::Failed, "it is being removed"),
        Status::DEAD => {
            ended(RunStatus::Failed, "its removal failed halfway; it only remains to destroy it again")
        }
        Status::EMPTY => say(RunStatus::Unknown, "the engine does not say what it does"),
    }
}

/// The state of a container that runs.
fn booted(boot: Option<Boot>) -> InstanceState {
    let say = |status, message: String| InstanceState {
        status,
        ended: false,
        exit_code: None,
        since: None,
        message,
    };
    match boot {
        None | Some(Boot::Ended { code: 0, .. }) => say(RunStatus::Running, String::new()),
        Some(Boot::Runs { since }) => {
            let at = since.and_then(|at| jiff::Timestamp::from_millisecond(at.0.try_into().ok()?).ok());
            let message = at.map_or("Init runs".to_owned(), |at| format!("Init runs since {at:.0}"));
            InstanceState { since, ..say(RunStatus::Starting, message) }
        }
        Some(Boot::Ended { code, said }) => {
            InstanceState { exit_code: Some(code), ..say(RunStatus::Failed, boot::told(code, &said)) }
        }
        Some(Boot::CutOff) => say(
            RunStatus::Failed,
            "the container stopped before its Init ended; it never ran whole".to_owned(),
        ),
        Some(Boot::Never) => say(RunStatus::Failed, "it is half made: its Init has not run".to_owned()),
    }
}

/// What the looks have found out and need not ask again.
#[derive(Default)]
pub(crate) struct States(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Counts what may have changed, so that an inspect that began before is not kept.
    changes: u64,
    /// How a container ended, by its id, as of a listing that said so.
    ends: BTreeMap<String, (String, ContainerState)>,
    /// What has become of the Init of a container; it stays so.
    boots: BTreeMap<String, Boot>,
    /// Which containers restarted when they were last listed so, and what was said then.
    loops: BTreeMap<String, (Instant, InstanceState)>,
}

impl States {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().expect("nobody panics while holding this")
    }

    /// The state of a listed container. Only one that does not run, or whose Init has not ended as far as
    /// is known, is asked for itself.
    pub(crate) async fn look(
        &self,
        docker: &Docker,
        listed: &ContainerSummary,
        making: bool,
    ) -> InstanceState {
        match self.facts(docker, listed, making).await {
            Ok(facts) => self.since_its_loop(listed, of(status(listed), making, facts)),
            Err(error) => InstanceState {
                status: RunStatus::Unknown,
                ended: false,
                exit_code: None,
                since: None,
                message: error.message,
            },
        }
    }

    /// One that restarts again and again runs for moments. It runs when it has not restarted for a while.
    fn since_its_loop(&self, listed: &ContainerSummary, state: InstanceState) -> InstanceState {
        let Some(id) = &listed.id else { return state };
        let mut known = self.known();
        match status(listed) {
            Status::RESTARTING => {
                known.loops.insert(id.clone(), (Instant::now(), state.clone()));
                state
            }
            Status::RUNNING => match known.loops.get(id) {
                Some((seen, looping)) if seen.elapsed() < LOOP => looping.clone(),
                Some(_) | None => state,
            },
            Status::CREATED
            | Status::STOPPING
            | Status::PAUSED
            | Status::EXITED
            | Status::REMOVING
            | Status::DEAD
            | Status::EMPTY => {
                known.loops.remove(id);
                state
            }
        }
    }

    async fn facts(&self, docker: &Docker, listed: &ContainerSummary, making: bool) -> Result<Facts, Error> {
        let Some(id) = &listed.id else { return Ok(Facts::default()) };
        let has_init = listed.labels.as_ref().is_some_and(|labels| labels.contains_key(boot::LABEL));
        let mut facts = Facts::default();
        if has_init && !making {
            facts.boot = Some(self.boot(docker, id, status(listed)).await?);
        }
        let end = match status(listed) {
            Status::RUNNING | Status::STOPPING | Status::EMPTY => None,
            Status::CREATED if making => None,
            Status::CREATED
            | Status::PAUSED
            | Status::RESTARTING
            | Status::EXITED
            | Status::REMOVING
            | Status::DEAD => self.end(docker, id, listed).await?,
        };
        let Some(end) = end else { return Ok(facts) };
        facts.exit_code = match status(listed) {
            // One that restarts may run again by now, and then its code is that of nothing yet.
            Status::RESTARTING | Status::EXITED | Status::DEAD => listed_code(listed).or(end.exit_code),
            Status::CREATED
            | Status::RUNNING
            | Status::STOPPING
            | Status::PAUSED
            | Status::REMOVING
            | Status::EMPTY => None,
        };
        let at = if status(listed) == Status::PAUSED { &end.started_at } else { &end.finished_at };
        facts.since = at.as_deref().and_then(boot::timestamp);
        facts.error = match (end.error.unwrap_or_default(), end.oom_killed) {
            (error, _) if !error.is_empty() => error,
            (_, Some(true)) => "it used more memory than it may".to_owned(),
            (error, _) => error,
        };
        Ok(facts)
    }

    async fn boot(&self, docker: &Docker, id: &str, status: Status) -> Result<Boot, Error> {
        if let Some(boot) = self.known().boots.get(id) {
            return Ok(boot.clone());
        }
        if status == Status::CREATED {
            return Ok(Boot::Never);
        }
        let boot = boot::look(docker, id).await?;
        if boot.is_over() {
            self.known().boots.insert(id.to_owned(), boot.clone());
        }
        Ok(boot)
    }

    /// What the engine says about the end of a container; none if it is gone.
    async fn end(
        &self,
        docker: &Docker,
        id: &str,
        listed: &ContainerSummary,
    ) -> Result<Option<ContainerState>, Error> {
        let seen = seen(listed);
        let changes = {
            let known = self.known();
            if let Some((_, end)) = known.ends.get(id).filter(|(when, _)| *when == seen) {
                return Ok(Some(end.clone()));
            }
            known.changes
        };
        let Some(end) = engine::inspect(docker, id).await?.and_then(|found| found.state) else {
            return Ok(None);
        };
        let mut known = self.known();
        if known.changes == changes {
            known.ends.insert(id.to_owned(), (seen, end.clone()));
        }
        Ok(Some(end))
    }

    /// Whether the end of something in the container may be the end of its Init.
    pub(crate) fn awaits_boot(&self, id: &str) -> bool {
        !self.known().boots.contains_key(id)
    }

    /// Something happened to a container.
    pub(crate) fn changed(&self, id: &str) {
        let mut known = self.known();
        known.changes += 1;
        known.ends.remove(id);
    }

    /// Anything may have happened.
    pub(crate) fn forget_ends(&self) {
        let mut known = self.known();
        known.changes += 1;
        known.ends.clear();
    }

    /// Forgets what is not listed any more.
    pub(crate) fn keep<'a>(&self, listed: impl Iterator<Item = &'a ContainerSummary>) {
        let listed: BTreeSet<&str> = listed.filter_map(|it| it.id.as_deref()).collect();
        let mut known = self.known();
        known.ends.retain(|id, _| listed.contains(id.as_str()));
        known.boots.retain(|id, _| listed.contains(id.as_str()));
        known.loops.retain(|id, _| listed.contains(id.as_str()));
    }
}

/// How long one must have run after a restart: the engine too takes a loop for ended after so long.
const LOOP: Duration = Duration::from_secs(10);
/// How long one that was restarted by the engine is watched: most that fail do so at once.
const WATCHED: Duration = Duration::from_secs(1);

/// The exit code of a container that restarts again and again. In between it runs for a moment, so one that
/// was restarted before is looked at twice.
pub(crate) async fn restarts(docker: &Docker, id: &str) -> Result<Option<i64>, Error> {
    let deadline = Instant::now() + WATCHED;
    loop {
        let Some(found) = engine::inspect(docker, id).await? else { return Ok(None) };
        let state = found.state.unwrap_or_default();
        if state.restarting == Some(true) {
            return Ok(Some(state.exit_code.unwrap_or_default()));
        }
        let was_restarted = state.running == Some(true) && found.restart_count.is_some_and(|count| count > 0);
        if !was_restarted || Instant::now() > deadline {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn status(listed: &ContainerSummary) -> Status {
    listed.state.unwrap_or(Status::EMPTY)
}

/// What a listing tells about the end of a container.
fn seen(listed: &ContainerSummary) -> String {
    format!("{} {:?}", status(listed), listed_code(listed))
}

/// The code in `Exited (3) 2 hours ago`.
fn listed_code(listed: &ContainerSummary) -> Option<i64> {
    let (_, text) = listed.status.as_deref()?.split_once('(')?;
    text.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(exit_code: i64, boot: Option<Boot>) -> Facts {
        Facts { exit_code: Some(exit_code), boot, ..Facts::default() }
    }

    #[test]
    fn every_state_of_a_container_has_a_name() {
        use RunStatus::{Failed, Paused, Running, Starting, Stopped, Unknown};
        let done = || Some(Boot::Ended { code: 0, said: String::new() });
        let failed = || Some(Boot::Ended { code: 4, said: "why".to_owned() });
        let runs = || Some(Boot::Runs { since: Some(Timestamp(1_000)) });
        for (status, making, exit_code, boot, state, code, said) in [
            (Status::RUNNING, false, 0, None, Running, None, ""),
            (Status::RUNNING, false, 0, done(), Running, None, ""),
            (Status::RUNNING, false, 0, runs(), Starting, None, "Init runs since 1970-01-01T00:00:01Z"),
            (Status::RUNNING, true, 0, None, Starting, Some(0), "it is being made"),
            (Status::RUNNING, false, 0, failed(), Failed, Some(4), "Init exited with 4: why"),
            (Status::RUNNING, false, 0, Some(Boot::CutOff), Failed, None, "before its Init ended"),
            (Status::RUNNING, false, 0, Some(Boot::Never), Failed, None, "half made"),
            (Status::CREATED, true, 0, None, Starting, Some(0), "it is being made"),
            (Status::CREATED, false, 0, None, Stopped, Some(0), "it was not started"),
            (Status::CREATED, false, 0, Some(Boot::Never), Failed, Some(0), "half made"),
            (Status::EXITED, false, 0, None, Stopped, Some(0), ""),
            (Status::EXITED, false, 0, done(), Stopped, Some(0), ""),
            (Status::EXITED, false, 3, None, Failed, Some(3), "it exited with 3"),
            (Status::EXITED, false, 3, done(), Failed, Some(3), "it exited with 3"),
            (Status::EXITED, false, 0, Some(Boot::CutOff), Failed, Some(0), "before its Init did"),
            (Status::EXITED, false, 0, failed(), Failed, Some(0), "Init exited with 4: why"),
            (Status::PAUSED, false, 0, done(), Paused, Some(0), ""),
            (Status::RESTARTING, false, 3, None, Failed, Some(3), "it restarts again and again"),
            (Status::REMOVING, false, 0, None, Failed, Some(0), "it is being removed"),
            (Status::DEAD, false, 0, None, Failed, Some(0), "destroy it again"),
            (Status::EMPTY, false, 0, None, Unknown, Some(0), "does not say"),
        ] {
            let found = of(status, making, facts(exit_code, boot));
            assert_eq!(found.status, state, "{status} {found:?}");
            assert_eq!(found.exit_code, code, "{status} {found:?}");
            assert!(found.message.contains(said), "{status} {found:?}");
            assert!(!said.is_empty() || found.message.is_empty(), "{status} {found:?}");
        }
        let error = Facts { error: "no such file".to_owned(), ..facts(127, None) };
        let found = of(Status::EXITED, false, error);
        assert_eq!(found.message, "it exited with 127: no such file");
    }
}
