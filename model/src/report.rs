//! One turn of the reconciler for one object: what it found out, and what it wants to do.

use crate::ids::{Generation, InstanceId, InstanceRef, IntentId, ObjectKey, Revision, Slot, Term};
use crate::intent::{Outcome, Reason};
use crate::time::Timestamp;

/// What the reconciler found out and wants to do, in one entry: facts first, so that the claims that follow from
/// them find their slots free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub key: ObjectKey,
    /// Applied only in this term: a deposed leader's report changes nothing.
    pub term: Term,
    /// The revision the plan was made from. A claim or an adoption that was planned from another is
    /// denied: a commit in between may have changed what is wanted, and where.
    pub revision: Revision,
    /// In the order in which they are applied.
    pub facts: Vec<Fact>,
    pub claims: Vec<Claim>,
    /// Open intents that are attempted again, under the same token.
    pub repeats: Vec<IntentId>,
}

/// Something that the leader found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The outcome of an attempt.
    Outcome(IntentId, Outcome),
    /// It was destroyed without its drain, for this reason.
    NotDrained { instance: InstanceRef, message: String },
    /// It had stopped, and was started again.
    Started { instance: InstanceRef },
    /// Fresh listings no longer show it.
    Gone { slot: Slot, instance: InstanceRef },
    /// Its flavor calls it healthy: for the first time, or again.
    Ready { slot: Slot, instance: InstanceRef },
    /// Its flavor has called it unhealthy, without a break, since then.
    Unhealthy { slot: Slot, instance: InstanceRef, since: Timestamp },
    /// An instance that is there already takes an empty slot.
    Adopted(Adoption),
    /// Every wanted member is ready at this template.
    AllReplaced(Revision),
    /// Something about the rollout to this template.
    Rollout { to: Revision, finding: Finding },
    /// Listings have shown all that a group of this name had before it was declared again.
    MembersKnown,
    /// The group was being destroyed, and nothing of it is left.
    Emptied,
}

/// What the leader finds out about a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The new member of this generation did not become ready by its deadline, or turned unhealthy while it was watched.
    Failed { slot: Slot, generation: Generation },
    /// No member became ready for longer than the group allows.
    NoProgress,
    /// All canaries are there and healthy.
    CanariesHealthy,
    /// They were healthy for as long as they are watched.
    CanariesProven,
}

/// An instance that fills an empty slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    pub slot: Slot,
    /// Of the plugin of its template.
    pub instance: InstanceId,
    /// The template it was made from; 0 when it is none that is known.
    pub template: Revision,
}

/// A side effect for which an intent is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// An instance for an empty slot.
    Provision { slot: Slot },
    /// An instance that is to take the slot over from the one that holds it: start-first.
    Replace { slot: Slot },
    /// The end of an instance of the plugin of that template.
    Destroy { instance: InstanceId, slot: Option<Slot>, template: Revision, reason: Reason },
    /// A label for an instance of the target's plugin.
    Label { instance: InstanceId },
}

impl Report {
    /// A report that says nothing yet.
    pub fn new(key: ObjectKey, revision: Revision, term: Term) -> Self {
        Self { key, term, revision, facts: Vec::new(), claims: Vec::new(), repeats: Vec::new() }
    }

    #[must_use]
    pub fn with_facts(mut self, facts: impl IntoIterator<Item = Fact>) -> Self {
        self.facts.extend(facts);
        self
    }

    #[must_use]
    pub fn with_claims(mut self, claims: impl IntoIterator<Item = Claim>) -> Self {
        self.claims.extend(claims);
        self
    }

    #[must_use]
    pub fn with_repeats(mut self, repeats: impl IntoIterator<Item = IntentId>) -> Self {
        self.repeats.extend(repeats);
        self
    }

    /// Nothing is written when nothing changes.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.claims.is_empty() && self.repeats.is_empty()
    }

    /// The outcomes among the facts.
    pub fn outcomes(&self) -> impl Iterator<Item = (IntentId, &Outcome)> {
        self.facts.iter().filter_map(|fact| match fact {
            Fact::Outcome(intent, outcome) => Some((*intent, outcome)),
            Fact::NotDrained { .. }
            | Fact::Started { .. }
            | Fact::Gone { .. }
            | Fact::Ready { .. }
            | Fact::Unhealthy { .. }
            | Fact::Adopted(_)
            | Fact::AllReplaced(_)
            | Fact::Rollout { .. }
            | Fact::MembersKnown
            | Fact::Emptied => None,
        })
    }

    /// The feature level whose programs know all of this.
    pub fn level(&self) -> u32 {
        let fact = |fact: &Fact| match fact {
            Fact::Unhealthy { .. }
            | Fact::NotDrained { .. }
            | Fact::Started { .. }
            | Fact::Rollout { .. }
            | Fact::MembersKnown => 2,
            Fact::Outcome(..)
            | Fact::Gone { .. }
            | Fact::Ready { .. }
            | Fact::Adopted(_)
            | Fact::AllReplaced(_)
            | Fact::Emptied => 0,
        };
        let claim = |claim: &Claim| match claim {
            Claim::Replace { .. } => 2,
            Claim::Provision { .. } | Claim::Destroy { .. } | Claim::Label { .. } => 0,
        };
        self.facts.iter().map(fact).chain(self.claims.iter().map(claim)).max().unwrap_or(0)
    }
}
