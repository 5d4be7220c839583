//! The interfaces of plugins.

use std::time::Duration;

use async_trait::async_trait;
use model::tags::Tags;
use model::{Allocation, Description, GroupId, Health, InstanceId, LogicalId, Opaque};

use crate::error::{Class, Error};

/// The spec of an instance to create. A flavor returns unchanged what it does not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSpec {
    /// The properties for the instance plugin.
    pub properties: Opaque,
    /// The tags of the instance.
    pub tags: Tags,
    /// The boot script; empty for none.
    pub init: String,
    /// The logical id, for a pet.
    pub logical_id: Option<LogicalId>,
    /// What to attach to the instance, such as volumes.
    pub attachments: Vec<Attachment>,
}

/// Something to attach to an instance; the instance plugin interprets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its id.
    pub id: String,
    /// Its type.
    pub kind: String,
}

/// The group that a flavor prepares for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its id.
    pub group: GroupId,
    /// Its size, as in Docker's InfraKit.
    pub sequence: u32,
}

/// The fence headers of a call, for plugins that list `Fence/0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// The token of the intent: a second call with it must not create a second instance.
    pub token: Option<String>,
    /// The leadership of the caller.
    pub epoch: Option<Epoch>,
    /// The deadline of the call, on the clock of [`since_boot`], which caller and plugin on one machine
    /// share.
    pub not_after: Option<Duration>,
    /// The span of the call, as in W3C Trace Context.
    pub traceparent: Option<String>,
}

/// A leadership. A later one of the same cluster is greater; those of two clusters are not comparable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// The id of the cluster.
    pub cluster: String,
    /// The lineage of the cluster.
    pub lineage: u32,
    /// The Raft term.
    pub term: u64,
}

/// The time since this machine booted, suspension included (`CLOCK_BOOTTIME`).
pub fn since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The health of an instance as its flavor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Healthy, unhealthy or unknown.
    pub health: Health,
    /// The reason; may be empty.
    pub message: String,
}

impl Verdict {
    /// Healthy, without a message.
    pub fn healthy() -> Self {
        Self { health: Health::Healthy, message: String::new() }
    }
}

/// The interface of instance plugins: creates, lists and destroys instances.
#[async_trait]
pub trait Instances: Send + Sync + 'static {
    /// Validates the properties, not a whole spec.
    async fn validate(&self, properties: &Opaque) -> Result<(), Error>;

    /// Creates an instance with all its tags, and returns its id.
    ///
    /// After an `Unsure` error, or any unclassified error, the instance may have been created.
    async fn provision(&self, spec: &InstanceSpec, call: &Call) -> Result<InstanceId, Error>;

    /// Adds or replaces tags of an instance, and keeps the others. An unknown id is an error.
    async fn label(&self, instance: &InstanceId, labels: &Tags, call: &Call) -> Result<(), Error>;

    /// Destroys an instance; one that does not exist counts as destroyed. `reason` is `terminate` or
    /// `rolling_update`.
    async fn destroy(&self, instance: &InstanceId, reason: &str, call: &Call) -> Result<(), Error>;

    /// Starts a stopped instance; a running one is left alone. Idempotent, and creates nothing. Only for
    /// plugins that list `Start/0.1.0`.
    async fn start(&self, instance: &InstanceId) -> Result<(), Error> {
        Err(Error::new(Class::InvalidSpec, format!("this plugin cannot start `{instance}`")))
    }

    /// Lists every instance that has all these tags with exactly these values. A partial list must be an
    /// error.
    ///
    /// # The state of an instance
    ///
    /// A description should have the state of its instance. It is an extension of the protocol: the optional
    /// key `State` of a description, beside `ID` and `Tags`. Clients of Docker's InfraKit ignore it.
    ///
    /// ```text
    /// "State": {"Status": "Failed", "ExitCode": 137, "Since": "2030-01-31T12:00:00Z", "Message": "out of memory"}
    /// ```
    ///
    /// Only `Status` is required. `"Ended": true` beside `Failed` says that what ran in it has ended and can be started
    /// again. The status is one of
    ///
    /// | status | meaning |
    /// |---|---|
    /// | `Running` | it runs |
    /// | `Starting` | it is created or started, and has not failed |
    /// | `Stopped` | it was stopped, or ended without an error |
    /// | `Paused` | it is paused or suspended, with its memory |
    /// | `Failed` | it ended with an error, restarts again and again, or cannot be read |
    /// | `Unknown` | the plugin does not know |
    ///
    /// If a plugin in another process does not report it, the client derives it from `State` or `Status` in the
    /// properties: from a word, or from an object with the word as `Status` (`docker inspect`) or `Name` (EC2).
    /// The words count in any case, and with or without `-`, `_` and spaces. Any other word is no state.
    ///
    /// | status | words of providers |
    /// |---|---|
    /// | `Running` | running, active, powered on |
    /// | `Starting` | starting, created, creating, pending, provisioning, staging, initializing, build, building, booting, reboot, rebooting |
    /// | `Stopped` | stopped, stopping, off, shutoff, powered off, shutting down, terminated, terminating, deallocated, deallocating, removing |
    /// | `Paused` | paused, suspended, suspending |
    /// | `Failed` | failed, error, dead, restarting, crashed |
    /// | `Unknown` | unknown |
    /// | `Stopped` or `Failed` | exited: `Failed` if the exit code is not zero |
    ///
    /// An object without such a word is read by its `Restarting`, `Dead`, `Paused` and `Running`, as
    /// `docker inspect` has them.
    ///
    /// # What the client tolerates
    ///
    /// Each instance is read by itself. One that cannot be read in full is listed with what can be read and the
    /// state `Unknown`, with the reason; one without an id, or with an id of more than
    /// [`LONGEST_ID`](crate::LONGEST_ID) bytes, is skipped with a warning. Of several with one id, the last
    /// holds. A reply without `Descriptions` is an error; null is an empty list.
    async fn describe(&self, tags: &Tags, properties: bool) -> Result<Vec<Description>, Error>;
}

/// The interface of flavor plugins: prepares, checks and drains instances.
#[async_trait]
pub trait Flavors: Send + Sync + 'static {
    /// Validates the properties.
    async fn validate(&self, properties: &Opaque, allocation: &Allocation) -> Result<(), Error>;

    /// Returns the spec to provision. Idempotent.
    async fn prepare(
        &self,
        properties: &Opaque,
        spec: InstanceSpec,
        allocation: &Allocation,
        index: &Index,
    ) -> Result<InstanceSpec, Error>;

    /// Checks the health of an instance.
    async fn healthy(&self, properties: &Opaque, instance: &Description) -> Result<Verdict, Error>;

    /// Drains an instance before it is destroyed. Idempotent.
    async fn drain(&self, properties: &Opaque, instance: &Description) -> Result<(), Error>;
}
