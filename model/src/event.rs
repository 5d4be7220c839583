//! Events, emitted by applying the log: every replica emits the same.

use crate::command::Verb;
use crate::ids::{GroupId, LogIndex, Revision};
use crate::time::Timestamp;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The log entry that caused it.
    pub index: LogIndex,
    pub at: Timestamp,
    /// Empty for the cluster as a whole.
    pub group: Option<GroupId>,
    /// Who caused it.
    pub by: String,
    pub kind: Kind,
    pub message: String,
}

/// The kinds of events; scripts rely on their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ClusterBootstrapped,
    ManagerJoined,
    ManagerPromoted,
    ManagerDemoted,
    ManagerRemoved,
    ManagerMoved,
    ManagerDuplicated,
    LevelRaised,
    PersonLoggedIn,
    TokenCreated,
    TokenRevoked,
    AuthorityAnnounced,
    AuthorityRotated,
    AuthorityRetired,
    SecretSet,
    SecretRemoved,
    GroupCommitted,
    Object(Verb),
    GroupDestroyed,
    RolloutStarted,
    RolloutSucceeded,
    RolloutPaused,
    RolloutResumed,
    RolloutPromoted,
    RolloutBaking,
    RolloutRollingBack,
    RolloutRolledBack,
    RolloutFailed,
    RolloutMemberFailed,
    InstanceProvisioned,
    InstanceAdopted,
    InstanceLost,
    InstanceReady,
    InstanceUnhealthy,
    InstanceDestroyed,
    ProvisionRefused,
    DestroyRefused,
    InstanceNotDrained,
    InstanceStarted,
    StraysGivenUp,
    InstanceLabelled,
    LabelRefused,
    IntentSettled,
    LeaderElected,
    ClusterRecovered,
    VariableSet,
    VariableRemoved,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::ClusterBootstrapped => "ClusterBootstrapped",
            Kind::ManagerJoined => "ManagerJoined",
            Kind::ManagerPromoted => "ManagerPromoted",
            Kind::ManagerDemoted => "ManagerDemoted",
            Kind::ManagerRemoved => "ManagerRemoved",
            Kind::ManagerMoved => "ManagerMoved",
            Kind::ManagerDuplicated => "ManagerDuplicated",
            Kind::LevelRaised => "LevelRaised",
            Kind::PersonLoggedIn => "PersonLoggedIn",
            Kind::TokenCreated => "TokenCreated",
            Kind::TokenRevoked => "TokenRevoked",
            Kind::AuthorityAnnounced => "AuthorityAnnounced",
            Kind::AuthorityRotated => "AuthorityRotated",
            Kind::AuthorityRetired => "AuthorityRetired",
            Kind::SecretSet => "SecretSet",
            Kind::SecretRemoved => "SecretRemoved",
            Kind::GroupCommitted => "GroupCommitted",
            Kind::Object(verb) => verb.event(),
            Kind::GroupDestroyed => "GroupDestroyed",
            Kind::RolloutStarted => "RolloutStarted",
            Kind::RolloutSucceeded => "RolloutSucceeded",
            Kind::RolloutPaused => "RolloutPaused",
            Kind::RolloutResumed => "RolloutResumed",
            Kind::RolloutPromoted => "RolloutPromoted",
            Kind::RolloutBaking => "RolloutBaking",
            Kind::RolloutRollingBack => "RolloutRollingBack",
            Kind::RolloutRolledBack => "RolloutRolledBack",
            Kind::RolloutFailed => "RolloutFailed",
            Kind::RolloutMemberFailed => "RolloutMemberFailed",
            Kind::InstanceProvisioned => "InstanceProvisioned",
            Kind::InstanceAdopted => "InstanceAdopted",
            Kind::InstanceLost => "InstanceLost",
            Kind::InstanceReady => "InstanceReady",
            Kind::InstanceUnhealthy => "InstanceUnhealthy",
            Kind::InstanceDestroyed => "InstanceDestroyed",
            Kind::ProvisionRefused => "ProvisionRefused",
            Kind::DestroyRefused => "DestroyRefused",
            Kind::InstanceNotDrained => "InstanceNotDrained",
            Kind::InstanceStarted => "InstanceStarted",
            Kind::StraysGivenUp => "StraysGivenUp",
            Kind::InstanceLabelled => "InstanceLabelled",
            Kind::LabelRefused => "LabelRefused",
            Kind::IntentSettled => "IntentSettled",
            Kind::LeaderElected => "LeaderElected",
            Kind::ClusterRecovered => "ClusterRecovered",
            Kind::VariableSet => "VariableSet",
            Kind::VariableRemoved => "VariableRemoved",
        }
    }

    /// The kind with this name; none if only a newer program knows it.
    pub fn named(name: &str) -> Option<Self> {
        let verbs = [Verb::Accept(Revision(0)), Verb::Release, Verb::Destroy, Verb::Pause, Verb::Resume];
        let all = KINDS.into_iter().chain(verbs.map(Kind::Object));
        all.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// All kinds but those of verbs.
const KINDS: [Kind; 46] = [
    Kind::ClusterBootstrapped,
    Kind::ManagerJoined,
    Kind::ManagerPromoted,
    Kind::ManagerDemoted,
    Kind::ManagerRemoved,
    Kind::ManagerMoved,
    Kind::ManagerDuplicated,
    Kind::LevelRaised,
    Kind::PersonLoggedIn,
    Kind::TokenCreated,
    Kind::TokenRevoked,
    Kind::AuthorityAnnounced,
    Kind::AuthorityRotated,
    Kind::AuthorityRetired,
    Kind::SecretSet,
    Kind::SecretRemoved,
    Kind::GroupCommitted,
    Kind::GroupDestroyed,
    Kind::RolloutStarted,
    Kind::RolloutSucceeded,
    Kind::RolloutPaused,
    Kind::RolloutResumed,
    Kind::RolloutPromoted,
    Kind::RolloutBaking,
    Kind::RolloutRollingBack,
    Kind::RolloutRolledBack,
    Kind::RolloutFailed,
    Kind::RolloutMemberFailed,
    Kind::InstanceProvisioned,
    Kind::InstanceAdopted,
    Kind::InstanceLost,
    Kind::InstanceReady,
    Kind::InstanceUnhealthy,
    Kind::InstanceDestroyed,
    Kind::ProvisionRefused,
    Kind::DestroyRefused,
    Kind::InstanceNotDrained,
    Kind::InstanceStarted,
    Kind::StraysGivenUp,
    Kind::InstanceLabelled,
    Kind::LabelRefused,
    Kind::IntentSettled,
    Kind::LeaderElected,
    Kind::ClusterRecovered,
    Kind::VariableSet,
    Kind::VariableRemoved,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_by_its_name() {
        for kind in KINDS {
            assert_eq!(Kind::named(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::named("GroupPaused"), Some(Kind::Object(Verb::Pause)));
        assert_eq!(Kind::named("Unheard"), None);
    }
}
