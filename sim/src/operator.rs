//! Somebody who looks at the provider when a plugin cannot, and says what is there.

use std::collections::BTreeMap;
use std::time::Duration;

use model::command::Settle;
use model::state::Incarnation;
use model::{GroupId, IntentId, tags};
use tokio::time::Instant;

use crate::cluster::Cluster;

/// How long an intent is open before somebody comes: longer than its call can take, and take effect.
const COMES_AFTER: Duration = Duration::from_secs(45);

#[derive(Default)]
pub(crate) struct Operator {
    /// Since when each intent is known to be open.
    open: BTreeMap<IntentId, Instant>,
}

impl Operator {
    /// What is to be said about the intents that nobody else will settle.
    pub(crate) fn listings_seen(&mut self, cluster: &Cluster) -> Vec<Settle> {
        let group = GroupId::new("blind");
        let replica = cluster.leader().and_then(|leader| cluster.replica(leader));
        let Some(state) = replica.and_then(|replica| replica.published().state.group(&group).cloned()) else {
            return Vec::new();
        };
        let cloud = cluster.cloud.lock().expect("the cloud");
        let incarnations = state.roster.values().flat_map(|member| member.incarnations());
        let pending = incarnations.filter_map(|it| match it {
            Incarnation::Pending(intent) => state.intents.get(intent),
            Incarnation::Occupied(_) => None,
        });
        let now = Instant::now();
        let due = pending.filter(|it| *self.open.entry(it.id).or_insert(now) + COMES_AFTER <= now);
        let settle = due.map(|intent| {
            let claimed = |it: &&crate::cloud::Instance| {
                it.claim == intent.id && it.tags.get(tags::GROUP).map(String::as_str) == Some("blind")
            };
            let made = cloud.running().find(claimed).map(|it| it.at.id.clone());
            Settle { group: group.clone(), intent: intent.id, attempt: intent.attempt, made }
        });
        settle.collect()
    }
}
