//! Why a group does not move on, and what should not be: values with a reason code; sentences only by `Display`.

use std::fmt;

use crate::ids::{InstanceId, IntentId, LogicalId, PluginName, Slot};
use crate::observed::{InstanceState, RunStatus};
use crate::rollout::{Cause, Phase};
use crate::time::{Millis, Timestamp};

/// Why a group does not move on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// An operator paused it: no action of any kind is taken.
    Paused { since: Timestamp, by: String },
    /// Its plugins have not accepted its spec yet.
    Validation { message: String },
    /// The plugin cannot be reached.
    Plugin { plugin: PluginName, since: Timestamp, message: String },
    /// The plugin has still to list its instances.
    Listing { plugin: PluginName },
    /// The group was declared again: its plugin may still show members of before.
    Known { plugin: PluginName, until: Timestamp },
    /// Calls are under way.
    Calls { open: usize },
    /// The outcome of an attempt is not known yet.
    Settling { intent: IntentId, until: Timestamp, message: String },
    /// The slot failed a moment ago.
    Backoff { slot: Slot, until: Timestamp, message: String },
    /// A member is not healthy, and the next step needs it to be.
    Health { slot: Slot, instance: InstanceId, message: String },
    /// A member was ready and is not any more. Nobody replaces it for that.
    Unhealthy { slot: Slot, instance: InstanceId, since: Timestamp, message: String },
    /// Its plugin lists a member as not running. Nobody starts or replaces it for that.
    NotRunning { slot: Slot, instance: InstanceId, since: Timestamp, state: InstanceState },
    /// Its plugin lists a member as not running, and its group asks for it to be started.
    Start {
        slot: Slot,
        instance: InstanceId,
        since: Timestamp,
        state: InstanceState,
        /// When that is tried next; none while it is being tried.
        until: Option<Timestamp>,
        message: String,
    },
    /// A member did not become ready by the deadline of its group. Nobody replaces it for that.
    Overdue { slot: Slot, instance: InstanceId, since: Timestamp, deadline: Millis, message: String },
    /// Its rollout is paused or has failed: no further member is replaced.
    Rollout { phase: Phase, cause: Option<Cause> },
    /// The canaries are watched; until an operator promotes them when there is no time.
    Canary { canaries: usize, until: Option<Timestamp> },
    /// Everybody has the new template, and is watched for a while.
    Monitor { until: Timestamp },
    /// A label failed a moment ago.
    Label { instance: InstanceId, until: Timestamp, message: String },
    /// The end of an instance that is too much failed a moment ago.
    Stray { instance: InstanceId, until: Timestamp, message: String },
    /// Its plugin cannot show whether it was made: only a person can find out.
    Operator { intent: IntentId, slot: Slot, message: String },
    /// So many intents of other groups are open that none may be added.
    Others,
    /// The cluster has as many instances as it may have.
    Ceiling,
    /// The group has made too many instances in a short time.
    Rate { until: Timestamp },
    /// A manager runs on the instance that is to go.
    Manager { instance: InstanceId, manager: String },
    /// Members that the latest listing did not show: another must agree before they are taken for gone.
    Missing { plugin: PluginName, members: usize },
}

impl Wait {
    /// The code of the reason, for scripts: it stays the same whatever the sentence says.
    pub fn reason(&self) -> &'static str {
        match self {
            Wait::Paused { .. } => "Paused",
            Wait::Validation { .. } => "PluginsHaveNotAccepted",
            Wait::Plugin { .. } => "PluginUnreachable",
            Wait::Listing { .. } => "ListingAwaited",
            Wait::Known { .. } => "MembersOfBeforeAwaited",
            Wait::Calls { .. } => "CallsUnderWay",
            Wait::Settling { .. } => "OutcomeUnknown",
            Wait::Backoff { .. } => "SlotBackoff",
            Wait::Health { .. } => "NotHealthyYet",
            Wait::Unhealthy { .. } => "UnhealthyNotReplaced",
            Wait::NotRunning { state, .. } if state.status == RunStatus::Starting => "Starting",
            Wait::NotRunning { .. } => "NotRunning",
            Wait::Start { .. } => "StartingAgain",
            Wait::Overdue { .. } => "BootDeadlineExceeded",
            Wait::Rollout { cause: Some(cause), .. } => cause.code(),
            Wait::Rollout { cause: None, .. } => "RolloutPaused",
            Wait::Canary { until: None, .. } => "PromotionAwaited",
            Wait::Canary { .. } => "CanariesWatched",
            Wait::Monitor { .. } => "MembersWatched",
            Wait::Label { .. } => "LabelBackoff",
            Wait::Stray { .. } => "DestroyBackoff",
            Wait::Operator { .. } => "OperatorNeeded",
            Wait::Others => "TooManyOpenIntents",
            Wait::Ceiling => "MaxInstances",
            Wait::Rate { .. } => "RateLimited",
            Wait::Manager { .. } => "HostsManager",
            Wait::Missing { .. } => "MembersMissing",
        }
    }

    /// When it ends by itself, as far as is known.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Wait::Settling { until, .. }
            | Wait::Backoff { until, .. }
            | Wait::Label { until, .. }
            | Wait::Stray { until, .. }
            | Wait::Known { until, .. }
            | Wait::Monitor { until }
            | Wait::Rate { until } => Some(*until),
            Wait::Start { until, .. } | Wait::Canary { until, .. } => *until,
            Wait::Paused { .. }
            | Wait::Validation { .. }
            | Wait::Plugin { .. }
            | Wait::Listing { .. }
            | Wait::Calls { .. }
            | Wait::Rollout { .. }
            | Wait::Health { .. }
            | Wait::Unhealthy { .. }
            | Wait::NotRunning { .. }
            | Wait::Overdue { .. }
            | Wait::Operator { .. }
            | Wait::Others
            | Wait::Ceiling
            | Wait::Manager { .. }
            | Wait::Missing { .. } => None,
        }
    }

    /// The slot, instance, intent or plugin that it is about; empty when it is about the whole group.
    pub fn subject(&self) -> String {
        match self {
            Wait::Plugin { plugin, .. }
            | Wait::Listing { plugin }
            | Wait::Known { plugin, .. }
            | Wait::Missing { plugin, .. } => plugin.to_string(),
            Wait::Settling { intent, .. } => intent.to_string(),
            Wait::Backoff { slot, .. }
            | Wait::Operator { slot, .. }
            | Wait::Health { slot, .. }
            | Wait::Unhealthy { slot, .. }
            | Wait::NotRunning { slot, .. }
            | Wait::Start { slot, .. }
            | Wait::Overdue { slot, .. } => slot.to_string(),
            Wait::Label { instance, .. } | Wait::Stray { instance, .. } | Wait::Manager { instance, .. } => {
                instance.to_string()
            }
            Wait::Paused { .. }
            | Wait::Validation { .. }
            | Wait::Calls { .. }
            | Wait::Rollout { .. }
            | Wait::Canary { .. }
            | Wait::Monitor { .. }
            | Wait::Others
            | Wait::Ceiling
            | Wait::Rate { .. } => String::new(),
        }
    }

    /// Nothing moves because of it, and nothing has to be looked at more often.
    pub fn is_at_rest(&self) -> bool {
        match self {
            Wait::Paused { .. }
            | Wait::Unhealthy { .. }
            | Wait::Overdue { .. }
            | Wait::Rollout { .. }
            | Wait::Canary { until: None, .. } => true,
            // Whoever starts will be ready or fail, and that is to be seen soon.
            Wait::NotRunning { state, .. } => state.status != RunStatus::Starting,
            _ => false,
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = |message: &str| {
            if message.is_empty() { String::new() } else { format!(": {message}") }
        };
        match self {
            Wait::Paused { by, .. } => {
                write!(f, "paused by {by}: no action is taken until `infrakit group resume`")
            }
            Wait::Validation { message } => {
                write!(f, "its plugins have not accepted its spec yet{}", because(message))
            }
            Wait::Plugin { plugin, message, .. } => {
                write!(f, "plugin `{plugin}` is unreachable{}", because(message))
            }
            Wait::Listing { plugin } => write!(f, "plugin `{plugin}` is to list its instances"),
            Wait::Known { plugin, .. } => {
                write!(f, "declared again: plugin `{plugin}` may still show members that it had before")
            }
            Wait::Calls { open: 1 } => f.write_str("1 call is under way"),
            Wait::Calls { open } => write!(f, "{open} calls are under way"),
            Wait::Settling { intent, message, .. } => {
                write!(f, "the outcome of intent {intent} is not known{}", because(message))
            }
            Wait::Backoff { slot, message, .. } => {
                write!(f, "slot {slot} failed, and is tried again{}", because(message))
            }
            Wait::Health { slot, instance, message } => {
                write!(f, "{instance} in slot {slot} is not healthy yet{}", because(message))
            }
            Wait::NotRunning { slot, instance, state, .. } if state.status == RunStatus::Starting => {
                write!(f, "{instance} in slot {slot} is starting{}", because(&state.message))
            }
            Wait::NotRunning { slot, instance, state, .. } => {
                let start = if state.can_be_started() {
                    "`Healing: {Start: true}` in the spec of a group that acts starts it again, and"
                } else {
                    "look at it at its provider, or"
                };
                write!(
                    f,
                    "{instance} in slot {slot} {state}; a member that is listed is not replaced for that: {start} \
                     `infrakit instance destroy` lets another take its slot"
                )
            }
            Wait::Start { slot, instance, state, message, .. } => {
                write!(f, "{instance} in slot {slot} {state}; it is started again{}", because(message))
            }
            Wait::Overdue { slot, instance, deadline, message, .. } => write!(
                f,
                "{instance} in slot {slot} has not become ready within its boot deadline of {deadline}{}; \
                 `infrakit instance destroy` lets another take its slot",
                because(message)
            ),
            Wait::Unhealthy { slot, instance, message, .. } => write!(
                f,
                "{instance} in slot {slot} is unhealthy{}; a member that is listed is not replaced for its health: \
                 `infrakit instance destroy` lets another take its slot, and a commit of a changed template \
                 replaces the unhealthy first",
                because(message)
            ),
            Wait::Rollout { phase: Phase::Failed { .. }, cause } => write!(
                f,
                "its rollout has failed{}: commit what mends it, or `infrakit rollout resume` or `abort`",
                because(&cause.as_ref().map(Cause::to_string).unwrap_or_default())
            ),
            Wait::Rollout { cause, .. } => write!(
                f,
                "its rollout is paused{}: `infrakit rollout resume`, `abort` or `undo` says how it goes on",
                because(&cause.as_ref().map(Cause::to_string).unwrap_or_default())
            ),
            Wait::Canary { canaries, until: None } => write!(
                f,
                "{canaries} of its members have the new template; `infrakit rollout promote` replaces the others"
            ),
            Wait::Canary { canaries, .. } => {
                write!(f, "{canaries} of its members have the new template, and are watched")
            }
            Wait::Monitor { .. } => f.write_str("all members have the new template, and are watched"),
            Wait::Label { instance, message, .. } => {
                write!(f, "{instance} is labelled again, to be adopted{}", because(message))
            }
            Wait::Stray { instance, message, .. } => {
                write!(f, "{instance}, which is one too many, is destroyed again{}", because(message))
            }
            Wait::Operator { slot, message, .. } => write!(
                f,
                "an operator is needed: whether slot {slot} was filled cannot be seen{}; look at the provider, and \
                 say so with `infrakit group resolve`",
                because(message)
            ),
            Wait::Others => f.write_str("too many calls of other groups are under way"),
            Wait::Ceiling => {
                f.write_str("the cluster has as many instances as infrakit/max-instances allows")
            }
            Wait::Rate { .. } => f.write_str(
                "it made so many instances in a short time that something may be destroying them; a commit of a \
                 changed spec begins a new count",
            ),
            Wait::Manager { instance, manager } => {
                write!(f, "manager `{manager}` runs on {instance}, which is not destroyed under it")
            }
            Wait::Missing { plugin, members: 1 } => {
                write!(f, "plugin `{plugin}` no longer lists a member; another listing is to confirm it")
            }
            Wait::Missing { plugin, members } => {
                write!(f, "plugin `{plugin}` no longer lists {members} members; other listings are to confirm it")
            }
        }
    }
}

/// Something at the provider that this cluster cannot have done. Nothing is destroyed because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anomaly {
    /// It carries this cluster's id, and a token that was never given out; empty when it has none.
    UnknownIntent { instance: InstanceId, token: String },
    /// Two instances carry one token, which was used once.
    SharedToken { intent: IntentId, instances: [InstanceId; 2] },
    /// A second instance of one logical id: it was lost and came back, or was made by an earlier lineage in what was
    /// lost of its log.
    SecondOfName { instance: InstanceId, name: String },
    /// Members are listed without the tag of their group.
    TagsLost { plugin: PluginName, members: usize },
    /// Instances are listed under other logical ids than those that they were made for; this is the first of them.
    OtherName { plugin: PluginName, members: usize, instance: InstanceId, listed: LogicalId },
}

impl Anomaly {
    /// The code of the reason, for scripts.
    pub fn reason(&self) -> &'static str {
        match self {
            Anomaly::UnknownIntent { .. } => "UnknownIntent",
            Anomaly::SharedToken { .. } => "SharedToken",
            Anomaly::SecondOfName { .. } => "SecondOfName",
            Anomaly::TagsLost { .. } => "TagsLost",
            Anomaly::OtherName { .. } => "OtherName",
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Anomaly::UnknownIntent { instance, token } => {
                let token =
                    if token.is_empty() { "no token".to_owned() } else { format!("the token {token}") };
                write!(
                    f,
                    "{instance} carries this cluster's id and {token}, which this cluster never gave out: a copy of \
                     it may be at work, or one that was restored from an older disk, or somebody set the tag by \
                     hand. Nothing is destroyed because of it; stop the other managers, or correct the tags \
                     infrakit.owner and infrakit.intent"
                )
            }
            Anomaly::SharedToken { intent, instances: [one, other] } => write!(
                f,
                "{one} and {other} both carry the token of intent {intent}, which was used once: two clusters \
                 may act under one id. Nothing is destroyed because of it; stop the other managers, and destroy \
                 the instance that is not a member"
            ),
            Anomaly::TagsLost { plugin, members } => write!(
                f,
                "plugin `{plugin}` lists {members} members without the tag of their group: they are there, and nothing \
                 is destroyed or made because of it; new instances wait until the tags are back"
            ),
            Anomaly::OtherName { plugin, members, instance, listed } => {
                let more = match members {
                    0 | 1 => String::new(),
                    _ => format!(", and {} others under other names, too", members - 1),
                };
                write!(
                    f,
                    "plugin `{plugin}` lists {instance} under the logical id {listed}{more}: by their tags they were \
                     made for others, and the tags count. Nothing is destroyed or made because of it; correct what \
                     the plugin or the flavor says"
                )
            }
            Anomaly::SecondOfName { instance, name } => write!(
                f,
                "{instance} has the name {name} as its member has: it was lost and came back, or was made by what was \
                 lost when the cluster was recovered, and which of the two is in use is unknown. Nothing is destroyed \
                 because of it; look at both, and destroy one with `infrakit instance destroy`"
            ),
        }
    }
}
