//! What flavors say about instances.

use crate::time::Timestamp;

/// A flavor's word about an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Unknown,
    Healthy,
    Unhealthy,
}

/// What is known of one instance's health, by repeated asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSample {
    pub health: Health,
    /// Since when every answer was this one.
    pub since: Timestamp,
    /// How many answers in a row were this one.
    pub streak: u32,
    /// Why, when the flavor says.
    pub message: String,
}
