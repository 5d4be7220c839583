//! Laws of the planner, checked over every state of a group of three slots.

use super::*;
use crate::LogIndex;
use crate::intent::Reason;
use crate::state::{Incarnation, Member, Occupied, Verdict};
use crate::{Health, IntentId, Slot};

/// What one slot of a small group may hold, for laws over all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Held {
    Nobody,
    Lost,
    Old,
    OldSick,
    New,
    NewSick,
    Pending,
    PendingDone,
    Doomed,
}

const HELD: [Held; 9] = [
    Held::Nobody,
    Held::Lost,
    Held::Old,
    Held::OldSick,
    Held::New,
    Held::NewSick,
    Held::Pending,
    Held::PendingDone,
    Held::Doomed,
];

/// A group of `size` at v2 whose three slots hold what is said, after its leader died.
pub(super) fn after_a_crash(held: [Held; 3], size: u32) -> Story {
    let mut story = Story::of(3).settles().wants("v2", Allocation::Size(3));
    let old = story.group().roster.clone();
    let new_template = story.group().target;
    let new_hash = story.group().template().hash.clone();
    let mut group = story.group().clone();
    story.provider.clear();
    for (n, held) in held.into_iter().enumerate() {
        let slot = Slot::Ordinal(n as u32);
        let before = old.get(&slot).and_then(Member::occupied).expect("it has settled").clone();
        let Occupied { instance, template, since, .. } = before.clone();
        let running = |template, terminating| {
            Some(Incarnation::Occupied(Occupied {
                template,
                terminating,
                health: Verdict::Ready,
                ..before.clone()
            }))
        };
        let intent = IntentId { index: LogIndex(story.index), offset: n as u32 };
        let old_hash = group.template_of(template).hash.clone();
        let mut open = |task| {
            let open =
                Intent { id: intent, task, attempt: 1, admitted: LogIndex(story.index), term: TERM, since };
            group.intents.insert(intent, open);
        };
        let provision =
            Task::Provision { slot: slot.clone(), generation: Generation(2), template: new_template };
        let mut there = |template_hash: &str, health, token: Option<IntentId>| {
            story.provider.push((instance.id.clone(), tags_of(template_hash, Some(&slot), token), health));
        };
        let holder = match held {
            Held::Nobody => None,
            Held::Lost => running(new_template, None),
            Held::Old => {
                there(&old_hash, Health::Healthy, None);
                running(template, None)
            }
            Held::OldSick => {
                there(&old_hash, Health::Unhealthy, None);
                running(template, None)
            }
            Held::New => {
                there(&new_hash, Health::Healthy, None);
                running(new_template, None)
            }
            Held::NewSick => {
                there(&new_hash, Health::Unhealthy, None);
                running(new_template, None)
            }
            Held::Pending => {
                open(provision);
                Some(Incarnation::Pending(intent))
            }
            Held::PendingDone => {
                there(&new_hash, Health::Healthy, Some(intent));
                open(provision);
                Some(Incarnation::Pending(intent))
            }
            Held::Doomed => {
                there(&old_hash, Health::Healthy, None);
                open(Task::Destroy {
                    instance: instance.clone(),
                    slot: Some(slot.clone()),
                    template,
                    reason: Reason::RollingUpdate,
                });
                running(template, Some(intent))
            }
        };
        group.roster.update(&slot, |member| {
            *member = Member { generation: Generation(2), current: holder, incoming: None };
        });
    }
    story.state.groups.insert(web(), Arc::new(group));
    story.wants("v2", Allocation::Size(size))
}

pub(super) fn every_small_group() -> impl Iterator<Item = ([Held; 3], u32)> {
    let triples = HELD.into_iter().flat_map(|a| HELD.into_iter().flat_map(move |b| HELD.map(|c| [a, b, c])));
    triples.flat_map(|held| (0..=4).map(move |size| (held, size)))
}

#[test]
fn from_every_small_state_a_group_comes_true_with_no_instance_too_many() {
    for (held, size) in every_small_group() {
        let mut story = after_a_crash(held, size);
        // The sick get well, or nothing could ever finish.
        story.provider.iter_mut().for_each(|(_, _, health)| *health = Health::Healthy);
        let story = story.settles();
        story.is_as_declared();
        assert_eq!(story.provider.len(), size as usize, "{held:?} to {size}");
    }
}

#[test]
fn in_every_small_state_a_step_respects_the_slots_and_the_capacity() {
    for (held, size) in every_small_group() {
        let mut story = after_a_crash(held, size);
        story.look();
        let plan = story.plan();
        let count =
            |desired: fn(&Action) -> bool| plan.actions.iter().filter(|action| desired(action)).count();
        let provisions = count(|action| matches!(action, Action::Provision { .. }));
        let rolls = count(|action| matches!(action, Action::Destroy { reason: Reason::RollingUpdate, .. }));
        let alive =
            held.iter().filter(|held| !matches!(held, Held::Nobody | Held::Lost | Held::Doomed)).count();
        assert!(alive + provisions <= (size as usize).max(alive), "{held:?} to {size}: {plan:?}");
        assert!(rolls <= 1, "{held:?} to {size}: one at a time");
        if rolls == 1 {
            assert_eq!(alive, size as usize, "{held:?} to {size}: nobody is taken while somebody is missing");
            assert!(
                !held.contains(&Held::NewSick),
                "{held:?} to {size}: nobody is taken while a new one is sick"
            );
            let sick_first = !held.contains(&Held::OldSick)
                || plan.actions.iter().any(|action| match action {
                    Action::Destroy { slot: Some(Slot::Ordinal(n)), .. } => {
                        held[*n as usize] == Held::OldSick
                    }
                    _ => false,
                });
            assert!(sick_first, "{held:?}: the sick first, for they cost no availability");
        }
        for action in &plan.actions {
            if let Action::Provision { slot: Slot::Ordinal(n) } = action {
                let free = held.get(*n as usize).is_none_or(|held| matches!(held, Held::Nobody | Held::Lost));
                assert!(free, "{held:?} to {size}: slot {n} is taken");
            }
        }
    }
}

#[test]
fn every_plan_is_admitted_as_it_stands() {
    for (held, size) in every_small_group() {
        let mut story = after_a_crash(held, size);
        story.look();
        let report = story.report();
        let Answer::Admitted(answers) = story.apply(Change::Report(report)) else { panic!() };
        assert!(
            answers.iter().all(|answer| matches!(answer, Admission::Granted(_))),
            "{held:?} to {size}: {answers:?}"
        );
    }
}
