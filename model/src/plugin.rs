//! What can be relied on when a plugin is called and looked at.

use std::fmt;

use crate::limits::LISTINGS_LAG;
use crate::time::Millis;

/// What a plugin promises of itself, beyond InfraKit's own contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guarantees {
    pub class: PluginClass,
    /// After how long an instance that was made is surely listed; none when it does not say.
    pub lists_within: Option<Millis>,
}

/// What can be done about a call whose answer was lost (ha-raft §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PluginClass {
    /// A repeated token makes no second instance.
    A,
    /// A repeated name makes no second instance.
    B,
    /// Its tags come with the instance, and a listing shows it within a time: it is repeated only when the first
    /// call can no longer take effect and a listing after that shows nothing. Also whoever says nothing of itself.
    #[default]
    C,
    /// No listing proves that an instance was not made. Nothing is repeated but by an operator.
    D,
}

impl PluginClass {
    /// Whether a repeat makes no second instance, so that nobody has to wait for the first call.
    pub fn dedupes(self) -> bool {
        matches!(self, PluginClass::A | PluginClass::B)
    }
}

impl fmt::Display for PluginClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PluginClass::A => "A: no second instance for one token, however often it is repeated",
            PluginClass::B => "B: no second instance of one name, however often it is repeated",
            PluginClass::C => {
                "C: repeated only when the first call can no longer take effect and a listing shows nothing"
            }
            PluginClass::D => {
                "D: what it makes is not listed at once with its tags, so a lost answer may cost an instance"
            }
        })
    }
}

impl Guarantees {
    /// How far its listings may lag behind.
    pub fn listings_lag(&self) -> Millis {
        match self.class {
            PluginClass::D => Millis(u64::MAX),
            PluginClass::A | PluginClass::B | PluginClass::C => self.lists_within.unwrap_or(LISTINGS_LAG),
        }
    }
}
