//! What is true, and what follows from it: values and functions of values.
//!
//! Nothing in this crate does I/O, reads a clock, draws a random number or waits. Every manager
//! applies the same commands to the same state and must reach the same result, so the collections
//! keep an order and the time is always an argument.

pub mod access;
pub mod answer;
pub mod bounds;
pub mod command;
pub mod draft;
pub mod event;
pub mod failpoints;
pub mod fingerprint;
pub mod forecast;
pub mod ids;
pub mod intent;
pub mod limits;
pub mod lineage;
pub mod membership;
pub mod observed;
pub mod part;
pub mod plan;
pub mod plugin;
pub mod problem;
pub mod quorum;
pub mod report;
pub mod rollout;
pub mod secret;
pub mod spec;
pub mod state;
pub mod status;
pub mod tags;
pub mod time;

pub use access::Role;
pub use answer::{Answer, Refusal};
pub use command::{Actor, Change, Command};
pub use ids::{
    ClusterId, Generation, GroupId, InstanceId, InstanceRef, IntentId, LogId, LogIndex, LogicalId, NodeId,
    ObjectKey, PluginName, RequestId, Revision, Slot, Term,
};
pub use intent::{Intent, Outcome, Task};
pub use lineage::Lineages;
pub use observed::{Description, Health, InstanceState, Listing, Observed, RunStatus};
pub use part::{Opaque, Part};
pub use plan::{Action, Plan, Wait, plan};
pub use problem::{Problem, Problems};
pub use rollout::Phase;
pub use spec::{Allocation, GroupSpec, Spec, Template, Updating};
pub use state::{GroupState, State};
pub use time::{Millis, Timestamp};
