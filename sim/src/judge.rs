//! What must be true after a run: the provider's own record held against the promises.

use std::collections::BTreeMap;

use model::state::Holder;
use model::{GroupId, State, tags};
use tokio::time::Instant;

use crate::cloud::Cloud;
use crate::cluster::Cluster;

/// A group as it was declared, over the whole run.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) plugin: &'static str,
    pub(crate) pets: bool,
    pub(crate) size: u32,
    pub(crate) version: u32,
    /// The most members that were ever wanted, and how many destroys all that was asked for explains.
    pub(crate) most: u32,
    pub(crate) may_destroy: u32,
}

/// What keeps the cluster from being as declared.
pub(crate) fn missing(cluster: &Cluster, groups: &[Group]) -> Vec<String> {
    let Some(replica) = cluster.leader().and_then(|leader| cluster.replica(leader)) else {
        return vec!["nobody leads".into()];
    };
    let published = replica.published();
    let cloud = cluster.cloud.lock().expect("the cloud");
    let mut missing = Vec::new();
    for group in groups {
        let Some(state) = published.state.group(&GroupId::new(group.name)) else {
            missing.push(format!("{} is not there", group.name));
            continue;
        };
        let there = members(&published.state, group.name)
            .into_iter()
            .filter(|id| cloud.living().any(|it| it.id.as_str() == id))
            .count();
        if !state.intents.is_empty() || state.living() != group.size as usize || there != state.living() {
            missing.push(format!(
                "{} has {} members of {}, {there} of them there, and {} open intents",
                group.name,
                state.living(),
                group.size,
                state.intents.len()
            ));
        }
    }
    missing
}

/// Every promise that was not kept, in words.
pub(crate) fn violations(cluster: &Cluster, groups: &[Group]) -> Vec<String> {
    let cloud = cluster.cloud.lock().expect("the cloud");
    let mut violations = Vec::new();
    if let Some(replica) = cluster.leader().and_then(|leader| cluster.replica(leader)) {
        let state = replica.published().state;
        for group in groups {
            violations.extend(of_group(&cloud, &state, group));
        }
    }
    violations.extend(diverged(cluster));
    violations.extend(deposed(&cloud));
    violations
}

fn members(state: &State, group: &str) -> Vec<String> {
    let Some(group) = state.group(&GroupId::new(group)) else { return Vec::new() };
    let holds = |holder: &Holder| match holder {
        Holder::Living { instance, .. } => Some(instance.to_string()),
        Holder::Nobody | Holder::Pending(_) => None,
    };
    group.roster.values().filter_map(|member| holds(&member.holder)).collect()
}

/// The provider's own record of one group, held against the promises.
fn of_group(cloud: &Cloud, state: &State, group: &Group) -> Vec<String> {
    let mut violations = Vec::new();
    let ours =
        |it: &&crate::cloud::Instance| it.tags.get(tags::GROUP).map(String::as_str) == Some(group.name);
    let mut by_slot: BTreeMap<&str, Vec<&crate::cloud::Instance>> = BTreeMap::new();
    for instance in cloud.instances.iter().filter(ours) {
        by_slot.entry(instance.tags.get(tags::SLOT).map_or("", String::as_str)).or_default().push(instance);
    }
    for (slot, instances) in &by_slot {
        for pair in instances.windows(2) {
            if pair[0].gone.is_none_or(|gone| gone > pair[1].born) {
                violations.push(format!(
                    "{} slot {slot}: {} was made while {} lived",
                    group.name, pair[1].id, pair[0].id
                ));
            }
        }
    }
    let mut changes: Vec<(Instant, i64)> = Vec::new();
    for instance in cloud.instances.iter().filter(ours) {
        changes.push((instance.born, 1));
        changes.extend(instance.gone.map(|gone| (gone, -1)));
    }
    changes.sort();
    let mut living = 0;
    let mut most = 0;
    for (_, change) in changes {
        living += change;
        most = most.max(living);
    }
    if most > i64::from(group.most) {
        violations
            .push(format!("{} had {most} instances where at most {} were wanted", group.name, group.most));
    }
    let held = members(state, group.name);
    for instance in cloud.living().filter(ours) {
        if !held.iter().any(|id| id == instance.id.as_str()) {
            violations.push(format!("{}: {} lives and nobody knows it", group.name, instance.id));
        }
    }
    let destroyed = cloud.instances.iter().filter(ours).filter(|it| it.ended_by.is_some()).count();
    if destroyed > group.may_destroy as usize {
        violations.push(format!(
            "{}: {destroyed} instances were destroyed where {} were to go",
            group.name, group.may_destroy
        ));
    }
    violations
}

/// Once a leader has made a call, none of an earlier term makes another: the lease keeps it.
fn deposed(cloud: &Cloud) -> Vec<String> {
    let mut newest = 0;
    let mut violations = Vec::new();
    for call in &cloud.calls {
        if call.term < newest {
            let at = format!("m{} of term {} calls: {}", call.node, call.term, call.what);
            violations.push(format!("{at}, after a leader of term {newest} did"));
        }
        newest = newest.max(call.term);
    }
    violations
}

/// Replicas that applied the same entries have the same state.
fn diverged(cluster: &Cluster) -> Vec<String> {
    let all: Vec<_> =
        (0..cluster.size()).filter_map(|node| Some((node, cluster.replica(node)?.published()))).collect();
    let mut violations = Vec::new();
    for (a, first) in &all {
        for (b, second) in all.iter().filter(|(b, _)| b > a) {
            if first.index == second.index && first.state != second.state {
                violations.push(format!("m{a} and m{b} differ at log index {}", first.index));
            }
        }
    }
    violations
}
