//! What must be true after a run: the provider's own record held against the promises.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::ids::IntentId;
use model::spec::Disruption;
use model::{Allocation, GroupId, InstanceRef, LogIndex, Slot, State, Task, Updating, tags};

use crate::cloud::{Cloud, Instance};
use crate::cluster::Cluster;

/// A group as it was declared, over the whole run.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) plugin: &'static str,
    /// The plugin that its members move to at some of its changes, and back.
    pub(crate) other: Option<&'static str>,
    pub(crate) pets: bool,
    /// How it is updated.
    pub(crate) updating: Updating,
    /// How many members it has, more or less.
    pub(crate) usual: u32,
    pub(crate) size: u32,
    pub(crate) version: u32,
    /// The most members that were ever wanted, and how many destroys all that was asked for explains.
    pub(crate) most: u32,
    pub(crate) may_destroy: u32,
    /// How many members were wanted from which log index on, at the latest.
    pub(crate) declared: Vec<(LogIndex, u32)>,
}

impl Group {
    /// What its rollouts may do to it.
    pub(crate) fn may(&self) -> Disruption {
        self.updating.disruption(&self.allocation())
    }

    pub(crate) fn allocation(&self) -> Allocation {
        if self.pets {
            Allocation::LogicalIds((0..self.size).map(|n| format!("pet-{n:03}").as_str().into()).collect())
        } else {
            Allocation::Size(self.size)
        }
    }

    /// Another template; its members may be made by another plugin from now on.
    pub(crate) fn changes(&mut self, may_move: bool) {
        self.version += 1;
        if may_move
            && let Some(other) = &mut self.other
            && raft::between(0, 1) == 0
        {
            std::mem::swap(&mut self.plugin, other);
        }
    }
}

/// What keeps the cluster from being as declared.
pub(crate) fn missing(cluster: &Cluster, groups: &[Group]) -> Vec<String> {
    let Some(replica) = cluster.leader().and_then(|leader| cluster.replica(leader)) else {
        return vec!["nobody leads".into()];
    };
    let published = replica.published();
    let cloud = cluster.cloud.lock().expect("the cloud");
    let mut missing = Vec::new();
    if cloud.to_come > 0 {
        missing.push(format!("{} calls are still to take effect", cloud.to_come));
    }
    for group in groups {
        let Some(state) = published.state.group(&GroupId::new(group.name)) else {
            missing.push(format!("{} is not there", group.name));
            continue;
        };
        let there = members(&published.state, group.name)
            .into_iter()
            .filter(|member| cloud.running().any(|it| it.at == *member))
            .count();
        // What came when it was given up is destroyed again.
        let of_group = |it: &&Instance| {
            it.tags.get(tags::GROUP).map(String::as_str) == Some(group.name)
                && !cloud.half_made.contains(&it.at)
        };
        let surplus = cloud.running().filter(of_group).filter(|it| is_given_up(&cloud, it)).count();
        if surplus > 0 && cloud.running().filter(of_group).count() > there {
            missing.push(format!("{} has instances too many", group.name));
        }
        if state.outdated().count() > 0
            || !state.intents.is_empty()
            || state.running() != group.size as usize
            || there != state.running()
        {
            missing.push(format!(
                "{} has {} members of {}, {there} of them there, and {} open intents",
                group.name,
                state.running(),
                group.size,
                state.intents.len()
            ));
        }
    }
    missing
}

/// How much longer it takes than with plugins that show what they have: an operator comes, and a call that
/// was given up may still take effect.
pub(crate) fn slow_to_show(cluster: &Cluster) -> Duration {
    let cloud = cluster.cloud.lock().expect("the cloud");
    Duration::from_secs(60 + if cloud.to_come > 0 { 40 } else { 0 })
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
    violations.extend(cloud.broken.iter().cloned());
    violations.extend(destroyed_for_returning(&cloud));
    violations
}

/// Whether it was made under a token of which a call took effect after everybody had given it up.
fn is_given_up(cloud: &Cloud, instance: &Instance) -> bool {
    instance.tags.get(tags::INTENT).is_some_and(|token| cloud.given_up.contains(token))
}

/// Whether it was not listed for a while: another may have been made in its place.
fn was_hidden(cloud: &Cloud, instance: &Instance) -> bool {
    cloud.hidden.contains_key(&instance.at)
}

/// What was a member is not destroyed because it came back.
fn destroyed_for_returning(cloud: &Cloud) -> Vec<String> {
    let returned = |call: &&crate::cloud::Call| match &call.task {
        Task::Destroy { instance, slot: None, .. } => cloud.hidden.contains_key(instance),
        _ => false,
    };
    cloud.calls.iter().filter(returned).map(|call| format!("{call}, which had come back")).collect()
}

fn members(state: &State, group: &str) -> Vec<InstanceRef> {
    state.group(&GroupId::new(group)).map(|group| group.members().cloned().collect()).unwrap_or_default()
}

/// The provider's own record of one group, held against the promises.
fn of_group(cloud: &Cloud, state: &State, group: &Group) -> Vec<String> {
    let mut violations = Vec::new();
    let ours = |it: &&Instance| {
        it.tags.get(tags::GROUP).map(String::as_str) == Some(group.name) && !cloud.half_made.contains(&it.at)
    };
    let mut by_slot: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for instance in cloud.instances.iter().filter(ours) {
        by_slot.entry(instance.tags.get(tags::SLOT).map_or("", String::as_str)).or_default().push(instance);
    }
    for (slot, instances) in &by_slot {
        for three in instances.windows(3) {
            if three[0].gone.is_none_or(|gone| gone > three[2].born)
                && three[1].gone.is_none_or(|gone| gone > three[2].born)
                && !three.iter().any(|it| is_given_up(cloud, it) || was_hidden(cloud, it))
            {
                violations
                    .push(format!("{} slot {slot}: three lived when {} was made", group.name, three[2].at));
            }
        }
        for pair in instances.windows(2) {
            // Class C: at most so many as were given up and came after all, and none in the end.
            let given_up = pair.iter().any(|it| is_given_up(cloud, it) || was_hidden(cloud, it));
            let replaced = !group.pets && takes_over(cloud, pair[1], pair[0]);
            if pair[0].gone.is_none_or(|gone| gone > pair[1].born) && !given_up && !replaced {
                violations.push(format!(
                    "{} slot {slot}: {} was made while {} lived",
                    group.name, pair[1].at, pair[0].at
                ));
            }
        }
    }
    violations.extend(too_many(cloud, group));
    let held = members(state, group.name);
    // Of two of one name an operator must say which one stays.
    let is_second = |it: &Instance| {
        let slot = it.tags.get(tags::SLOT);
        let of_slot = by_slot.get(slot.map_or("", String::as_str));
        of_slot.is_some_and(|all| all.iter().any(|other| was_hidden(cloud, other) && other.gone.is_none()))
    };
    for instance in cloud.running().filter(ours).filter(|it| !is_second(it)) {
        if !held.contains(&instance.at) {
            violations.push(format!("{}: {} lives and nobody knows it", group.name, instance.at));
        }
    }
    let destroyed = cloud.instances.iter().filter(ours).filter(|it| it.ended_by.is_some()).count();
    // One that came back may take its slot again from one that was never ready.
    let may_go = |it: &&Instance| is_given_up(cloud, it) || was_hidden(cloud, it);
    let surplus = cloud.instances.iter().filter(ours).filter(may_go).count();
    if destroyed > group.may_destroy as usize + surplus {
        violations.push(format!(
            "{}: {destroyed} instances were destroyed where {} were to go",
            group.name, group.may_destroy
        ));
    }
    violations
}

/// Whether one was made to take over the slot of the other: start-first, for another template. Generations begin again
/// when a group was freed and is declared again.
fn takes_over(cloud: &Cloud, new: &Instance, old: &Instance) -> bool {
    let tag = |it: &Instance, name: &str| it.tags.get(name).cloned();
    tag(new, tags::SLOT) == tag(old, tags::SLOT)
        && tag(new, tags::CONFIG_HASH) != tag(old, tags::CONFIG_HASH)
        && (cloud.freed.is_some() || tag(new, tags::GENERATION) != tag(old, tags::GENERATION))
}

/// An instance that was claimed while as many as were ever wanted were there, or coming, and not going:
/// whoever is to go does not count, though its end may take a while.
fn too_many(cloud: &Cloud, group: &Group) -> Vec<String> {
    let mut terminating: BTreeMap<&InstanceRef, IntentId> = BTreeMap::new();
    for call in &cloud.calls {
        if let Task::Destroy { instance, .. } = &call.task {
            let first = terminating.entry(instance).or_insert(call.claim);
            *first = call.claim.min(*first);
        }
    }
    let of_group = |it: &&Instance| {
        it.tags.get(tags::GROUP).map(String::as_str) == Some(group.name) && !cloud.half_made.contains(&it.at)
    };
    let ours: Vec<&Instance> = cloud.instances.iter().filter(of_group).collect();
    let mut violations = Vec::new();
    for instance in ours.iter().filter(|it| !is_given_up(cloud, it) && !was_hidden(cloud, it)) {
        let counts = |it: &&&Instance| {
            it.claim < instance.claim
                && !is_given_up(cloud, it)
                && !was_hidden(cloud, it)
                && terminating.get(&it.at).is_none_or(|terminating| *terminating > instance.claim)
                && it.gone.is_none_or(|gone| gone > instance.born)
        };
        let beside: Vec<&&Instance> = ours.iter().filter(counts).collect();
        // Those that take slots over make as many more than are wanted as the group allows, and never more.
        let takes_over = !group.pets && beside.iter().any(|it| takes_over(cloud, instance, it));
        let there = if takes_over {
            // A claim that was repeated counts once, whatever became of each attempt.
            let claims = beside.iter().map(|it| it.claim).collect::<BTreeSet<_>>().len();
            claims.saturating_sub(group.may().surge)
        } else {
            beside.iter().map(|it| it.tags.get(tags::SLOT)).collect::<BTreeSet<_>>().len()
        };
        if there >= group.most as usize {
            violations.push(format!(
                "{}: {} was claimed beside {there} where at most {} were wanted",
                group.name, instance.at, group.most
            ));
        }
    }
    violations
}

/// What was claimed after somebody changed their mind was not to be made any more. Only names can tell.
fn unwanted(cloud: &Cloud, group: &Group) -> Vec<String> {
    let mut violations = Vec::new();
    for call in cloud.calls.iter().filter(|call| call.group.as_str() == group.name) {
        let Task::Provision { slot: Slot::Logical(name), .. } = &call.task else { continue };
        let claimed = call.claim.index;
        // A commit stands at or before the index that is known of it. The next one may have been in force
        // already; those before the last are not in force any more.
        let later = group.declared.iter().position(|(index, _)| *index >= claimed);
        let later = later.unwrap_or(group.declared.len());
        let in_force = &group.declared[later.saturating_sub(1)..(later + 1).min(group.declared.len())];
        let most = in_force.iter().map(|(_, size)| *size).max();
        let number = name.as_str().strip_prefix("pet-").and_then(|number| number.parse::<u32>().ok());
        if let (Some(most), Some(number)) = (most, number)
            && number >= most
        {
            violations.push(format!("{}: {call} though only {most} were wanted by then", group.name));
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
            let at = format!("m{} of term {} calls: {call}", call.node, call.term);
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
