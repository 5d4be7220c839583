//! What a plugin promises, whoever keeps the promise.

use std::time::Duration;

use async_trait::async_trait;
use model::tags::Tags;
use model::{Allocation, Description, GroupId, Health, InstanceId, LogicalId, Opaque};

use crate::error::{Class, Error};

/// What an instance is to be made from. Everything a flavor does not change, it returns as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSpec {
    pub properties: Opaque,
    pub tags: Tags,
    /// The boot script; empty for none.
    pub init: String,
    pub logical_id: Option<LogicalId>,
    pub attachments: Vec<Attachment>,
}

/// Something to attach to an instance, as its plugin understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub id: String,
    pub kind: String,
}

/// Which group a flavor prepares for. `sequence` is the group's size, as InfraKit has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub group: GroupId,
    pub sequence: u32,
}

/// What accompanies a call with a side effect, for plugins that understand it (decision 18).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The name of the intent: a second call with it must not make a second instance.
    pub token: Option<String>,
    /// Which leader calls.
    pub epoch: Option<Epoch>,
    /// Until when the call may begin to take effect, by the clock that counts from the machine's start and
    /// goes on while it is suspended: caller and plugin share the machine, so they share the clock.
    pub not_after: Option<Duration>,
    /// Which span the call is, as W3C Trace Context has it.
    pub traceparent: Option<String>,
}

/// One leadership. A later one of the same cluster is greater; those of two clusters have no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The cluster's id.
    pub cluster: String,
    pub lineage: u32,
    pub term: u64,
}

/// The time since this machine started, suspension included (`CLOCK_BOOTTIME`).
pub fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// A flavor's word about an instance, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub health: Health,
    pub message: String,
}

impl Verdict {
    pub fn healthy() -> Self {
        Self { health: Health::Healthy, message: String::new() }
    }
}

/// Makes, describes and destroys instances.
#[async_trait]
pub trait Instances: Send + Sync + 'static {
    /// Checks the plugin's own properties, not a whole spec.
    async fn validate(&self, properties: &Opaque) -> Result<(), Error>;

    /// Makes one instance with all its tags, and returns its id.
    ///
    /// An `Unsure` error, or any error of a foreign plugin, may mean that it was made.
    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error>;

    /// Adds labels to an instance's tags and keeps the others. An unknown id is an error.
    async fn label(&self, instance: &InstanceId, labels: &Tags, call: &Call) -> Result<(), Error>;

    /// Destroys an instance; one that is not there counts as destroyed. `reason` is InfraKit's.
    async fn destroy(&self, instance: &InstanceId, reason: &str, call: &Call) -> Result<(), Error>;

    /// Starts an instance that is there and does not run; one that runs is left alone. Safe to repeat, and makes
    /// nothing. Only plugins that list `Start/0.1.0` can.
    async fn start(&self, instance: &InstanceId) -> Result<(), Error> {
        Err(Error::new(Class::InvalidSpec, format!("this plugin cannot start `{instance}`")))
    }

    /// Every instance that has all these tags with exactly these values; a short list is an error.
    async fn describe(&self, tags: &Tags, properties: bool) -> Result<Vec<Description>, Error>;
}

/// Gives instances their meaning: prepares, judges and drains them.
#[async_trait]
pub trait Flavors: Send + Sync + 'static {
    async fn validate(&self, properties: &Opaque, allocation: &Allocation) -> Result<(), Error>;

    /// The spec to provision. Safe to repeat.
    async fn prepare(
        &self,
        properties: &Opaque,
        spec: InstanceSpec,
        allocation: &Allocation,
        index: &Index,
    ) -> Result<InstanceSpec, Error>;

    async fn healthy(&self, properties: &Opaque, instance: &Description) -> Result<Verdict, Error>;

    /// Moves work away from an instance before it is destroyed. Safe to repeat.
    async fn drain(&self, properties: &Opaque, instance: &Description) -> Result<(), Error>;
}
