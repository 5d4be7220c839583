//! The port to the outside: look, perform, ask. It belongs to the reconciler; the plugins stand
//! behind it.

mod pace;
mod plugins;
#[cfg(test)]
pub(crate) mod tabletop;

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::failpoints::{Protection, is_left_out};
use model::intent::{Intent, Reason, Task};
use model::plugin::Guarantees;
use model::state::TemplateRecord;
use model::tags::Tags;
use model::{Description, GroupId, GroupSpec, Health, InstanceId, Outcome, Part, PluginName, Revision};

use crate::lease::Lease;

/// How long a member stays whose end an operator asked for, while its flavor refuses to drain it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) use plugins::Plugins;

/// What a plugin shows when it is looked at.
pub struct Listed {
    pub items: Vec<Arc<Description>>,
    pub guarantees: Guarantees,
}

/// Everything a plugin must be told to carry out one intent.
#[derive(Clone)]
pub struct Work {
    pub group: GroupId,
    pub spec: Arc<GroupSpec>,
    /// The revision of it.
    pub revision: Revision,
    pub intent: Intent,
    /// The template the intent is about.
    pub known: Arc<TemplateRecord>,
    /// The name of the intent as the outside sees it.
    pub token: String,
    /// The tags that are ours to set: all of them when an instance is made, or those of a label.
    pub tags: Tags,
    /// The instance as last seen, for its drain.
    pub seen: Option<Arc<Description>>,
    /// For how long the same was refused before, as far as this leader knows.
    pub refused_for: Duration,
    /// What becomes known beside the outcome.
    pub notes: Arc<Notes>,
    /// Asked right before every call that changes something.
    pub lease: Lease,
}

/// What becomes known while an intent is carried out, beside its outcome.
#[derive(Debug, Default)]
pub struct Notes {
    /// Why it was destroyed without its drain, if it was.
    pub not_drained: OnceLock<String>,
    /// The tags that the flavor prepared for what is made.
    pub prepared: OnceLock<Tags>,
}

impl Work {
    /// Whether a member stays when its flavor refuses to drain it (decision 43). Where an operator asked for its end, by
    /// a smaller size or the end of the group, it does not stay for ever.
    pub fn stays_undrained(&self) -> bool {
        if is_left_out(Protection::RefusedDrain) {
            return false;
        }
        match self.intent.task {
            Task::Destroy { reason: Reason::RollingUpdate, .. } => true,
            Task::Destroy { .. } => self.refused_for < DRAIN_PATIENCE,
            Task::Provision { .. } | Task::Label { .. } => false,
        }
    }

    /// An instance of which nothing but its id and our own tags is known.
    pub fn described(&self, instance: &InstanceId) -> Arc<Description> {
        let logical_id = self.intent.task.slot().and_then(|slot| slot.logical_id().cloned());
        let (tags, id) = (self.tags.clone(), instance.clone());
        Arc::new(Description { id, logical_id, tags, properties: None, state: None })
    }
}

/// What one plugin of a spec says against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// It is about the flavor, not the instance.
    pub flavor: bool,
    pub plugin: PluginName,
    /// The plugin could not be asked; otherwise it said no.
    pub absent: bool,
    pub message: String,
}

/// What an event of a plugin says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something changed: a listing tells what.
    Changed,
    /// This instance is gone, says the plugin itself.
    Gone(InstanceId),
}

/// What the reconciler needs from the outside.
pub trait World: Send + Sync + 'static {
    /// Everything the plugin has. An error is never a shorter list. The plugin hears who leads.
    fn list(&self, plugin: &PluginName, lease: &Lease)
    -> impl Future<Output = Result<Listed, String>> + Send;

    /// Waits for the plugin's next event, which means "look again". Ends with an error when there is
    /// no stream of events.
    fn next_event(&self, plugin: &PluginName) -> impl Future<Output = Result<Told, String>> + Send;

    /// Carries out an intent under its token.
    fn perform(&self, work: &Work) -> impl Future<Output = Outcome> + Send;

    /// Starts an instance that has stopped, which was made from this part. Repeating it does no harm.
    fn start(
        &self,
        part: &Part,
        instance: &InstanceId,
        lease: &Lease,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Asks the flavor how an instance is.
    fn health(&self, flavor: &Part, instance: &Description) -> impl Future<Output = (Health, String)> + Send;

    /// Asks both plugins of a spec whether they accept it, and gives whatever speaks against it.
    fn validate(&self, spec: &GroupSpec) -> impl Future<Output = Vec<Rejection>> + Send;
}
