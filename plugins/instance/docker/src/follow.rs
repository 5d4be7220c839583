//! The events of the engine, told on as events of instances.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use spi::{Event, Events};

use crate::boot;
use crate::engine::Engine;
use crate::labels::PREFIX;
use crate::listing::short;
use crate::state::States;

/// The topics of the events.
pub(crate) const TOPICS: [&str; 3] = ["found", "lost", "changed"];
/// What the engine tells. An exec ends, and it may have been an Init.
const TOLD: [&str; 6] = ["start", "die", "destroy", "pause", "unpause", "exec_die"];
/// When a new stream surely tells everything: its headers come before the engine begins to listen.
const SETTLED: Duration = Duration::from_secs(1);
/// After how long a silence the engine is asked whether it is there: a network may lose a connection without
/// notice.
const SILENCE: Duration = Duration::from_secs(60);
/// How long it has to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The pause before another attempt: the engine is probably restarting.
const PAUSE: Duration = Duration::from_secs(1);

/// Publishes events of containers, as long as the plugin runs.
pub(crate) async fn follow(engine: Arc<Engine>, states: Arc<States>, events: Events) {
    loop {
        one_stream(&engine, &states, &events).await;
        // Another engine may be there, of another version.
        engine.forget();
        tokio::time::sleep(PAUSE).await;
    }
}

async fn one_stream(engine: &Engine, states: &States, events: &Events) {
    let Ok(docker) = engine.docker().await else { return };
    let filters = HashMap::from([
        ("type".to_owned(), vec!["container".to_owned()]),
        ("event".to_owned(), TOLD.map(str::to_owned).into()),
    ]);
    let options = EventsOptionsBuilder::default().filters(&filters).build();
    let mut stream = std::pin::pin!(docker.events(Some(options)));
    let mut settled = std::pin::pin!(tokio::time::sleep(SETTLED));
    let mut is_settled = false;
    loop {
        tokio::select! {
            () = &mut settled, if !is_settled => {
                is_settled = true;
                // What happened in between is told by nobody: `since` reaches back over 256 events, and
                // over no restart of the engine.
                states.forget_ends();
                publish(events, "changed", String::new(), "look again");
            }
            event = stream.next() => match event {
                Some(Ok(event)) => tell(event, states, events),
                Some(Err(_)) | None => return,
            },
            () = tokio::time::sleep(SILENCE) => {
                if !matches!(tokio::time::timeout(ANSWER, docker.ping()).await, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

fn tell(event: EventMessage, states: &States, events: &Events) {
    let actor = event.actor.unwrap_or_default();
    let labels = actor.attributes.unwrap_or_default();
    let (Some(id), Some(action)) = (actor.id, event.action) else { return };
    if !labels.keys().any(|key| key.starts_with(PREFIX)) {
        return;
    }
    // Health checks are execs too, every few seconds.
    if action == "exec_die" && !(labels.contains_key(boot::LABEL) && states.awaits_boot(&id)) {
        return;
    }
    states.changed(&id);
    let what = match action.as_str() {
        "start" => "found",
        "destroy" => "lost",
        _ => "changed",
    };
    publish(events, what, short(&id).to_string(), &action);
}

fn publish(events: &Events, what: &str, id: String, message: &str) {
    events.publish(Event { topic: what.to_owned(), kind: what.to_owned(), id, message: message.to_owned() });
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::fake::{Fake, Reply};

    #[tokio::test]
    async fn after_every_new_stream_everything_is_looked_at_again() {
        let ends = Arc::new(Semaphore::new(0));
        let may = Arc::clone(&ends);
        let fake = Fake::serve(move |_| Reply::Slowly(&["{}"], Arc::clone(&may)));
        let (engine, events) = (Arc::new(Engine::at(Some(&fake.host))), Events::new(TOPICS));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let plugin = spi::Plugin::default().with_events(events.clone());
        let _running = spi::serve(dir.path(), "docker", plugin).expect("served");
        let client = spi::Directory::new(dir.path()).find(&"docker".into()).expect("found").client();
        let mut told = std::pin::pin!(client.events("").await.expect("a stream"));
        let _following = tokio::spawn(follow(engine, Arc::default(), events));
        for streams in 1..4 {
            let event = tokio::time::timeout(Duration::from_secs(10), told.next()).await;
            let event = event.expect("it is told").expect("the stream goes on");
            assert_eq!((event.kind.as_str(), event.message.as_str()), ("changed", "look again"));
            assert_eq!(fake.asked("/events").len(), streams);
            // The engine is restarted.
            ends.add_permits(1);
        }
    }
}
