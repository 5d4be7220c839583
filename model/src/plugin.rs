//! What can be relied on when a plugin is called and looked at.

use crate::limits::LISTINGS_LAG;
use crate::time::Millis;

/// What a plugin promises of itself, beyond InfraKit's own contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promises {
    pub class: PluginClass,
    /// After how long an instance that was made is surely listed; none when it does not say.
    pub lists_within: Option<Millis>,
}

/// What can be done about a call whose answer was lost (ha-raft §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PluginClass {
    /// Classes A and B: a repeated token, or a name that is unique, makes no second instance.
    Dedupes,
    /// Class C: its tags come with the instance, and a listing shows it within a time. Also whoever says
    /// nothing of itself.
    #[default]
    Lists,
    /// Class D: no listing proves that an instance was not made. Nothing is repeated but by an operator.
    Blind,
}

impl Promises {
    /// How far its listings may lag behind.
    pub fn listings_lag(&self) -> Millis {
        match self.class {
            PluginClass::Blind => Millis(u64::MAX),
            PluginClass::Dedupes | PluginClass::Lists => self.lists_within.unwrap_or(LISTINGS_LAG),
        }
    }
}
