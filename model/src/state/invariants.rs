//! What holds of every state that commands can bring about: checked after each of them in tests and in simulations,
//! and when a snapshot is written, which says so in the log and goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::State;
use super::group::GroupState;
use super::slot::{Incarnation, Roster};
use crate::ids::{GroupId, IntentId, Slot};
use crate::intent::Task;
use crate::limits::{HEAVIEST_HISTORY, MOST_OPEN, MOST_REVISIONS};
use crate::spec::Allocation;

/// Something that cannot be, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl State {
    /// Whether the state is one that can be. Takes a time in the order of its size.
    ///
    /// # Errors
    ///
    /// The first thing that contradicts another: a defect of this program, or memory that went bad.
    pub fn check(&self) -> Result<(), Broken> {
        for (id, group) in &self.groups {
            group.check(id).map_err(|why| Broken(format!("group `{id}`: {why}")))?;
        }
        if self.answers.len() != self.answered.len() {
            return Err(Broken(format!(
                "{} first answers, {} known",
                self.answers.len(),
                self.answered.len()
            )));
        }
        if let Some(id) = self.managers.keys().find(|id| self.removed.contains_key(*id)) {
            return Err(Broken(format!("manager {id} is a member and was removed")));
        }
        match self.learners.iter().find(|id| !self.managers.contains_key(*id)) {
            Some(id) => Err(Broken(format!("learner {id} is no manager"))),
            None => Ok(()),
        }
    }
}

impl GroupState {
    fn check(&self, id: &GroupId) -> Result<(), String> {
        let fail = |holds: bool, why: &str| if holds { Ok(()) } else { Err(why.to_owned()) };
        fail(self.spec.id == *id, "its spec has another name")?;
        fail(self.templates.contains_key(&self.target), "its target has no template")?;
        fail(self.intents.len() <= MOST_OPEN, "too many intents are open")?;
        fail(self.revisions.len() <= MOST_REVISIONS, "too many revisions are kept")?;
        let weight: usize = self.revisions.values().map(|it| it.spec.weight()).sum();
        fail(self.revisions.len() <= 1 || weight <= HEAVIEST_HISTORY, "the kept revisions are too large")?;
        fail(self.revisions.keys().all(|it| *it <= self.revision), "a revision is kept that is to come")?;
        let again: Roster = self.roster.iter().map(|(slot, member)| (slot.clone(), member.clone())).collect();
        fail(again == self.roster, "what is reckoned of the roster is not what it holds")?;
        self.check_slots()?;
        self.check_intents()
    }

    /// Every incarnation has its intent or its template, one holds one slot, and pets have no second.
    fn check_slots(&self) -> Result<(), String> {
        let pets = matches!(self.spec.allocation, Allocation::LogicalIds(_));
        let mut held = BTreeSet::new();
        for (slot, member) in self.roster.iter() {
            let both = member.current.is_some() && member.incoming.is_some();
            if member.incoming.is_some() && member.occupied().is_none() {
                return Err(format!("slot {slot} is taken over from nobody"));
            }
            if both && pets {
                return Err(format!("slot {slot} of a named member has two"));
            }
            for it in member.instances() {
                if !held.insert(&it.instance) {
                    return Err(format!("{} is in two slots", it.instance));
                }
                if it.generation > member.generation {
                    return Err(format!("slot {slot} is at generation {}", member.generation));
                }
                if !self.templates.contains_key(&it.template) {
                    return Err(format!("{} has no template", it.instance));
                }
                if it.terminating.is_some_and(|intent| !self.destroys(intent, &it.instance)) {
                    return Err(format!("{} is terminating, and by nobody", it.instance));
                }
            }
            for it in member.incarnations() {
                if let Incarnation::Pending(intent) = it
                    && !self.provisions(*intent, slot)
                {
                    return Err(format!("slot {slot} is pending, and by nobody"));
                }
            }
        }
        Ok(())
    }

    fn destroys(&self, intent: IntentId, instance: &crate::InstanceRef) -> bool {
        let task = self.intents.get(&intent).map(|open| &open.task);
        matches!(task, Some(Task::Destroy { instance: it, slot: Some(_), .. }) if it == instance)
    }

    fn provisions(&self, intent: IntentId, slot: &Slot) -> bool {
        let task = self.intents.get(&intent).map(|open| &open.task);
        matches!(task, Some(Task::Provision { slot: it, .. }) if it == slot)
    }

    /// Every open intent has its place: what it makes, ends or labels.
    fn check_intents(&self) -> Result<(), String> {
        let mut slots: BTreeMap<&Slot, usize> = BTreeMap::new();
        for open in self.intents.values() {
            match &open.task {
                Task::Provision { slot, .. } => {
                    let pending = Incarnation::Pending(open.id);
                    let member = self.roster.get(slot);
                    if !member.is_some_and(|it| it.incarnations().any(|it| *it == pending)) {
                        return Err(format!("intent {} fills slot {slot}, which does not know it", open.id));
                    }
                    *slots.entry(slot).or_default() += 1;
                }
                Task::Destroy { instance, slot: Some(slot), .. } => {
                    let member = self.roster.get(slot);
                    let known = |it: &crate::state::Occupied| {
                        it.instance == *instance && it.terminating == Some(open.id)
                    };
                    if !member.is_some_and(|it| it.instances().any(known)) {
                        return Err(format!(
                            "intent {} destroys {instance}, which is not in its slot",
                            open.id
                        ));
                    }
                }
                Task::Destroy { instance, slot: None, .. } => {
                    if !self.terminating_strays.contains(instance) {
                        return Err(format!("intent {} destroys {instance} and does not say so", open.id));
                    }
                }
                Task::Label { .. } => {}
            }
            // What holds no slot may have been made from a template that is forgotten.
            let stray = matches!(open.task, Task::Destroy { slot: None, .. });
            if !stray && !self.templates.contains_key(&open.task.template()) {
                return Err(format!("intent {} has no template", open.id));
            }
        }
        match slots.into_iter().find(|(_, intents)| *intents > 1) {
            Some((slot, intents)) => Err(format!("slot {slot} is filled by {intents} intents")),
            None => Ok(()),
        }
    }
}
