//! How members are replaced when the template changes.

use super::allocation::Allocation;
use crate::limits::{HEALTH_EVERY, HEALTHY_WITHIN, PROGRESS_WITHIN};
use crate::time::Millis;

/// How healthy a replacement must be before it counts (semantics §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthGate {
    /// One healthy sample.
    #[default]
    Once,
    /// This many healthy samples in a row.
    Count(u32),
    /// Healthy without interruption for this long.
    Duration(Millis),
}

/// A number of members, or a share of the group's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Members(u32),
    /// From 0 to 100.
    Percent(u32),
}

/// What is done when too many replacements fail, or none gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The rollout pauses with its reason, until an operator resumes, aborts or undoes it.
    #[default]
    Pause,
    /// Failures are counted and shown, and nothing is stopped for them.
    Continue,
    /// The template of before is declared again.
    Rollback,
}

/// Members that are replaced first, and watched, before the others follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// How many; at least one, and no more than the group has.
    pub count: u32,
    /// For how long they are watched once all of them are healthy.
    pub bake: Millis,
    /// After that the rollout waits for `rollout promote`.
    pub manual: bool,
}

/// How members are replaced when the template changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Updating {
    pub gate: HealthGate,
    /// Skip the flavor's drain while members are replaced (`SkipBeforeInstanceDestroy: drain`).
    pub skip_drain: bool,
    /// How many instances the group may have above its size: 1 for cattle, 0 for pets if it is not said.
    pub max_surge: Option<Amount>,
    /// How many members may be away for the rollout: 0 for cattle, 1 for pets if it is not said.
    pub max_unavailable: Option<Amount>,
    /// How long a new member may take to become ready before it has failed; [`HEALTHY_WITHIN`] if it is not said.
    pub healthy_deadline: Option<Millis>,
    /// How long a rollout may go without a member that became ready, beside the time for which members are watched; if it
    /// is not said, [`PROGRESS_WITHIN`], or twice the deadline of a member.
    pub progress_deadline: Option<Millis>,
    /// Which share of the group may fail, in thousandths, before [`OnFailure`] is done; if it is not said, no member
    /// may. No more members than may fail are new and unproven at any time.
    pub max_failures: Option<u32>,
    /// For how long after it became ready a new member that turns unhealthy has failed.
    pub monitor: Millis,
    pub on_failure: OnFailure,
    pub canary: Option<Canary>,
}

/// What a rollout may do to a group of some size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disruption {
    /// How many instances there may be above its size.
    pub surge: usize,
    /// How many members may be away.
    pub unavailable: usize,
    /// How many members may have failed before [`OnFailure`] is done.
    pub failures: usize,
    /// How many may be new and unproven at once.
    pub at_risk: usize,
}

impl Amount {
    /// So many of a group of this size; a share is rounded up.
    pub fn rounded_up(self, size: usize) -> usize {
        match self {
            Amount::Members(members) => members as usize,
            Amount::Percent(share) => (size * share as usize).div_ceil(100),
        }
    }

    /// A share is rounded down.
    pub fn rounded_down(self, size: usize) -> usize {
        match self {
            Amount::Members(members) => members as usize,
            Amount::Percent(share) => size * share as usize / 100,
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Amount::Members(members) => write!(f, "{members}"),
            Amount::Percent(share) => write!(f, "{share}%"),
        }
    }
}

impl std::str::FromStr for Amount {
    type Err = String;

    /// `5` or `25%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a number of members, such as 2, or a share of them, such as 25%");
        match text.strip_suffix('%') {
            None => text.parse().map(Amount::Members).map_err(|_| wrong()),
            Some(share) => match share.parse() {
                Ok(share @ 0..=100) => Ok(Amount::Percent(share)),
                Ok(_) => Err(format!("{text} is more than all")),
                Err(_) => Err(wrong()),
            },
        }
    }
}

impl OnFailure {
    pub const ALL: [OnFailure; 3] = [OnFailure::Pause, OnFailure::Continue, OnFailure::Rollback];

    /// Its name in a spec.
    pub fn as_str(self) -> &'static str {
        match self {
            OnFailure::Pause => "Pause",
            OnFailure::Continue => "Continue",
            OnFailure::Rollback => "Rollback",
        }
    }
}

impl Updating {
    /// What a rollout may do to a group of these members. One may always be replaced, whatever shares come to.
    pub fn disruption(&self, allocation: &Allocation) -> Disruption {
        let size = allocation.count();
        let is_named = matches!(allocation, Allocation::LogicalIds(_));
        let (default_surge, default_unavailable) = if is_named { (0, 1) } else { (1, 0) };
        let surge = match self.max_surge {
            Some(amount) if !is_named => amount.rounded_up(size),
            _ => default_surge,
        };
        let unavailable = self.max_unavailable.map_or(default_unavailable, |it| it.rounded_down(size));
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let failures = self.max_failures.map_or(1, |share| (size * share as usize).div_ceil(1000).max(1));
        let at_risk = surge + unavailable;
        let at_risk = if self.max_failures.is_some() { at_risk.min(failures) } else { at_risk };
        Disruption { surge, unavailable, failures, at_risk }
    }

    /// How long a new member may take to become ready.
    pub fn healthy_within(&self) -> Millis {
        self.healthy_deadline.unwrap_or(HEALTHY_WITHIN)
    }

    /// How long a rollout may go without a member that became ready: its deadline, and as long as it has to wait for the
    /// gate and for its monitor.
    pub fn progress_within(&self) -> Millis {
        let gate = match self.gate {
            HealthGate::Once => Millis(0),
            HealthGate::Count(count) => HEALTH_EVERY * u64::from(count),
            HealthGate::Duration(span) => span,
        };
        let deadline = self.progress_deadline.unwrap_or(PROGRESS_WITHIN.max(self.healthy_within() * 2));
        deadline + gate + self.monitor
    }

    /// Whether it says anything that only programs of feature level 2 know.
    pub(super) fn is_of_level_2(&self) -> bool {
        let known = Updating { gate: self.gate, skip_drain: self.skip_drain, ..Updating::default() };
        *self != known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_so_that_one_can_always_be_replaced_and_never_more_than_was_said() {
        for size in 0..=200usize {
            let of = |max_surge, max_unavailable| {
                let updating = Updating { max_surge, max_unavailable, ..Updating::default() };
                updating.disruption(&Allocation::Size(size as u32))
            };
            for share in 0..=100u32 {
                let percent = Some(Amount::Percent(share));
                let it = of(percent, Some(Amount::Members(0)));
                assert!(it.surge * 100 >= size * share as usize && it.surge <= size, "{size} {share}");
                assert!(it.surge + it.unavailable >= 1, "{size} {share}");
                let it = of(Some(Amount::Members(0)), percent);
                assert!(it.unavailable * 100 <= size * share as usize || it.unavailable == 1);
            }
            assert_eq!((of(None, None).surge, of(None, None).unavailable), (1, 0));
        }
        let names = Allocation::LogicalIds(vec!["a".into(), "b".into()]);
        let pets = Updating::default().disruption(&names);
        assert_eq!((pets.surge, pets.unavailable, pets.at_risk), (0, 1, 1));
    }

    #[test]
    fn no_more_are_unproven_than_may_fail() {
        let updating =
            Updating { max_surge: Some(Amount::Members(5)), max_failures: Some(100), ..Updating::default() };
        let it = updating.disruption(&Allocation::Size(20));
        assert_eq!((it.failures, it.at_risk), (2, 2));
        let it = Updating { max_failures: None, ..updating }.disruption(&Allocation::Size(20));
        assert_eq!((it.failures, it.at_risk), (1, 5));
    }

    #[test]
    fn an_amount_is_read_as_it_is_written() {
        for text in ["0", "5", "0%", "25%", "100%"] {
            assert_eq!(text.parse::<Amount>().expect("an amount").to_string(), text);
        }
        for text in ["", "%", "-1", "101%", "5.5", "1 %", "x"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }
}
