//! The end of a container: it is asked to stop as its image says, gets the time that it was given, and is
//! removed. That may take longer than a call, and goes on without one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::StopContainerOptionsBuilder;
use spi::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{engine, labels};

/// What the engine itself waits after the signal, if the container does not say.
const USUAL_SECONDS: i64 = 10;
/// The longest time to stop that is granted. A container may ask for no end at all, and then a rollout would
/// wait for ever.
const LONGEST_SECONDS: i64 = 600;
/// How much longer than that the client waits for the engine's answer.
const SPARE: Duration = Duration::from_secs(60);

type Outcome = Option<Result<(), Error>>;

/// The containers that are being destroyed.
#[derive(Default)]
pub(crate) struct Stops(Arc<Mutex<BTreeMap<String, watch::Receiver<Outcome>>>>);

impl Stops {
    /// Stops and removes a container, or finds that this is being done. If it outlives the call, the outcome
    /// is not known yet, and the next call finds it.
    pub(crate) async fn destroy(&self, docker: &Docker, id: &str, until: Instant) -> Result<(), Error> {
        let mut outcome = self.join(docker, id);
        match tokio::time::timeout_at(until, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(ended)) => ended.clone().unwrap_or(Ok(())),
            Ok(Err(_)) => Err(Error::unsure("docker: the removal was broken off")),
            Err(_) => {
                let short = id.get(..12).unwrap_or(id);
                Err(Error::unsure(format!("docker: `{short}` is still stopping; it is removed when it has")))
            }
        }
    }

    fn join(&self, docker: &Docker, id: &str) -> watch::Receiver<Outcome> {
        let mut running = self.0.lock().expect("nobody panics while holding this");
        if let Some(known) = running.get(id) {
            return known.clone();
        }
        let (told, outcome) = watch::channel(None);
        running.insert(id.to_owned(), outcome.clone());
        let (docker, id, running) = (docker.clone(), id.to_owned(), Arc::clone(&self.0));
        // It ends by the time that the container has to stop.
        tokio::spawn(async move {
            let ended = end(&docker, &id).await;
            running.lock().expect("nobody panics while holding this").remove(&id);
            told.send_replace(Some(ended));
        });
        outcome
    }
}

async fn end(docker: &Docker, id: &str) -> Result<(), Error> {
    if let Some(found) = engine::inspect(docker, id).await? {
        let state = found.state.unwrap_or_default();
        // One that restarts again and again is Running and Restarting. A paused one is killed as it is:
        // it could not hear a signal, and woken up it would work again, perhaps beside its successor.
        if state.running == Some(true) && state.paused != Some(true) {
            let asked = found.config.and_then(|config| config.stop_timeout);
            stop(docker, id, granted(asked)).await;
        }
        engine::remove(docker, id).await?;
    }
    labels::forget(docker, id).await
}

/// How many seconds a container has after its signal. Negative is without an end.
fn granted(asked: Option<i64>) -> i64 {
    match asked {
        None => USUAL_SECONDS,
        Some(seconds) if (0..=LONGEST_SECONDS).contains(&seconds) => seconds,
        Some(_) => LONGEST_SECONDS,
    }
}

async fn stop(docker: &Docker, id: &str, seconds: i64) {
    let wait = Duration::from_secs(seconds.unsigned_abs()) + SPARE;
    // The engine takes the signal from the container.
    let options = StopContainerOptionsBuilder::default().t(seconds.try_into().unwrap_or(i32::MAX)).build();
    match docker.clone().with_timeout(wait).stop_container(id, Some(options)).await {
        Ok(()) => {}
        Err(error) if engine::status(&error) == Some(404) => {}
        // Removing it by force kills it.
        Err(error) => {
            tracing::warn!(id, error = engine::message(&error), "it cannot be stopped; it is killed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_the_time_it_asks_for_but_not_for_ever() {
        for (asked, seconds) in
            [(None, 10), (Some(0), 0), (Some(3), 3), (Some(600), 600), (Some(601), 600), (Some(-1), 600)]
        {
            assert_eq!(granted(asked), seconds, "{asked:?}");
        }
    }
}
