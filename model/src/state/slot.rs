//! One slot of a group: who holds it, and who is to take it over.
//!
//! ```text
//!            Provision            Done                     Destroy: Done, or gone
//!  (empty) ------------> Pending -------> Occupied ------------------------------> (empty)
//!                           |              |     ^
//!                           | Refused      |     | the one before is gone: the incoming is current
//!                           v              v     |
//!                        (empty)       incoming: Pending -> Occupied, ready
//!                                      (Replace: start-first)
//! ```

use imbl::OrdMap;

use crate::ids::{Generation, InstanceId, InstanceRef, IntentId, LogIndex, PluginName, Revision, Slot};
use crate::time::Timestamp;

/// One entry of the roster. A slot that has lost its instance stays, to remember its generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// The latest generation that was given out here.
    pub generation: Generation,
    /// Whoever holds the slot.
    pub current: Option<Incarnation>,
    /// Whoever is to hold it next. Only beside an occupied one: few slots have it, so it has a place of its own.
    pub incoming: Option<Box<Incarnation>>,
}

/// One instance in a slot, from the intent that makes it to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incarnation {
    /// It is being made under this intent. It counts as present.
    Pending(IntentId),
    Occupied(Occupied),
}

/// An instance that holds a slot, or is to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    pub instance: InstanceRef,
    pub generation: Generation,
    /// The template it was made from; 0 when it is none that is known.
    pub template: Revision,
    pub since: Timestamp,
    /// The log index that recorded it.
    pub recorded: LogIndex,
    pub health: Verdict,
    /// The intent that destroys it. It no longer counts.
    pub terminating: Option<IntentId>,
}

/// What the managers agree on about an instance's health (decisions 4 and 45).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its flavor has not called it healthy yet.
    Booting,
    /// Its flavor called it healthy last.
    Ready,
    /// It was healthy once, and its flavor has called it unhealthy since then.
    Unhealthy { since: Timestamp },
}

impl Verdict {
    /// It has been ready once: it is not waited for any more.
    pub fn is_settled(self) -> bool {
        self != Verdict::Booting
    }
}

impl Occupied {
    pub fn is_ready(&self) -> bool {
        self.health == Verdict::Ready
    }
}

impl Incarnation {
    pub fn as_occupied(&self) -> Option<&Occupied> {
        match self {
            Incarnation::Occupied(it) => Some(it),
            Incarnation::Pending(_) => None,
        }
    }

    /// It is there or coming, and not going.
    pub fn counts(&self) -> bool {
        match self {
            Incarnation::Pending(_) => true,
            Incarnation::Occupied(it) => it.terminating.is_none(),
        }
    }
}

impl Member {
    pub fn occupied(&self) -> Option<&Occupied> {
        self.current.as_ref().and_then(Incarnation::as_occupied)
    }

    pub fn incoming_occupied(&self) -> Option<&Occupied> {
        self.incoming.as_deref().and_then(Incarnation::as_occupied)
    }

    /// Whoever holds the slot, then whoever is to hold it next.
    pub fn incarnations(&self) -> impl Iterator<Item = &Incarnation> {
        self.current.iter().chain(self.incoming.as_deref())
    }

    fn incarnations_mut(&mut self) -> impl Iterator<Item = &mut Incarnation> {
        self.current.iter_mut().chain(self.incoming.as_deref_mut())
    }

    /// Every instance that is here: the one that holds the slot first.
    pub fn instances(&self) -> impl Iterator<Item = &Occupied> {
        self.incarnations().filter_map(Incarnation::as_occupied)
    }

    /// Counts toward the wanted number: somebody holds it who stays, or somebody takes it over.
    pub fn counts(&self) -> bool {
        self.incarnations().any(Incarnation::counts)
    }

    /// Somebody is here who is ready and not going.
    pub fn is_ready(&self) -> bool {
        self.instances().any(|it| it.is_ready() && it.terminating.is_none())
    }

    /// Nobody is here, and nobody is coming.
    pub fn is_free(&self) -> bool {
        self.current.is_none() && self.incoming.is_none()
    }

    fn instance_mut(&mut self, instance: &InstanceRef) -> Option<&mut Occupied> {
        self.incarnations_mut().find_map(|it| match it {
            Incarnation::Occupied(occupied) if occupied.instance == *instance => Some(occupied),
            Incarnation::Occupied(_) | Incarnation::Pending(_) => None,
        })
    }

    /// Takes away whoever `is_it`; the incoming one takes over an empty slot when it is there.
    fn remove(&mut self, is_it: impl Fn(&Incarnation) -> bool) {
        if self.incoming.as_deref().is_some_and(&is_it) {
            self.incoming = None;
        }
        if self.current.as_ref().is_some_and(&is_it) {
            self.current = self.incoming.take().map(|next| *next);
        }
    }
}

/// The slots of a group, and what is reckoned from them at every change, so that nobody counts a hundred
/// thousand of them to admit one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    slots: OrdMap<Slot, Member>,
    /// Which slot each instance holds, or is to hold.
    holders: OrdMap<InstanceRef, Slot>,
    /// How many slots count toward the wanted number.
    present: usize,
    /// How many incarnations are there or coming, and not going.
    incarnations: usize,
    /// How many there are with those that are going.
    existing: usize,
    /// How many slots have two that are not going.
    pairs: usize,
    /// How many slots have an instance that is ready and not going.
    ready: usize,
}

impl Roster {
    pub fn get(&self, slot: &Slot) -> Option<&Member> {
        self.slots.get(slot)
    }

    /// How many slots it has, those without an instance included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Slot, &Member)> {
        self.slots.iter()
    }

    pub fn values(&self) -> impl Iterator<Item = &Member> {
        self.slots.values()
    }

    /// The slot that an instance holds, or is to hold.
    pub fn slot_of(&self, instance: &InstanceRef) -> Option<&Slot> {
        self.holders.get(instance)
    }

    /// The instances of this id that hold a slot or are to, of any plugin.
    pub fn with_id<'a>(&'a self, id: &'a InstanceId) -> impl Iterator<Item = &'a InstanceRef> {
        let first = InstanceRef { id: id.clone(), plugin: PluginName::new("") };
        self.holders.range(first..).map(|(it, _)| it).take_while(move |it| it.id == *id)
    }

    /// The instances that hold a slot or are to.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceRef> {
        self.holders.keys()
    }

    /// How many slots count toward the wanted number.
    pub fn present(&self) -> usize {
        self.present
    }

    /// How many incarnations are there or coming, and not going: with those that are to take over.
    pub fn incarnations(&self) -> usize {
        self.incarnations
    }

    /// How many incarnations there are, also those that are going.
    pub fn existing(&self) -> usize {
        self.existing
    }

    /// How many slots have somebody who stays and somebody who is to take over.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// How many slots have an instance that is ready and not going.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Changes one slot, and keeps what is reckoned in step.
    pub fn update<T>(&mut self, slot: &Slot, change: impl FnOnce(&mut Member) -> T) -> T {
        let mut member = self.slots.get(slot).cloned().unwrap_or_default();
        let before = member.clone();
        let result = change(&mut member);
        if member != before {
            let counted = |it: &Member| it.incarnations().filter(|it| it.counts()).count();
            let (then, now) = (counted(&before), counted(&member));
            self.present = self.present + usize::from(now > 0) - usize::from(then > 0);
            self.incarnations = self.incarnations + now - then;
            self.existing = self.existing + member.incarnations().count() - before.incarnations().count();
            self.pairs = self.pairs + usize::from(now > 1) - usize::from(then > 1);
            self.ready = self.ready + usize::from(member.is_ready()) - usize::from(before.is_ready());
            for gone in before.instances() {
                if member.instances().all(|it| it.instance != gone.instance) {
                    self.holders.remove(&gone.instance);
                }
            }
            for new in member.instances() {
                if before.instances().all(|it| it.instance != new.instance) {
                    self.holders.insert(new.instance.clone(), slot.clone());
                }
            }
            self.slots.insert(slot.clone(), member);
        }
        result
    }

    /// The next generation of a slot.
    pub fn next_generation(&self, slot: &Slot) -> Generation {
        Generation(self.slots.get(slot).map_or(0, |member| member.generation.0) + 1)
    }

    /// Changes an instance wherever it is; nothing when it is nowhere.
    pub(super) fn update_instance(&mut self, instance: &InstanceRef, change: impl FnOnce(&mut Occupied)) {
        let Some(slot) = self.holders.get(instance).cloned() else { return };
        self.update(&slot, |member| {
            if let Some(occupied) = member.instance_mut(instance) {
                change(occupied);
            }
        });
    }

    /// An instance leaves its slot.
    pub(super) fn vacate(&mut self, instance: &InstanceRef) {
        let Some(slot) = self.holders.get(instance).cloned() else { return };
        self.update(&slot, |member| {
            member.remove(|it| it.as_occupied().is_some_and(|it| it.instance == *instance));
        });
    }

    /// What was pending under an intent is not, any more: `made` takes its place, or nobody does.
    pub(super) fn settle(&mut self, slot: &Slot, intent: IntentId, made: Option<Occupied>) {
        self.update(slot, |member| {
            let pending = Incarnation::Pending(intent);
            let Some(made) = made else {
                member.remove(|it| *it == pending);
                return;
            };
            if let Some(place) = member.incarnations_mut().find(|it| **it == pending) {
                *place = Incarnation::Occupied(made);
            }
        });
    }
}

impl FromIterator<(Slot, Member)> for Roster {
    fn from_iter<I: IntoIterator<Item = (Slot, Member)>>(members: I) -> Self {
        let mut roster = Roster::default();
        for (slot, member) in members {
            roster.update(&slot, |place| *place = member);
        }
        roster
    }
}
