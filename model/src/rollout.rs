//! The progress of a group's rollout.

use std::fmt;

use crate::ids::Revision;

/// The phase of a group's rollout, replicated: a new leader has nothing to resume.
///
/// ```text
///              Target              AllReplaced
///  Succeeded ----------> Running ---------------> Succeeded
///                         |   ^
///                         +---+ Target (another one: the old is abandoned)
///  Succeeded ----------> Running: Outdated (a member of another template was adopted)
/// ```
///
/// Rolling back is `Target(old)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Members are being created, or replaced one at a time.
    Running { to: Revision },
    /// Every desired member was ready at this template once. Remediation and scaling do not change it.
    Succeeded { at: Revision },
}

/// What changes a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// This is the template that members should have from now on.
    Target(Revision),
    /// Every desired member is ready at this template.
    AllReplaced(Revision),
    /// A member of another template was adopted: it is replaced by one of this template.
    Outdated(Revision),
}

impl Phase {
    /// The phase after an event; an event that does not fit changes nothing.
    #[must_use]
    pub fn after(self, event: Event) -> Phase {
        match (self, event) {
            (Phase::Succeeded { at }, Event::Target(to)) if at == to => self,
            (Phase::Succeeded { .. } | Phase::Running { .. }, Event::Target(to)) => Phase::Running { to },
            (Phase::Running { to }, Event::AllReplaced(at)) if at == to => Phase::Succeeded { at },
            (Phase::Running { .. } | Phase::Succeeded { .. }, Event::AllReplaced(_)) => self,
            (Phase::Running { .. } | Phase::Succeeded { .. }, Event::Outdated(to)) => Phase::Running { to },
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Running { .. } => "Running",
            Phase::Succeeded { .. } => "Succeeded",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_current_target_can_succeed() {
        let (old, new) = (Revision(1), Revision(2));
        for phase in [Phase::Running { to: old }, Phase::Succeeded { at: old }] {
            assert_eq!(phase.after(Event::Target(new)), Phase::Running { to: new });
            assert_eq!(phase.after(Event::AllReplaced(new)), phase, "a late word about another target");
            assert_eq!(phase.after(Event::AllReplaced(old)), Phase::Succeeded { at: old });
        }
        assert_eq!(Phase::Succeeded { at: old }.after(Event::Target(old)), Phase::Succeeded { at: old });
        assert_eq!(Phase::Succeeded { at: old }.after(Event::Outdated(old)), Phase::Running { to: old });
    }
}
