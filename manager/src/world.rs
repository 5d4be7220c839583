//! The port to the outside: look, perform, ask. It belongs to the reconciler; the plugins stand
//! behind it.

mod plugins;

use std::future::Future;
use std::sync::Arc;

use model::intent::Intent;
use model::state::Known;
use model::tags::Tags;
use model::{Description, GroupId, GroupSpec, Health, InstanceId, Outcome, Part, PluginName};

use crate::lease::Lease;

pub(crate) use plugins::Plugins;

/// What a plugin shows when it is looked at.
pub(crate) struct Look {
    pub(crate) items: Vec<Arc<Description>>,
    pub(crate) knows_tokens: bool,
}

/// Everything a plugin must be told to carry out one intent.
pub(crate) struct Work {
    pub(crate) group: GroupId,
    pub(crate) spec: Arc<GroupSpec>,
    pub(crate) intent: Intent,
    /// The template the intent is about.
    pub(crate) known: Arc<Known>,
    /// The name of the intent as the outside sees it.
    pub(crate) token: String,
    /// The tags that are ours to set.
    pub(crate) tags: Tags,
    /// The instance as last seen, for its drain.
    pub(crate) seen: Option<Arc<Description>>,
    /// Asked right before every call that changes something.
    pub(crate) lease: Lease,
}

/// Why a spec was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The plugin could not be asked.
    Absent { plugin: PluginName, because: String },
    /// The plugin said no.
    Refused { plugin: PluginName, because: String },
}

/// What the reconciler needs from the outside.
pub(crate) trait World: Send + Sync + 'static {
    /// Everything the plugin has. An error is never a shorter list.
    fn look(&self, plugin: &PluginName) -> impl Future<Output = Result<Look, String>> + Send;

    /// Waits for the plugin's next event, which means "look again". Ends with an error when there is
    /// no stream of events.
    fn next_event(&self, plugin: &PluginName) -> impl Future<Output = Result<(), String>> + Send;

    /// Carries out an intent under its token.
    fn perform(&self, work: &Work) -> impl Future<Output = Outcome> + Send;

    /// Asks the flavor how an instance is.
    fn health(&self, flavor: &Part, instance: &Description) -> impl Future<Output = (Health, String)> + Send;

    /// Adds tags to an instance.
    fn label(
        &self,
        plugin: &PluginName,
        instance: &InstanceId,
        labels: &Tags,
        lease: &Lease,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Asks both plugins of a spec whether they accept it.
    fn validate(&self, spec: &GroupSpec) -> impl Future<Output = Result<(), Rejection>> + Send;
}
