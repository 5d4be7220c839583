//! The guarantees of plugins.

use std::fmt;

use crate::limits::{LISTINGS_LAG, UNPROMISED_LAG};
use crate::time::Millis;

/// The guarantees that a plugin reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Guarantees {
    pub class: PluginClass,
    /// The listing lag; none if the plugin does not report it.
    pub lists_within: Option<Millis>,
}

/// What can be done after a lost reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PluginClass {
    /// A repeated token creates no second instance.
    A,
    /// A repeated name creates no second instance.
    B,
    /// Instances are listed with their tags within a known time: a call is repeated only when the first one
    /// can no longer take effect and a later listing lacks the instance. The default.
    #[default]
    C,
    /// No listing proves that an instance was not created. A call is never repeated; an operator resolves it.
    D,
}

impl PluginClass {
    /// Whether a repeated call creates no second instance, so that it can be made immediately.
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
                "C: repeated only when the first call can no longer take effect and a listing lacks it"
            }
            PluginClass::D => {
                "D: not listed at once with its tags, so a lost reply may leave an unknown instance"
            }
        })
    }
}

impl Guarantees {
    /// How old a listing may be when it arrives: what it shows of a call that ended is believed only when the
    /// listing began as long after it.
    pub fn shows_the_past(&self) -> Millis {
        self.lists_within.unwrap_or(UNPROMISED_LAG)
    }

    /// The listing lag of the plugin.
    pub fn listings_lag(&self) -> Millis {
        match self.class {
            PluginClass::D => Millis(u64::MAX),
            PluginClass::A | PluginClass::B | PluginClass::C => self.lists_within.unwrap_or(LISTINGS_LAG),
        }
    }
}
