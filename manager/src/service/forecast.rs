//! What a commit would do.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::proto as pb;
use model::command::Declaration;
use model::forecast::{Step, forecast};
use model::observed::{ListingHistory, View};
use model::{
    Actor, Allocation, Answer, Change, Command, GroupSpec, InstanceId, InstanceRef, LogId, LogIndex,
    Observed, RequestId, Slot, Spec, State, Timestamp,
};
use raft::{Published, Role};

use super::Service;
use crate::lease::Lease;
use crate::world::World;

impl Service {
    /// The instances of a group at its provider: as they were last observed, or by a new listing when there is no
    /// reconciler for the group yet. So instances of an earlier cluster are shown before anything is done with them.
    pub(super) async fn seen(&self, published: &Published, item: &Declaration) -> Observed {
        let Spec::Group(spec) = &item.spec;
        let id = &spec.id;
        let state = &published.state;
        if let Some(assessment) = self.assessments.of(id) {
            return assessment.observed.clone();
        }
        let mut observed = Observed { bounds: state.bounds(published.index, id), ..Observed::default() };
        let (Role::Leader { term }, Some(cluster)) = (*self.role.borrow(), &state.cluster) else {
            return observed;
        };
        let lease = Lease::new(self.replica.clone(), term);
        let plugin = &spec.template.instance.plugin;
        let began = self.clock.now();
        // Without a reply, the plan is made without observations.
        if let Ok(look) = self.world.list(plugin, &lease).await {
            let guarantees = state.guarantees(plugin, look.guarantees);
            let listing = ListingHistory::default().showed(look.items, guarantees, began, published.index);
            let is_member = |it: &InstanceId| state.group(id).is_some_and(|group| group.has(plugin, it));
            let view = View::of(&listing, id, cluster, &state.lineages, is_member);
            // Whoever is there is adopted when it has been for a moment: the plan is about what comes of it.
            observed.appeared.extend(view.seen.keys().map(|it| (InstanceRef::new(plugin, it), Timestamp(0))));
            observed.views.insert(plugin.clone(), Arc::new(view));
        }
        observed
    }

    /// What a commit would do, in InfraKit's words, when nothing is known of the instances.
    pub(super) fn summary(&self, published: &Published, item: &Declaration) -> String {
        self.committed(published, item)
            .map_or_else(|refused| refused, |copy| summary_of(&published.state, &copy, item))
    }

    /// What a commit would do: the same state machine and the same planner, on a copy.
    pub(super) async fn forecast(
        &self,
        published: &Published,
        item: &Declaration,
        observed: Observed,
    ) -> pb::Planned {
        let Spec::Group(spec) = &item.spec;
        let (id, state) = (&spec.id, &published.state);
        let mut planned = pb::Planned {
            group: id.to_string(),
            summary: String::new(),
            actions: Vec::new(),
            stored_revision: state.group(id).map_or(0, |group| group.revision.0),
            refused: false,
            strays: Vec::new(),
            truncated: false,
        };
        let copy = match self.committed(published, item) {
            Ok(copy) => copy,
            Err(refused) => return pb::Planned { summary: refused, refused: true, ..planned },
        };
        planned.summary = summary_of(state, &copy, item);
        let (index, now, group) = (next(published), self.clock.now(), id.clone());
        // It may take as long as a heartbeat.
        let foretold = tokio::task::spawn_blocking(move || forecast(&copy, &group, &observed, index, now));
        let Ok(foretold) = foretold.await else {
            return pb::Planned { summary: "it cannot be foretold (a bug)".into(), refused: true, ..planned };
        };
        planned.actions = foretold.steps.iter().map(planned_action).collect();
        planned.truncated = foretold.truncated;
        planned.strays = foretold.strays.iter().map(ToString::to_string).collect();
        if state.group(id).is_none() && planned.actions.is_empty() {
            planned.actions = creations(&spec.allocation);
        }
        if planned.summary == NOOP && !planned.actions.is_empty() {
            planned.summary = healing(&planned.actions);
        }
        planned
    }

    /// The state after the commit; why it is refused, if it is.
    fn committed(&self, published: &Published, item: &Declaration) -> Result<State, String> {
        let mut copy = (*published.state).clone();
        let log = LogId { index: next(published), ..LogId::default() };
        let command = Command {
            id: RequestId(raft::unique()),
            by: Actor("plan".into()),
            at: self.clock.now().max(copy.time),
            change: Change::Declare { items: vec![item.clone()] },
        };
        match copy.apply(log, &command).answer {
            Answer::Refused(refusal) => Err(format!("refused: {refusal}")),
            _ => Ok(copy),
        }
    }
}

/// Where the entry of a commit would stand.
fn next(published: &Published) -> LogIndex {
    LogIndex(published.index.0 + 1)
}

fn summary_of(before: &State, after: &State, item: &Declaration) -> String {
    let Spec::Group(spec) = &item.spec;
    let outdated = after.group(&spec.id).map_or(0, |group| group.outdated().count());
    summary(before.group(&spec.id).map(|group| &*group.spec), spec, outdated)
}

const NOOP: &str = "Noop";

/// InfraKit's words for what a commit does (plugin-protocol §9.3).
fn summary(before: Option<&GroupSpec>, after: &GroupSpec, outdated: usize) -> String {
    let Some(before) = before else { return format!("Managing {} instances", after.allocation.count()) };
    if before == after {
        return NOOP.to_owned();
    }
    let mut parts = Vec::new();
    let (count, size) = (before.allocation.count(), after.allocation.count());
    let (gone, new) =
        (missing(&before.allocation, &after.allocation), missing(&after.allocation, &before.allocation));
    match &after.allocation {
        Allocation::LogicalIds(_) if gone > 0 => {
            parts.push(format!("Terminating {gone} instances that are no longer named"));
        }
        Allocation::Size(_) if size < count => {
            parts.push(format!("Terminating {} instances to reduce the group size to {size}", count - size));
        }
        Allocation::LogicalIds(_) | Allocation::Size(_) => {}
    }
    if outdated > 0 {
        parts.push(format!("Performing a rolling update on {} instances", outdated.min(size)));
    }
    match &after.allocation {
        Allocation::LogicalIds(_) if new > 0 => parts.push(format!("Adding {new} named instances")),
        Allocation::Size(_) if size > count => {
            parts.push(format!("Adding {} instances to increase the group size to {size}", size - count));
        }
        Allocation::LogicalIds(_) | Allocation::Size(_) => {}
    }
    if parts.is_empty() { NOOP.to_owned() } else { parts.join(", then ") }
}

/// How many names of the one the other does not have.
fn missing(one: &Allocation, other: &Allocation) -> usize {
    match (one, other) {
        (Allocation::LogicalIds(one), Allocation::LogicalIds(other)) => {
            let other: BTreeSet<_> = other.iter().collect();
            one.iter().filter(|it| !other.contains(it)).count()
        }
        _ => 0,
    }
}

/// What is done although the spec changes nothing: members are missing, too many, or of an older template.
fn healing(actions: &[pb::PlannedAction]) -> String {
    let verbs = [
        ("adopt", "adopting"),
        ("create", "creating"),
        ("start", "starting"),
        ("replace", "replacing"),
        ("destroy", "destroying"),
    ];
    let count = |verb: &str| actions.iter().filter(|it| it.verb == verb).count();
    let parts: Vec<String> = verbs
        .iter()
        .map(|(verb, word)| (count(verb), word))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{word} {count}"))
        .collect();
    if parts.is_empty() {
        "Resuming open calls".into()
    } else {
        format!("No change of the spec; {}", parts.join(", "))
    }
}

fn planned_action(step: &Step) -> pb::PlannedAction {
    pb::PlannedAction {
        verb: step.verb.as_str().to_owned(),
        slot: step.slot.as_ref().map(Slot::to_string).unwrap_or_default(),
        instance: step.instance.as_ref().map(|it| it.id.to_string()).unwrap_or_default(),
    }
}

fn creations(allocation: &Allocation) -> Vec<pb::PlannedAction> {
    let create = |slot: String| pb::PlannedAction { verb: "create".into(), slot, instance: String::new() };
    match allocation {
        Allocation::Size(size) => (0..*size).map(|n| create(n.to_string())).collect(),
        Allocation::LogicalIds(ids) => ids.iter().map(|id| create(id.to_string())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alone::group;

    #[test]
    fn a_commit_is_foretold_in_infrakits_words() {
        let of = |size: u32| GroupSpec { allocation: Allocation::Size(size), ..group("web", 1, "v1") };
        let changed = |size: u32| GroupSpec { allocation: Allocation::Size(size), ..group("web", 1, "v2") };
        let named = |ids: &[&str]| {
            let ids = ids.iter().map(|id| (*id).into()).collect();
            GroupSpec { allocation: Allocation::LogicalIds(ids), ..group("web", 1, "v1") }
        };
        for (before, after, outdated, told) in [
            (None, of(3), 0, "Managing 3 instances"),
            (Some(of(3)), of(3), 0, "Noop"),
            // A rollout that is under way is not this commit's doing.
            (Some(of(3)), of(3), 2, "Noop"),
            (Some(of(3)), of(5), 0, "Adding 2 instances to increase the group size to 5"),
            (Some(of(3)), of(1), 0, "Terminating 2 instances to reduce the group size to 1"),
            (Some(of(3)), changed(3), 3, "Performing a rolling update on 3 instances"),
            (
                Some(of(3)),
                changed(1),
                3,
                "Terminating 2 instances to reduce the group size to 1, then Performing a rolling update on 1 \
                 instances",
            ),
            (
                Some(of(3)),
                changed(5),
                3,
                "Performing a rolling update on 3 instances, then Adding 2 instances to increase the group size to 5",
            ),
            (
                Some(named(&["a", "b"])),
                named(&["a", "c"]),
                0,
                "Terminating 1 instances that are no longer named, then Adding 1 named instances",
            ),
        ] {
            assert_eq!(summary(before.as_ref(), &after, outdated), told);
        }
    }

    #[test]
    fn what_is_done_without_a_change_of_the_spec_is_no_noop() {
        let action = |verb: &str| pb::PlannedAction { verb: verb.into(), ..pb::PlannedAction::default() };
        let told = healing(&[action("destroy"), action("create"), action("create")]);
        assert_eq!(told, "No change of the spec; creating 2, destroying 1");
        assert_eq!(healing(&[action("repeat")]), "Resuming open calls");
    }

    #[test]
    fn a_new_group_is_foretold_slot_by_slot() {
        let told = |allocation| -> Vec<(String, String)> {
            creations(&allocation).into_iter().map(|it| (it.verb, it.slot)).collect()
        };
        let create = |slot: &str| ("create".to_owned(), slot.to_owned());
        assert_eq!(told(Allocation::Size(2)), [create("0"), create("1")]);
        let names = Allocation::LogicalIds(vec!["a".into(), "b".into()]);
        assert_eq!(told(names), [create("a"), create("b")]);
        assert!(told(Allocation::Size(0)).is_empty());
    }
}
