//! The only way into a spec: what contradicts itself, or is too large, is no value of these types.

use std::collections::BTreeSet;
use std::fmt;

use super::allocation::Allocation;
use super::updating::{Amount, HealthGate, Updating};
use super::{GroupSpec, Healing, Template};
use crate::ids::{GroupId, LogicalId};
use crate::time::Millis;

/// What is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecError {
    NeitherSizeNorNames,
    SizeAndNames,
    TooManyMembers {
        members: usize,
        named: bool,
    },
    /// The name at this place, from 0.
    EmptyName {
        at: usize,
    },
    RepeatedName {
        at: usize,
        name: String,
    },
    CountAndDuration,
    Time {
        field: &'static str,
        span: Millis,
        least: Millis,
        most: Millis,
    },
    /// Neither more instances than members, nor fewer.
    NothingMayChange {
        named: bool,
    },
    SurgeOfNames,
    /// That of a member is longer than that of the rollout.
    Deadlines {
        healthy: Millis,
        progress: Millis,
    },
    Canary {
        count: u32,
        members: usize,
    },
    LongName {
        at: usize,
        bytes: usize,
    },
    TooHeavy {
        bytes: usize,
    },
}

impl SpecError {
    /// The field of its block that is wrong, such as `LogicalIDs[2]`; empty for the whole block.
    pub fn field(&self) -> String {
        match self {
            SpecError::EmptyName { at }
            | SpecError::RepeatedName { at, .. }
            | SpecError::LongName { at, .. } => format!("LogicalIDs[{at}]"),
            SpecError::TooManyMembers { named: true, .. } => "LogicalIDs".to_owned(),
            SpecError::TooManyMembers { named: false, .. } => "Size".to_owned(),
            SpecError::Time { field, .. } => (*field).to_owned(),
            SpecError::NothingMayChange { .. } => "MaxUnavailable".to_owned(),
            SpecError::SurgeOfNames => "MaxSurge".to_owned(),
            SpecError::Deadlines { .. } => "HealthyDeadline".to_owned(),
            SpecError::Canary { .. } => "Canary.Count".to_owned(),
            SpecError::NeitherSizeNorNames
            | SpecError::SizeAndNames
            | SpecError::CountAndDuration
            | SpecError::TooHeavy { .. } => String::new(),
        }
    }

    /// What to do about it; may be empty.
    pub fn remedy(&self) -> &'static str {
        match self {
            SpecError::NeitherSizeNorNames => "give `Size: N` for cattle, or `LogicalIDs: [...]` for pets",
            SpecError::SizeAndNames => "keep Size for cattle, or LogicalIDs for pets",
            SpecError::TooManyMembers { .. } => "split it into several groups",
            SpecError::EmptyName { .. } => "give a name, or remove it",
            SpecError::LongName { .. } => "give a shorter name",
            SpecError::RepeatedName { .. } | SpecError::CountAndDuration => "keep one of them",
            SpecError::Time { .. } => "",
            SpecError::NothingMayChange { named: true } => {
                "let at least one be away, or remove MaxUnavailable"
            }
            SpecError::NothingMayChange { named: false } => "let MaxSurge or MaxUnavailable be at least 1",
            SpecError::SurgeOfNames => {
                "remove MaxSurge: the old one of a name goes before the new one is made"
            }
            SpecError::Deadlines { .. } => "make it shorter than ProgressDeadline",
            SpecError::Canary { .. } => "give a number from 1 to the number of members",
            SpecError::TooHeavy { .. } => "move large scripts behind a URL",
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpecError::NeitherSizeNorNames => f.write_str("neither Size nor LogicalIDs is given"),
            SpecError::SizeAndNames => f.write_str("both Size and LogicalIDs are given"),
            SpecError::TooManyMembers { members, .. } => {
                write!(f, "{members} members are requested; a group has at most {}", GroupSpec::MOST_MEMBERS)
            }
            SpecError::EmptyName { .. } => f.write_str("the logical id is empty"),
            SpecError::LongName { bytes, .. } => {
                write!(f, "the logical id has {bytes} bytes; at most {} are accepted", LogicalId::LONGEST)
            }
            SpecError::RepeatedName { name, .. } => write!(f, "the logical id `{name}` is repeated"),
            SpecError::CountAndDuration => f.write_str("both Count and Duration are given"),
            SpecError::Time { span, least, most, .. } => {
                write!(f, "{span} is not between {least} and {most}")
            }
            SpecError::NothingMayChange { named: true } => {
                f.write_str("no member may be away, and none can be replaced before it is")
            }
            SpecError::NothingMayChange { named: false } => {
                f.write_str("MaxSurge and MaxUnavailable are both 0: no member could be replaced")
            }
            SpecError::SurgeOfNames => f.write_str("two members of one logical id are never there at once"),
            SpecError::Deadlines { healthy, progress } => {
                write!(f, "{healthy} is longer than the ProgressDeadline of {progress}")
            }
            SpecError::Canary { count, members } => {
                write!(f, "a canary of {count} in a group of {members}")
            }
            SpecError::TooHeavy { bytes } => {
                write!(f, "the properties have {bytes} bytes; at most {} are accepted", GroupSpec::LARGEST)
            }
        }
    }
}

impl Allocation {
    /// A size, or names.
    ///
    /// # Errors
    ///
    /// Neither or both are given (a size of 0 beside names counts as none, as Docker's InfraKit writes it), a name is
    /// empty, repeated or longer than [`LogicalId::LONGEST`], or there are more than [`GroupSpec::MOST_MEMBERS`].
    pub fn new(size: Option<u32>, names: Vec<LogicalId>) -> Result<Self, Vec<SpecError>> {
        let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
        for (at, name) in names.iter().enumerate() {
            if name.as_str().trim().is_empty() {
                wrong.push(SpecError::EmptyName { at });
            } else if name.as_str().len() > LogicalId::LONGEST {
                wrong.push(SpecError::LongName { at, bytes: name.as_str().len() });
            } else if !seen.insert(name) {
                wrong.push(SpecError::RepeatedName { at, name: name.to_string() });
            }
        }
        let most = GroupSpec::MOST_MEMBERS as usize;
        let (members, named) = (names.len().max(size.unwrap_or(0) as usize), !names.is_empty());
        if named && size.unwrap_or(0) > 0 {
            wrong.push(SpecError::SizeAndNames);
        } else if members > most {
            wrong.push(SpecError::TooManyMembers { members, named });
        }
        match size {
            _ if !wrong.is_empty() => Err(wrong),
            _ if named => Ok(Allocation::LogicalIds(names)),
            Some(size) => Ok(Allocation::Size(size)),
            None => Err(vec![SpecError::NeitherSizeNorNames]),
        }
    }
}

impl HealthGate {
    /// So many healthy samples, or healthy for so long; one sample if both are 0.
    ///
    /// # Errors
    ///
    /// Both are given.
    pub fn new(count: u32, duration: Millis) -> Result<Self, SpecError> {
        match (count, duration) {
            (0, Millis(0)) => Ok(HealthGate::Once),
            (count, Millis(0)) => Ok(HealthGate::Count(count)),
            (0, duration) => Ok(HealthGate::Duration(duration)),
            _ => Err(SpecError::CountAndDuration),
        }
    }
}

impl Updating {
    /// The longest time that a rollout may be told to wait: a week.
    pub const LONGEST: Millis = Millis::seconds(7 * 24 * 3600);

    /// Checked against itself and the members that it is for.
    ///
    /// # Errors
    ///
    /// Surge and unavailable are both 0, or none may fail of those that are watched; pets with a surge; a canary of
    /// nobody; a deadline of less than a second or longer than [`Updating::LONGEST`]; a
    /// deadline of a member that is longer than that of the rollout.
    pub fn check(&self, allocation: &Allocation) -> Vec<SpecError> {
        let mut wrong = Vec::new();
        let is_none =
            |amount: Option<Amount>| matches!(amount, Some(Amount::Members(0) | Amount::Percent(0)));
        let is_named = matches!(allocation, Allocation::LogicalIds(_));
        if is_none(self.max_surge) && is_none(self.max_unavailable)
            || is_named && is_none(self.max_unavailable)
        {
            wrong.push(SpecError::NothingMayChange { named: is_named });
        }
        if is_named && self.max_surge.is_some_and(|it| !is_none(Some(it))) {
            wrong.push(SpecError::SurgeOfNames);
        }
        let second = Millis::seconds(1);
        let times = [
            ("Duration", self.gate_duration(), Millis(0)),
            ("HealthyDeadline", self.healthy_deadline, second),
            ("ProgressDeadline", self.progress_deadline, second),
            ("Monitor", Some(self.monitor), Millis(0)),
            ("Canary.Bake", self.canary.map(|it| it.bake), Millis(0)),
        ];
        for (field, span, least) in times {
            if let Some(span) = span.filter(|span| !(least..=Self::LONGEST).contains(span)) {
                wrong.push(SpecError::Time { field, span, least, most: Self::LONGEST });
            }
        }
        if let (Some(healthy), Some(progress)) = (self.healthy_deadline, self.progress_deadline)
            && healthy > progress
        {
            wrong.push(SpecError::Deadlines { healthy, progress });
        }
        if let Some(canary) = self.canary
            && canary.count == 0
        {
            wrong.push(SpecError::Canary { count: 0, members: allocation.count() });
        }
        wrong
    }

    /// The same for what somebody writes. A group that is scaled to fewer members than it has canaries is one of canaries.
    pub fn check_written(&self, allocation: &Allocation) -> Vec<SpecError> {
        let mut wrong = self.check(allocation);
        if let Some(canary) = self.canary
            && canary.count as usize > allocation.count()
        {
            wrong.push(SpecError::Canary { count: canary.count, members: allocation.count() });
        }
        wrong
    }

    fn gate_duration(&self) -> Option<Millis> {
        match self.gate {
            HealthGate::Duration(span) => Some(span),
            HealthGate::Once | HealthGate::Count(_) => None,
        }
    }
}

impl Healing {
    /// The longest time that a group may set: a day.
    pub const LONGEST: Millis = Millis::seconds(24 * 3600);

    /// # Errors
    ///
    /// A time is longer than [`Healing::LONGEST`], or the deadline is shorter than a second.
    pub fn new(
        absent_for: Option<Millis>,
        start: bool,
        boot_deadline: Option<Millis>,
    ) -> Result<Self, Vec<SpecError>> {
        let times =
            [("AbsentFor", absent_for, Millis(0)), ("BootDeadline", boot_deadline, Millis::seconds(1))];
        let wrong: Vec<SpecError> = times
            .into_iter()
            .filter_map(|(field, span, least)| Some((field, span?, least)))
            .filter(|(_, span, least)| !(*least..=Self::LONGEST).contains(span))
            .map(|(field, span, least)| SpecError::Time { field, span, least, most: Self::LONGEST })
            .collect();
        if wrong.is_empty() { Ok(Self { absent_for, start, boot_deadline }) } else { Err(wrong) }
    }
}

impl GroupSpec {
    /// A group of parts that are valid each by itself.
    ///
    /// # Errors
    ///
    /// Its properties have more than [`GroupSpec::LARGEST`] bytes, or its members cannot be updated so.
    pub fn new(
        id: GroupId,
        allocation: Allocation,
        template: Template,
        updating: Updating,
        healing: Healing,
    ) -> Result<Self, Vec<SpecError>> {
        let mut wrong = updating.check(&allocation);
        let spec = Self { id, allocation, template, updating, healing };
        let bytes = spec.weight();
        if bytes > Self::LARGEST {
            wrong.push(SpecError::TooHeavy { bytes });
        }
        if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Canary;

    #[test]
    fn an_allocation_is_a_size_or_names_and_says_all_that_is_wrong_with_it() {
        let names = |all: &[&str]| all.iter().map(LogicalId::new).collect::<Vec<_>>();
        assert_eq!(Allocation::new(Some(0), names(&["a"])), Ok(Allocation::LogicalIds(names(&["a"]))));
        assert_eq!(Allocation::new(Some(3), Vec::new()), Ok(Allocation::Size(3)));
        assert_eq!(Allocation::new(None, Vec::new()), Err(vec![SpecError::NeitherSizeNorNames]));
        let all = Allocation::new(Some(1), names(&["a", " ", "a"])).expect_err("three things are wrong");
        let fields: Vec<String> = all.iter().map(SpecError::field).collect();
        assert_eq!(fields, ["LogicalIDs[1]", "LogicalIDs[2]", ""]);
        let long = "x".repeat(LogicalId::LONGEST);
        assert!(Allocation::new(None, names(&[&long])).is_ok());
        let wrong = Allocation::new(None, names(&[&format!("{long}x")])).expect_err("it is too long");
        assert_eq!(wrong, [SpecError::LongName { at: 0, bytes: LogicalId::LONGEST + 1 }]);
        // As many as can be, in no time that is worth a word.
        let most = GroupSpec::MOST_MEMBERS as usize;
        let many: Vec<LogicalId> = (0..=most).map(|n| LogicalId::new(format!("n{n}"))).collect();
        assert!(Allocation::new(None, many[1..].to_vec()).is_ok());
        let wrong = Allocation::new(None, many).expect_err("one too many");
        assert_eq!(wrong, [SpecError::TooManyMembers { members: most + 1, named: true }]);
    }

    #[test]
    fn the_times_of_healing_have_an_end() {
        let of = |absent: u64, boot: u64| {
            Healing::new(Some(Millis::seconds(absent)), false, Some(Millis::seconds(boot)))
        };
        assert!(of(0, 1).is_ok() && of(86_400, 86_400).is_ok());
        let fields = |wrong: Vec<SpecError>| wrong.iter().map(SpecError::field).collect::<Vec<_>>();
        assert_eq!(of(86_401, 0).map_err(fields), Err(vec!["AbsentFor".into(), "BootDeadline".into()]));
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        let size = |n| Allocation::Size(n);
        let fields = |updating: Updating, of: &Allocation| -> Vec<String> {
            updating.check_written(of).iter().map(SpecError::field).collect()
        };
        let zero = Some(Amount::Members(0));
        let none = Updating { max_surge: zero, max_unavailable: zero, ..Updating::default() };
        assert_eq!(fields(none, &size(3)), ["MaxUnavailable"]);
        let canary = |count| Updating {
            canary: Some(Canary { count, bake: Millis(0), manual: false }),
            ..Updating::default()
        };
        assert_eq!(fields(canary(4), &size(3)), ["Canary.Count"]);
        assert_eq!(fields(canary(0), &size(3)), ["Canary.Count"]);
        assert!(fields(canary(3), &size(3)).is_empty());
        let names = Allocation::LogicalIds(vec!["a".into()]);
        let surge = Updating { max_surge: Some(Amount::Percent(10)), ..Updating::default() };
        assert_eq!(fields(surge, &names), ["MaxSurge"]);
        let late = Updating {
            healthy_deadline: Some(Millis::seconds(20)),
            progress_deadline: Some(Millis::seconds(10)),
            ..Updating::default()
        };
        assert_eq!(fields(late, &size(1)), ["HealthyDeadline"]);
        let short = Updating { progress_deadline: Some(Millis(10)), ..Updating::default() };
        assert_eq!(fields(short, &size(1)), ["ProgressDeadline"]);
    }
}
