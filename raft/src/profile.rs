//! Election timing, and the configuration of openraft.

use std::time::Duration;

use model::failpoints::{Protection, is_left_out};
use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use crate::identity::Identity;

/// The election timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// A heartbeat every 100 ms, an election timeout of 1.4 to 1.6 s.
    #[default]
    Default,
    /// 40 ms and 0.32 to 0.36 s, for disks that sync within 20 ms.
    Fast,
    /// 500 ms and 8.8 to 10 s, between sites.
    Wan,
}

impl Profile {
    /// Heartbeat, shortest and longest election timeout, in milliseconds. openraft's voters refuse any vote
    /// for the longest after they heard their leader, and begin to count to their own timeout then.
    fn timing(self) -> (u64, u64, u64) {
        match self {
            Profile::Default => (100, 600, 800),
            Profile::Fast => (40, 135, 180),
            Profile::Wan => (500, 3750, 5000),
        }
    }

    /// Nobody is elected before the longest election timeout has passed since a majority heard the leader;
    /// a quarter of it is left for clocks that run at different speeds. A voter that has just started has
    /// forgotten whom it heard: it gives no vote for so long (`votes_from`), and stands for none before the
    /// shortest timeout, which is not less.
    pub(crate) fn lease(self) -> Duration {
        let (_, _, longest) = self.timing();
        Duration::from_millis(longest * 3 / 4)
    }

    /// After this long without a leader, it is not for an election that there is none: twice the longest timeout, a quarter
    /// more, and two seconds at least.
    pub(crate) fn patience(self) -> Duration {
        let (_, _, longest) = self.timing();
        Duration::from_millis(longest * 5 / 2).max(Duration::from_secs(2))
    }

    pub(crate) fn config(self, identity: &Identity) -> Config {
        let (heartbeat, shortest, longest) = self.timing();
        Config {
            cluster_name: identity.cluster.to_string(),
            heartbeat_interval: heartbeat,
            election_timeout_min: shortest,
            election_timeout_max: longest,
            enable_pre_vote: Some(true),
            // A restarted leader must not lead on in its old term: its work is gone.
            enable_leader_restore: Some(is_left_out(Protection::NoRestore)),
            // A leader that lost its majority stops reaching the rest, so that they can elect.
            quorum_loss_probe_interval: Some(2 * longest),
            // Leadership is transferred only by `give_lead_to`, which gives up the lease first.
            removed_leader_step_down: StepDownPolicy::Never,
            // The followers sync while the leader does.
            broadcast_submitted_on_append: Some(true),
            install_snapshot_timeout: 30_000,
            // A follower that is a little behind is served from the log.
            snapshot_policy: SnapshotPolicy::LogsSinceLast(5_000),
            max_in_snapshot_log_to_keep: 10_000,
            ..Config::default()
        }
    }
}
