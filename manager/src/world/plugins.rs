//! The world of the reconciler, through the plugins in a directory.

mod calls;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::{Stream, StreamExt};
use model::access::Secret;
use model::intent::Task;
use model::plugin::Guarantees;
use model::secret::{self, Missing, SecretName, redacted};
use model::tags::Tags;
use model::{ClusterId, Description, GroupSpec, Health, InstanceId, Outcome, Part, PluginName};
use raft::Published;
use spi::{Call, Class, Client, Directory, Flavors, Hello, Instances, interface};
use tokio::sync::watch;

use super::pace::Pace;
use super::{Listed, Rejection, Told, Work, World};
use crate::lease::Lease;
use crate::metrics::{self, Metrics};
use crate::telemetry;

/// Plugins found in a directory.
pub(crate) struct Plugins {
    directory: Directory,
    known: Mutex<BTreeMap<String, PluginSession>>,
    streams: Mutex<BTreeMap<PluginName, Events>>,
    secrets: watch::Receiver<Published>,
    metrics: Metrics,
}

/// A part of a spec with its secrets filled in.
struct ResolvedPart {
    part: Part,
    held: Vec<(SecretName, Secret)>,
}

impl ResolvedPart {
    /// The error of the plugin, with the secrets redacted.
    fn clean(&self, error: spi::Error) -> spi::Error {
        spi::Error { message: redacted(&error.message, &self.held), ..error }
    }
}

type Events = Arc<tokio::sync::Mutex<Option<Pin<Box<dyn Stream<Item = spi::Event> + Send>>>>>;

/// A plugin process as of its last handshake.
#[derive(Clone)]
struct PluginSession {
    found: spi::Found,
    client: Client,
    hello: Arc<Hello>,
    pace: Arc<Pace>,
}

impl Plugins {
    /// `secrets` has the values of the references in properties.
    pub(crate) fn new(directory: Directory, secrets: watch::Receiver<Published>, metrics: Metrics) -> Self {
        Self { directory, known: Mutex::default(), streams: Mutex::default(), secrets, metrics }
    }

    /// The part for this plugin, with the secrets that its properties reference and no others.
    fn resolve(&self, part: &Part) -> Result<ResolvedPart, spi::Error> {
        let state = self.secrets.borrow().state.clone();
        let value = |name: &SecretName| state.secrets.get(name).map(|it| &it.value);
        let (part, held) = secret::filled(part, value).map_err(|Missing(name)| {
            // Only a state that lags lacks a secret that a spec references.
            spi::Error::new(Class::Exhausted, format!("secret `{name}` not found"))
        })?;
        Ok(ResolvedPart { part, held })
    }

    /// What a plugin says in a call in which it is told nothing in confidence: it may remember what it was told
    /// when it made the instance.
    fn clean(&self, part: &Part, error: spi::Error) -> spi::Error {
        match self.resolve(part) {
            Ok(resolved) => resolved.clean(error),
            // A secret that is not known here any more cannot be found in it.
            Err(_) => error,
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, PluginSession>> {
        self.known.lock().expect("nobody panics while holding the plugins")
    }

    /// The plugin after a new handshake. Its connections are reused while its address is the same.
    async fn greet(&self, name: &PluginName, call: &Call) -> Result<PluginSession, spi::Error> {
        let found = self.directory.find(name)?;
        let before = self.known().get(name.lookup()).filter(|known| known.found == found).cloned();
        let (client, pace) = match before {
            Some(known) => (known.client, known.pace),
            None => (found.client(), Arc::default()),
        };
        let hello = Arc::new(client.hello_as(call).await?);
        let known = PluginSession { found, client, hello, pace };
        self.known().insert(name.lookup().to_owned(), known.clone());
        Ok(known)
    }

    /// The plugin as of its last handshake, or of a first one.
    async fn plugin(&self, name: &PluginName, interface: &str) -> Result<PluginSession, spi::Error> {
        let before = self.known().get(name.lookup()).cloned();
        let known = match before {
            Some(known) if known.hello.serves(interface, name.subtype()) => known,
            Some(_) | None => self.greet(name, &Call::default()).await?,
        };
        if known.hello.serves(interface, name.subtype()) {
            Ok(known)
        } else {
            Err(spi::Error::new(Class::Unavailable, known.hello.lacks(interface, name.subtype())))
        }
    }

    /// Starts a stopped instance, whoever leads.
    pub(crate) async fn start_now(
        &self,
        plugin: &PluginName,
        instance: &InstanceId,
    ) -> Result<(), spi::Error> {
        self.startable(plugin).await?.client.instances(plugin.subtype()).start(instance).await
    }

    /// The plugin, if it can start instances.
    async fn startable(&self, plugin: &PluginName) -> Result<PluginSession, spi::Error> {
        let known = self.plugin(plugin, interface::INSTANCE).await?;
        if known.hello.serves(interface::START, plugin.subtype()) {
            return Ok(known);
        }
        Err(spi::Error::new(Class::InvalidSpec, known.hello.lacks(interface::START, plugin.subtype())))
    }

    async fn list_now(&self, plugin: &PluginName, lease: &Lease) -> Result<Listed, String> {
        let leads = Call { epoch: Some(lease.epoch()), ..Call::default() };
        let known = self.greet(plugin, &leads).await.map_err(|error| error.message)?;
        if !known.hello.serves(interface::INSTANCE, plugin.subtype()) {
            return Err(known.hello.lacks(interface::INSTANCE, plugin.subtype()));
        }
        let listed = known.client.instances(plugin.subtype()).describe(&Tags::new(), true).await;
        let items = listed.map_err(|error| error.message)?.into_iter().map(Arc::new).collect();
        let guarantees = Guarantees { class: known.hello.class(), lists_within: known.hello.lists_within() };
        Ok(Listed { items, guarantees })
    }
}

/// An event whose kind or last topic says that an instance is gone, as our plugins and Docker's InfraKit name it.
fn told(event: &spi::Event) -> Told {
    let topic = event.topic.rsplit('/').next().unwrap_or_default();
    let gone = [topic, &event.kind].iter().any(|it| it.eq_ignore_ascii_case("lost"));
    if gone && !event.id.is_empty() { Told::Gone(InstanceId::new(&event.id)) } else { Told::Changed }
}

impl World for Plugins {
    async fn list(&self, plugin: &PluginName, lease: &Lease) -> Result<Listed, String> {
        let listed = self.list_now(plugin, lease).await;
        self.metrics.called(plugin, "DescribeInstances", if listed.is_ok() { "done" } else { "failed" });
        listed
    }

    async fn next_event(&self, plugin: &PluginName) -> Result<Told, String> {
        let events = {
            let mut streams = self.streams.lock().expect("nobody panics while holding the streams");
            streams.entry(plugin.clone()).or_default().clone()
        };
        let mut events = events.lock().await;
        if events.is_none() {
            let known = self.plugin(plugin, interface::INSTANCE).await.map_err(|error| error.message)?;
            if !known.hello.has_events() {
                return Err("the plugin does not serve events".into());
            }
            let topic =
                if plugin.subtype().is_empty() { String::new() } else { format!("{}/", plugin.subtype()) };
            let stream = known.client.events(&topic).await.map_err(|error| error.message)?;
            *events = Some(Box::pin(stream));
            // Events before the subscription are covered by another listing.
            return Ok(Told::Changed);
        }
        let next = match events.as_mut() {
            Some(stream) => stream.next().await,
            None => None,
        };
        match next {
            Some(event) => Ok(told(&event)),
            None => {
                *events = None;
                Err("the stream of events ended".into())
            }
        }
    }

    async fn perform(&self, work: &Work) -> Outcome {
        let began = Instant::now();
        let cluster = self.secrets.borrow().state.cluster.clone().unwrap_or_else(|| ClusterId::new(""));
        let attempt = telemetry::attempted(&cluster, work);
        let (method, outcome) = match &work.intent.task {
            Task::Provision { slot, .. } => ("Provision", self.provision(work, slot, &attempt).await),
            Task::Destroy { instance, reason, .. } => {
                ("Destroy", self.destroy(work, &instance.id, *reason, &attempt).await)
            }
            Task::Label { instance, .. } => ("Label", self.label(work, instance, &attempt).await),
        };
        telemetry::settled(&attempt, &outcome);
        let plugin = &work.known.template.instance.plugin;
        self.metrics.called(plugin, method, metrics::result(&outcome));
        if let Task::Provision { .. } = work.intent.task {
            self.metrics.provisioned(plugin, &outcome, began.elapsed());
        }
        outcome
    }

    async fn start(&self, part: &Part, instance: &InstanceId, lease: &Lease) -> Result<(), String> {
        let start = async {
            let known = self.startable(&part.plugin).await?;
            let _turn = known.pace.turn().await;
            lease.held().await;
            known.client.instances(part.plugin.subtype()).start(instance).await
        };
        let started = start.await;
        self.metrics.called(&part.plugin, "Start", if started.is_ok() { "done" } else { "failed" });
        started.map_err(|error| format!("{}: {}", part.plugin, self.clean(part, error)))
    }

    async fn health(&self, flavor: &Part, instance: &Description) -> (Health, String) {
        let ask = async {
            let known = self.plugin(&flavor.plugin, interface::FLAVOR).await?;
            let _turn = known.pace.turn().await;
            let resolved = self.resolve(flavor)?;
            let plugin = known.client.flavors(flavor.plugin.subtype());
            let verdict = plugin.healthy(&resolved.part.properties, instance).await;
            let verdict = verdict.map_err(|error| resolved.clean(error))?;
            Ok::<_, spi::Error>((verdict.health, redacted(&verdict.message, &resolved.held)))
        };
        match ask.await {
            Ok(verdict) => verdict,
            // Unknown is not unhealthy (semantics §8.1, TestHealthError).
            Err(error) => (Health::Unknown, format!("{}: {error}", flavor.plugin)),
        }
    }

    async fn validate(&self, spec: &GroupSpec) -> Vec<Rejection> {
        let (flavor, instance) = (&spec.template.flavor, &spec.template.instance);
        let by_flavor = async {
            let known = self.plugin(&flavor.plugin, interface::FLAVOR).await?;
            let plugin = known.client.flavors(flavor.plugin.subtype());
            let resolved = self.resolve(flavor)?;
            let valid = plugin.validate(&resolved.part.properties, &spec.allocation).await;
            valid.map_err(|error| resolved.clean(error))
        };
        let by_instance = async {
            let known = if spec.healing.start {
                self.startable(&instance.plugin).await.map_err(|error| spi::Error {
                    message: format!("{}, and Healing.Start needs it", error.message),
                    ..error
                })?
            } else {
                self.plugin(&instance.plugin, interface::INSTANCE).await?
            };
            let resolved = self.resolve(instance)?;
            let plugin = known.client.instances(instance.plugin.subtype());
            plugin.validate(&resolved.part.properties).await.map_err(|error| resolved.clean(error))
        };
        let (by_instance, by_flavor) = tokio::join!(by_instance, by_flavor);
        let rejection = |part: &Part, flavor: bool, result: Result<(), spi::Error>| {
            result.err().map(|error| Rejection {
                flavor,
                plugin: part.plugin.clone(),
                absent: matches!(error.class, Class::Unavailable | Class::Unsure),
                message: error.message,
            })
        };
        rejection(instance, false, by_instance)
            .into_iter()
            .chain(rejection(flavor, true, by_flavor))
            .collect()
    }
}

#[cfg(test)]
mod tests;
