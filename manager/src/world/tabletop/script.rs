//! What is told to a tabletop: how its calls end, what its listings show, how its instances are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::plugin::Guarantees;
use model::{Health, InstanceId, Slot};

use super::Tabletop;
use crate::world::Rejection;

/// What somebody may ask of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallKind {
    List,
    Provision,
    Drain,
    Destroy,
    Label,
    Start,
    Health,
    Validate,
}

/// How one call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fate {
    /// It comes true.
    #[default]
    Done,
    /// Nothing is done, and that is said.
    Refused,
    /// Nothing is done, and the outcome is unknown.
    Lost,
    /// It is done, and the answer is lost.
    HalfMade,
    /// The caller hears of a failure at once; it is done so much later all the same.
    Late(Duration),
    /// Nothing is done, and nothing is said until the caller gives up.
    Hangs,
    /// The code that makes the call has a defect.
    Panics,
}

impl CallKind {
    /// All others are questions.
    pub(crate) fn changes_something(self) -> bool {
        match self {
            CallKind::Provision | CallKind::Drain | CallKind::Destroy | CallKind::Label | CallKind::Start => {
                true
            }
            CallKind::List | CallKind::Health | CallKind::Validate => false,
        }
    }
}

/// How the calls of one kind end: the next ones first, then by their slot, then all others.
#[derive(Default)]
struct Rule {
    next: VecDeque<Fate>,
    slots: BTreeMap<Slot, Fate>,
    usual: Fate,
}

/// All that a tabletop was told.
pub(super) struct Script {
    rules: BTreeMap<CallKind, Rule>,
    /// How long each call takes.
    pub(super) takes: Duration,
    pub(super) guarantees: Guarantees,
    /// How long an instance that was made is missing from listings.
    pub(super) lists_after: Duration,
    pub(super) lists_at_most: usize,
    pub(super) hidden: BTreeSet<InstanceId>,
    pub(super) loses_tags: bool,
    /// Whether its plugins serve one provider, and each lists everything.
    pub(super) share: bool,
    /// How long nobody can say how a new instance is.
    pub(super) boots: Duration,
    pub(super) health: BTreeMap<InstanceId, Health>,
    next_health: BTreeMap<InstanceId, VecDeque<Health>>,
    pub(super) rejections: Vec<Rejection>,
}

impl Script {
    pub(super) fn promising(guarantees: Guarantees) -> Self {
        Self {
            rules: BTreeMap::new(),
            takes: Duration::from_millis(20),
            guarantees,
            lists_after: Duration::ZERO,
            lists_at_most: usize::MAX,
            hidden: BTreeSet::new(),
            loses_tags: false,
            share: false,
            boots: Duration::ZERO,
            health: BTreeMap::new(),
            next_health: BTreeMap::new(),
            rejections: Vec::new(),
        }
    }

    pub(super) fn fate(&mut self, kind: CallKind, slot: Option<&Slot>) -> Fate {
        let rule = self.rules.entry(kind).or_default();
        let of_slot = || slot.and_then(|slot| rule.slots.get(slot).copied()).unwrap_or(rule.usual);
        rule.next.pop_front().unwrap_or_else(of_slot)
    }

    pub(super) fn next_health(&mut self, instance: &InstanceId) -> Option<Health> {
        self.next_health.get_mut(instance)?.pop_front()
    }
}

impl Tabletop {
    fn tell(&self, what: impl FnOnce(&mut Script)) {
        self.touch(|table| what(&mut table.script));
    }

    /// Every call of this kind ends so from now on, unless it is told otherwise of the next or of a slot.
    pub(crate) fn ends(&self, kind: CallKind, fate: Fate) {
        self.tell(|script| script.rules.entry(kind).or_default().usual = fate);
    }

    /// The next calls of this kind end so, one after another.
    pub(crate) fn next_end(&self, kind: CallKind, fates: impl IntoIterator<Item = Fate>) {
        self.tell(|script| script.rules.entry(kind).or_default().next.extend(fates));
    }

    /// Every call of this kind for this slot ends so from now on.
    pub(crate) fn ends_in(&self, kind: CallKind, slot: &Slot, fate: Fate) {
        self.tell(|script| {
            script.rules.entry(kind).or_default().slots.insert(slot.clone(), fate);
        });
    }

    pub(crate) fn promises(&self, guarantees: Guarantees) {
        self.tell(|script| script.guarantees = guarantees);
    }

    /// What is made from now on is listed so much later.
    pub(crate) fn lists_after(&self, lag: Duration) {
        self.tell(|script| script.lists_after = lag);
    }

    /// Its listings are cut short after so many.
    pub(crate) fn lists_at_most(&self, items: usize) {
        self.tell(|script| script.lists_at_most = items);
    }

    /// Its listings do not show this one, though it lives; or show it again.
    pub(crate) fn hides(&self, instance: &InstanceId, hidden: bool) {
        self.tell(|script| {
            if hidden {
                script.hidden.insert(instance.clone());
            } else {
                script.hidden.remove(instance);
            }
        });
    }

    /// All its plugins serve one provider.
    pub(crate) fn plugins_share(&self) {
        self.tell(|script| script.share = true);
    }

    /// What is made from now on is listed without its tags.
    pub(crate) fn loses_tags(&self) {
        self.tell(|script| script.loses_tags = true);
    }

    /// What is made takes so long until anybody calls it healthy.
    pub(crate) fn boots_in(&self, span: Duration) {
        self.tell(|script| script.boots = span);
    }

    /// Whoever asks about this instance hears this from now on.
    pub(crate) fn is(&self, instance: &InstanceId, health: Health) {
        self.tell(|script| {
            script.health.insert(instance.clone(), health);
        });
    }

    /// Whoever asks about this instance hears these next, one after another.
    pub(crate) fn is_next(&self, instance: &InstanceId, answers: impl IntoIterator<Item = Health>) {
        self.tell(|script| script.next_health.entry(instance.clone()).or_default().extend(answers));
    }

    /// Its plugins say this against every spec.
    pub(crate) fn rejects(&self, rejections: Vec<Rejection>) {
        self.tell(|script| script.rejections = rejections);
    }
}
