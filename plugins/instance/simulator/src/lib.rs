//! An instance plugin that simulates instances in memory or in files, with delays, fault injection and a
//! history of every call for tests.

mod faults;
mod states;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use model::tags::{self, Tags};
use model::{Description, InstanceId, Opaque};
use spi::{
    Call, Class, Error, Event, Events, InstanceSpec, Instances, Kind, KindOption, NotMade, Plugin, Setup,
};

use faults::{Fault, Faults};
use states::States;
use store::{Kept, Store};

/// The kind of this plugin.
pub const KIND: Kind = Kind {
    name: "simulator",
    summary: "simulates instances, with delays and injected faults",
    options: &[
        KindOption {
            key: "types",
            summary: "the types that it serves [default: compute,disk,net]",
            variable: Some("INFRAKIT_SIMULATOR_INSTANCE_TYPES"),
        },
        KindOption {
            key: "store",
            summary: "mem, or file for instances that outlive it [default: mem, or file if dir is given]",
            variable: Some("INFRAKIT_SIMULATOR_STORE"),
        },
        KindOption {
            key: "dir",
            summary: "the directory of the instances",
            variable: Some("INFRAKIT_SIMULATOR_DIR"),
        },
        KindOption { key: "lab", summary: "the directory of faults, states and the history", variable: None },
        KindOption {
            key: "describe-delay",
            summary: "how long a listing takes, such as 200ms",
            variable: Some("INFRAKIT_SIMULATOR_DESCRIBE_DELAY"),
        },
        KindOption {
            key: "provision-delay",
            summary: "how long it takes to create an instance",
            variable: Some("INFRAKIT_SIMULATOR_PROVISION_DELAY"),
        },
    ],
    make: |setup| Box::pin(async move { make(&setup) }),
};

fn make(setup: &Setup) -> Result<Plugin, NotMade> {
    let config = configure(&setup.name, &setup.options).map_err(NotMade::Options)?;
    plugin(&config).map_err(|error| NotMade::Failed(error.to_string()))
}

/// The options of a simulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name that it is served under, which every instance has as the tag `simulator`.
    pub name: String,
    /// The types it serves.
    pub types: Vec<String>,
    /// The directory of the instances; without it they are kept in memory.
    pub store: Option<PathBuf>,
    /// The directory of injected faults (`faults/<call>`), of states (`states/<instance id>`: `stopped`,
    /// `paused`, `starting`, `failed 137`; without a file, an instance runs) and of the history; none for
    /// none of them.
    pub lab: Option<PathBuf>,
    pub describe_delay: Duration,
    pub provision_delay: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "simulator".into(),
            types: ["compute", "disk", "net"].map(String::from).into(),
            store: None,
            lab: None,
            describe_delay: Duration::ZERO,
            provision_delay: Duration::ZERO,
        }
    }
}

/// The plugin, ready to be served.
pub fn plugin(config: &Config) -> std::io::Result<Plugin> {
    let topics = config
        .types
        .iter()
        .flat_map(|kind| ["found", "lost", "changed"].map(|what| format!("{kind}/{what}")));
    let events = Events::new(topics);
    let history = match &config.lab {
        None => None,
        Some(lab) => {
            std::fs::create_dir_all(lab)?;
            Some(std::fs::File::options().create(true).append(true).open(lab.join("history.jsonl"))?)
        }
    };
    let history = Arc::new(Mutex::new(history));
    let mut plugin = Plugin::default().with_events(events.clone()).knowing_tokens().starting();
    for kind in &config.types {
        let store = match &config.store {
            None => Store::memory(),
            Some(dir) => Store::files(&dir.join(kind))?,
        };
        let simulator = Simulator {
            kind: kind.clone(),
            config: config.clone(),
            store: Arc::new(Mutex::new(store)),
            faults: Faults::new(config.lab.as_ref().map(|lab| lab.join("faults"))),
            states: States::new(config.lab.as_ref().map(|lab| lab.join("states"))),
            history: history.clone(),
            events: events.clone(),
        };
        if config.lab.is_some() {
            let store = Arc::downgrade(&simulator.store);
            tokio::spawn(publish_states(kind.clone(), simulator.states.clone(), store, events.clone()));
        }
        plugin = plugin.with_instances(kind, Arc::new(simulator));
    }
    Ok(plugin)
}

/// One type of instance.
#[derive(Clone)]
struct Simulator {
    kind: String,
    config: Config,
    store: Arc<Mutex<Store>>,
    faults: Faults,
    states: States,
    history: Arc<Mutex<Option<std::fs::File>>>,
    events: Events,
}

fn event(kind: &str, what: &str, id: &InstanceId) -> Event {
    let topic = format!("{kind}/{what}");
    Event { topic, kind: what.to_owned(), id: id.to_string(), message: String::new() }
}

/// Publishes the changes of states that a test makes, for as long as the simulator exists.
async fn publish_states(kind: String, states: States, store: Weak<Mutex<Store>>, events: Events) {
    let mut before = states.all();
    loop {
        tokio::time::sleep(States::EVERY).await;
        let Some(store) = store.upgrade() else { return };
        let now = states.all();
        let store = store.lock().expect("nobody panics while holding the store");
        let either: BTreeSet<&InstanceId> = before.keys().chain(now.keys()).collect();
        for id in either.into_iter().filter(|id| before.get(*id) != now.get(*id) && store.has(id)) {
            events.publish(event(&kind, "changed", id));
        }
        drop(store);
        before = now;
    }
}

/// The properties of an instance that the simulator interprets, beside `simulator_state`.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Wishes {
    /// Limit of the instances of this type.
    simulator_cap: Option<usize>,
    /// How long provisioning takes, as a Go duration.
    simulator_delay: Option<String>,
}

impl Simulator {
    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().expect("nobody panics while holding the store")
    }

    fn publish(&self, what: &str, id: &InstanceId) {
        self.events.publish(event(&self.kind, what, id));
    }

    /// Appends a call and its outcome to the history.
    fn record(&self, call: &str, id: &str, tags: &Tags, outcome: &str) {
        let mut history = self.history.lock().expect("nobody panics while holding the history");
        let Some(file) = history.as_mut() else { return };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let tag = |name: &str| tags.get(name).map_or("", String::as_str);
        let line = serde_json::json!({
            "at": now.as_millis() as u64,
            "type": self.kind,
            "call": call,
            "id": id,
            "group": tag(tags::GROUP),
            "slot": tag(tags::SLOT),
            "token": tag(tags::INTENT),
            "hash": tag(tags::CONFIG_HASH),
            "outcome": outcome,
        });
        if let Err(error) = writeln!(file, "{line}") {
            tracing::warn!(%error, "the history cannot be written");
        }
    }

    /// Creates an instance, or returns the one with the same token.
    fn make(&self, spec: &InstanceSpec, call: &Call, wishes: &Wishes) -> Result<InstanceId, Error> {
        let token = call.token.as_ref().or_else(|| spec.tags.get(tags::INTENT));
        let (id, fresh) = {
            let mut store = self.store();
            match token.and_then(|token| store.by_token(token)) {
                Some(known) => (known, false),
                None => {
                    if wishes.simulator_cap.is_some_and(|cap| store.len() >= cap) {
                        return Err(Error::new(Class::Exhausted, "the simulator is full (simulator_cap)"));
                    }
                    let id = InstanceId::new(format!("sim-{:015x}", rand::random::<u64>() >> 4));
                    let mut tags = spec.tags.clone();
                    tags.insert("simulator".into(), self.config.name.clone());
                    let spec = InstanceSpec { tags, ..spec.clone() };
                    store.insert(id.clone(), Kept::new(spec))?;
                    (id, true)
                }
            }
        };
        self.record("provision", id.as_str(), &spec.tags, if fresh { "made" } else { "known" });
        self.publish("found", &id);
        Ok(id)
    }

    /// The part of a fault before the work.
    async fn before(&self, fault: &Option<Fault>) -> Result<(), Error> {
        match fault {
            Some(Fault::Refuse) => Err(Error::new(Class::Exhausted, "simulated: out of capacity")),
            Some(Fault::Error) => Err(Error::unsure("simulated: failed with an unknown outcome")),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(span)) => {
                tokio::time::sleep(*span).await;
                Ok(())
            }
            Some(Fault::Late(_) | Fault::Lose | Fault::Empty | Fault::Partial) | None => Ok(()),
        }
    }

    /// The part of a fault after the work: the reply is lost.
    async fn after(&self, fault: &Option<Fault>) {
        if fault == &Some(Fault::Lose) {
            std::future::pending::<()>().await;
        }
    }
}

fn wishes(properties: &Opaque) -> Result<Wishes, Error> {
    let value: serde_json::Value =
        serde_json::from_str(properties.as_json()).map_err(|error| Error::invalid(error.to_string()))?;
    if value.is_null() {
        return Ok(Wishes::default());
    }
    if !value.is_object() {
        return Err(Error::invalid("the properties must be a map"));
    }
    states::initial(properties).map_err(Error::invalid)?;
    serde_json::from_value(value).map_err(|error| Error::invalid(error.to_string()))
}

#[async_trait]
impl Instances for Simulator {
    async fn validate(&self, properties: &Opaque) -> Result<(), Error> {
        self.before(&self.faults.take("validate")).await?;
        let wishes = wishes(properties)?;
        match wishes.simulator_delay.as_deref().map(model::Millis::parse_go) {
            Some(Err(why)) => Err(Error::invalid(format!("simulator_delay: {why}"))),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error> {
        let fault = self.faults.take("provision");
        self.record("provision-asked", "", &spec.tags, "");
        self.before(&fault).await?;
        let wishes = wishes(&spec.properties)?;
        let delay = match wishes.simulator_delay.as_deref().map(model::Millis::parse_go) {
            Some(Ok(span)) => Duration::from_millis(span.0),
            Some(Err(why)) => return Err(Error::invalid(format!("simulator_delay: {why}"))),
            None => self.config.provision_delay,
        };
        if let Some(Fault::Late(span)) = fault {
            let (late, spec, call) = (self.clone(), spec.clone(), call.clone());
            tokio::spawn(async move {
                tokio::time::sleep(span).await;
                // The caller is gone; the history has the outcome.
                let _ = late.make(&spec, &call, &wishes);
            });
            return std::future::pending().await;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let id = self.make(spec, call, &wishes)?;
        self.after(&fault).await;
        Ok(id)
    }

    async fn label(&self, instance: &InstanceId, labels: &Tags, _: &Call) -> Result<(), Error> {
        let fault = self.faults.take("label");
        self.before(&fault).await?;
        self.store().label(instance, labels)?;
        self.record("label", instance.as_str(), labels, "");
        self.publish("changed", instance);
        self.after(&fault).await;
        Ok(())
    }

    async fn destroy(&self, instance: &InstanceId, reason: &str, _: &Call) -> Result<(), Error> {
        let fault = self.faults.take("destroy");
        self.before(&fault).await?;
        let gone = self.store().remove(instance)?;
        if gone.is_some() {
            self.states.forget(instance);
        }
        let tags = gone.map(|kept| kept.spec.tags);
        self.record("destroy", instance.as_str(), tags.as_ref().unwrap_or(&Tags::new()), reason);
        if tags.is_some() {
            self.publish("lost", instance);
        }
        self.after(&fault).await;
        Ok(())
    }

    async fn start(&self, instance: &InstanceId) -> Result<(), Error> {
        let fault = self.faults.take("start");
        self.before(&fault).await?;
        if !self.store().start(instance) {
            return Err(Error::new(Class::NotFound, format!("instance `{instance}` not found")));
        }
        self.states.forget(instance);
        let found = self.store().matching(&Tags::new()).into_iter().find(|it| it.id == *instance);
        self.record("start", instance.as_str(), &found.map(|it| it.tags).unwrap_or_default(), "");
        self.publish("changed", instance);
        self.after(&fault).await;
        Ok(())
    }

    async fn describe(&self, tags: &Tags, _: bool) -> Result<Vec<Description>, Error> {
        let fault = self.faults.take("describe");
        self.before(&fault).await?;
        if !self.config.describe_delay.is_zero() {
            tokio::time::sleep(self.config.describe_delay).await;
        }
        let mut found = self.store().matching(tags);
        match fault {
            Some(Fault::Empty) => found.clear(),
            Some(Fault::Partial) => found.truncate(found.len() / 2),
            Some(_) | None => {}
        }
        let mut told = self.states.all();
        for found in &mut found {
            found.state = told.remove(&found.id).or(found.state.take());
        }
        self.after(&fault).await;
        Ok(found)
    }
}

fn configure(name: &str, options: &BTreeMap<String, String>) -> Result<Config, String> {
    let mut config = Config { name: name.to_owned(), ..Config::default() };
    let delay = |key: &str| match options.get(key) {
        None => Ok(Duration::ZERO),
        Some(text) => model::Millis::parse_go(text)
            .map(|span| Duration::from_millis(span.0))
            .map_err(|why| format!("{key}: {why}")),
    };
    if let Some(types) = options.get("types") {
        config.types =
            types.split(',').map(|kind| kind.trim().to_owned()).filter(|kind| !kind.is_empty()).collect();
    }
    config.describe_delay = delay("describe-delay")?;
    config.provision_delay = delay("provision-delay")?;
    config.lab = options.get("lab").map(PathBuf::from);
    config.store = match (options.get("store").map(String::as_str), options.get("dir")) {
        (Some("mem") | None, None) | (Some("mem"), Some(_)) => None,
        (Some("file") | None, Some(dir)) => Some(PathBuf::from(dir).join(name)),
        (Some("file"), None) => return Err("store=file requires dir=DIRECTORY".into()),
        (Some(other), _) => return Err(format!("store: `{other}` is not valid; use mem or file")),
    };
    Ok(config)
}

#[cfg(test)]
mod tests;
