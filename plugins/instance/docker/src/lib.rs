//! Containers as instances, through the Docker Engine's API.
//!
//! Tags are labels, set when the container is created. The engine cannot change labels, so those that
//! [`Instances::label`] adds are kept as labels of small volumes. They last as long as the container, and
//! survive restarts of the container, the plugin and the engine, but not `docker volume prune`.
//!
//! Three things may take longer than a call, and go on without one: the pull of an image ([`pull`]), Init
//! ([`boot`]) and the end of a container ([`stop`]). The next call, or listing, finds how far they are.

mod archive;
mod boot;
mod config;
mod credentials;
mod engine;
#[cfg(test)]
mod fake;
mod follow;
mod image;
mod labels;
mod listing;
mod make;
mod making;
mod network;
mod properties;
mod pull;
mod state;
mod stop;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::models::ContainerSummaryStateEnum as Status;
use futures_util::StreamExt;
use model::tags::{self, Tags};
use model::{Description, InstanceId, Opaque};
use spi::{
    Call, Class, Error, Events, InstanceSpec, Instances, Kind, KindOption, NotMade, Plugin, Setup, since_boot,
};
use tokio::time::Instant;

use boot::Boot;
pub use config::{Config, configure};
use engine::Engine;
use listing::{Found, Listing};
use make::Maker;
use making::Turns;
use pull::Pulls;
use state::States;
use stop::Stops;

/// The kind of this plugin.
pub const KIND: Kind = Kind {
    name: "docker",
    summary: "containers, through the API of the Docker Engine",
    options: &[
        KindOption {
            key: "host",
            summary: "the engine: unix://PATH or tcp://HOST:PORT [default: unix:///var/run/docker.sock]",
            variable: Some("DOCKER_HOST"),
        },
        KindOption {
            key: "namespace",
            summary: "tags of every container, as KEY=VALUE,...; others are not listed",
            variable: Some("INFRAKIT_DOCKER_NAMESPACE_TAGS"),
        },
    ],
    make: |setup| Box::pin(make_plugin(setup)),
};

async fn make_plugin(setup: Setup) -> Result<Plugin, NotMade> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let config = configure(&setup.options, var).map_err(NotMade::Options)?;
    plugin(&config).await.map_err(NotMade::Failed)
}

/// The plugin. The engine need not be there yet.
pub async fn plugin(config: &Config) -> Result<Plugin, String> {
    let containers = Containers::new(config);
    let events = Events::new(follow::TOPICS);
    let (engine, states) = (Arc::clone(&containers.engine), Arc::clone(&containers.states));
    tokio::spawn(follow::follow(engine, states, events.clone()));
    Ok(Plugin::default()
        .with_instances("", Arc::new(containers))
        .with_events(events)
        .knowing_tokens()
        .starting())
}

struct Containers {
    engine: Arc<Engine>,
    listing: Listing,
    states: Arc<States>,
    maker: Arc<Maker>,
    turns: Turns,
    stops: Stops,
}

/// How long Provision waits for an image or for Init: callers wait for 15 s, and it does more than that.
const PATIENCE: Duration = Duration::from_secs(10);
/// What remains of the caller's time for the rest of Provision.
const REST: Duration = Duration::from_secs(3);
/// How long Destroy waits at most.
const LONGEST_DESTROY: Duration = Duration::from_secs(30);
/// What remains of the caller's time for the reply.
const REPLY: Duration = Duration::from_secs(1);
/// How many containers are asked for their state at once.
const AT_ONCE: usize = 8;

/// Until when a call waits: at most so long, and so much before its deadline.
fn until(call: &Call, most: Duration, before: Duration) -> Instant {
    let left = call.not_after.map(|at| at.saturating_sub(since_boot()).saturating_sub(before));
    Instant::now() + left.map_or(most, |left| left.min(most))
}

impl Containers {
    fn new(config: &Config) -> Self {
        Self {
            engine: Arc::new(Engine::at(config.host.as_deref())),
            listing: Listing { namespace: config.namespace.clone() },
            states: Arc::default(),
            maker: Arc::new(Maker::new(Pulls::with(config.docker_config.clone()))),
            turns: Turns::default(),
            stops: Stops::default(),
        }
    }

    /// The container of an earlier attempt with this token. One that was left half made is removed.
    async fn earlier(&self, docker: &Docker, token: &str) -> Result<Option<InstanceId>, Error> {
        for found in self.listing.tagged(docker, tags::INTENT, token).await? {
            let is_begun = match state::status(&found.summary) {
                Status::CREATED | Status::REMOVING | Status::DEAD => false,
                // Once Init has begun, it never begins again, whatever has become of it.
                Status::RUNNING
                | Status::PAUSED
                | Status::RESTARTING
                | Status::EXITED
                | Status::STOPPING
                | Status::EMPTY => {
                    let has_init = found.tags.contains_key(boot::LABEL);
                    !has_init || boot::look(docker, &found.id).await? != Boot::Never
                }
            };
            if is_begun {
                return Ok(Some(listing::short(&found.id)));
            }
            engine::remove(docker, &found.id).await?;
        }
        Ok(None)
    }

    async fn known(&self, docker: &Docker, instance: &InstanceId) -> Result<Found, Error> {
        let found = self.listing.find(docker, instance).await?;
        found.ok_or_else(|| Error::not_found(format!("container `{instance}` not found")))
    }
}

#[async_trait]
impl Instances for Containers {
    async fn validate(&self, properties: &Opaque) -> Result<(), Error> {
        let properties = properties::read(properties)?;
        network::check(&properties.networks)?;
        // What an engine that is not there would say, nobody knows: Provision asks again.
        let Ok(docker) = self.engine.docker().await else { return Ok(()) };
        self.maker.pulls.check(&docker, properties.config.image.as_deref().unwrap_or_default()).await
    }

    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error> {
        let until = until(call, PATIENCE, REST);
        let properties = properties::read(&spec.properties)?;
        let docker = self.engine.docker().await?;
        let token = call.token.as_ref().or_else(|| spec.tags.get(tags::INTENT));
        let mut own = properties.tags.clone();
        own.extend(self.listing.namespace.clone());
        own.extend(spec.tags.clone());
        if let Some(logical_id) = &spec.logical_id {
            own.entry(tags::LOGICAL_ID.to_owned()).or_insert_with(|| logical_id.to_string());
        }
        let mut turn = None;
        if let Some(token) = token {
            own.entry(tags::INTENT.to_owned()).or_insert_with(|| token.clone());
            turn = self.turns.turn(token, until).await;
            if turn.is_none() {
                return Err(Error::unsure("docker: another call with this token has not ended"));
            }
            if let Some(known) = self.earlier(&docker, token).await? {
                return Ok(known);
            }
        }
        let (maker, spec) = (Arc::clone(&self.maker), spec.clone());
        // A task of its own, which ends by `until` and some calls: a caller who hangs up ends this one, and
        // would leave something half made.
        let made = tokio::spawn(async move {
            let _turn = turn;
            maker.make(&docker, &spec, properties, own, until).await
        });
        made.await.unwrap_or_else(|_| Err(Error::unsure("docker: the making was broken off")))
    }

    async fn label(&self, instance: &InstanceId, added: &Tags, _: &Call) -> Result<(), Error> {
        let docker = self.engine.docker().await?;
        let found = self.known(&docker, instance).await?;
        labels::add(&docker, &found.id, added).await
    }

    async fn destroy(&self, instance: &InstanceId, _: &str, call: &Call) -> Result<(), Error> {
        let until = until(call, LONGEST_DESTROY, REPLY);
        let docker = self.engine.docker().await?;
        // Looked up first, so that only containers of this plugin are removed.
        match self.listing.find(&docker, instance).await? {
            Some(found) => self.stops.destroy(&docker, &found.id, until).await,
            None => Ok(()),
        }
    }

    async fn start(&self, instance: &InstanceId) -> Result<(), Error> {
        let docker = self.engine.docker().await?;
        let found = self.known(&docker, instance).await?;
        if let Some(code) = state::restarts(&docker, &found.id).await? {
            // The engine would say that it is started already.
            let why = format!(
                "docker: `{instance}` restarts again and again and exits with {code}; it cannot be started"
            );
            return Err(Error::new(Class::Conflict, why));
        }
        // Starting a running container is a no-op.
        network::start(&docker, &found.id).await
    }

    async fn describe(&self, wanted: &Tags, _: bool) -> Result<Vec<Description>, Error> {
        let docker = self.engine.docker().await?;
        let all = self.listing.all(&docker).await?;
        self.states.keep(all.iter().map(|found| &found.summary));
        let matches = |tags: &Tags| wanted.iter().all(|(key, value)| tags.get(key) == Some(value));
        let looked = all.into_iter().filter(|found| matches(&found.tags)).map(|found| {
            let (docker, making) = (&docker, self.maker.attempts.has(&found.tags));
            async move {
                let state = self.states.look(docker, &found.summary, making).await;
                listing::describe(found, state)
            }
        });
        Ok(futures_util::stream::iter(looked).buffered(AT_ONCE).collect().await)
    }
}

#[cfg(test)]
mod tests;
