//! What must be true after a run: the provider's own record held against the promises.

use std::collections::{BTreeMap, BTreeSet};

use model::state::Holder;
use model::{GroupId, State, tags};

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
    /// How many members were wanted from which log index on, at the latest.
    pub(crate) declared: Vec<(u64, u32)>,
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
        if state.outdated().count() > 0
            || !state.intents.is_empty()
            || state.living() != group.size as usize
            || there != state.living()
        {
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

/// How many members have still to be replaced.
pub(crate) fn outdated(cluster: &Cluster) -> u32 {
    let replicas = (0..cluster.size()).filter_map(|node| cluster.replica(node));
    let newest = replicas.map(|replica| replica.published()).max_by_key(|published| published.index);
    let groups = newest.map(|published| published.state.groups.clone()).unwrap_or_default();
    groups.values().map(|group| group.outdated().count() as u32).sum()
}

/// Every promise that was not kept, in words.
pub(crate) fn violations(cluster: &Cluster, groups: &[Group]) -> Vec<String> {
    let cloud = cluster.cloud.lock().expect("the cloud");
    let mut violations = Vec::new();
    if let Some(replica) = cluster.leader().and_then(|leader| cluster.replica(leader)) {
        let state = replica.published().state;
        for group in groups {
            violations.extend(of_group(&cloud, &state, group));
            violations.extend(unwanted(&cloud, group));
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
    violations.extend(too_many(cloud, group));
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

/// An instance that was claimed while as many as were ever wanted were there, or coming, and not going:
/// whoever is to go does not count, though its end may take a while.
fn too_many(cloud: &Cloud, group: &Group) -> Vec<String> {
    let mut doomed: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for call in &cloud.calls {
        if let Some((id, token)) = call.what.strip_prefix("destroy ").and_then(|rest| rest.split_once(' '))
            && let Some(claim) = claim_of(token)
        {
            let first = doomed.entry(id).or_insert(claim);
            *first = claim.min(*first);
        }
    }
    let ours: Vec<_> = cloud
        .instances
        .iter()
        .filter(|it| it.tags.get(tags::GROUP).map(String::as_str) == Some(group.name))
        .filter_map(|it| Some((claim_of(it.tags.get(tags::INTENT)?)?, it)))
        .collect();
    let mut violations = Vec::new();
    for (claim, instance) in &ours {
        let counts = |(other, it): &&((u64, u64), &crate::cloud::Instance)| {
            other < claim
                && doomed.get(it.id.as_str()).is_none_or(|doomed| doomed > claim)
                && it.gone.is_none_or(|gone| gone > instance.born)
        };
        // A claim that was repeated counts once, whatever became of each attempt.
        let there = ours.iter().filter(counts).map(|(other, _)| other).collect::<BTreeSet<_>>().len();
        if there >= group.most as usize {
            violations.push(format!(
                "{}: {} was claimed beside {there} where at most {} were wanted",
                group.name, instance.id, group.most
            ));
        }
    }
    violations
}

/// Where in the log the intent of a token stands.
fn claim_of(token: &str) -> Option<(u64, u64)> {
    let mut parts = token.split('-').skip(2);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What was claimed after somebody changed their mind was not to be made any more. Only names can tell.
fn unwanted(cloud: &Cloud, group: &Group) -> Vec<String> {
    let prefix = format!("provision {}/pet-", group.name);
    let mut violations = Vec::new();
    for call in &cloud.calls {
        let Some((name, token)) = call.what.strip_prefix(&prefix).and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        let Some((claimed, _)) = claim_of(token) else { continue };
        // A commit stands at or before the index that is known of it. The next one may have been in force
        // already; those before the last are not in force any more.
        let later = group.declared.iter().position(|(index, _)| *index >= claimed);
        let later = later.unwrap_or(group.declared.len());
        let in_force = &group.declared[later.saturating_sub(1)..(later + 1).min(group.declared.len())];
        let most = in_force.iter().map(|(_, size)| *size).max();
        if let (Some(most), Ok(number)) = (most, name.parse::<u32>())
            && number >= most
        {
            violations.push(format!("{}: {} though only {most} were wanted by then", group.name, call.what));
        }
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
