//! What is broken at the moment, and when it works again.

use tokio::time::Instant;

pub(crate) struct Damage {
    /// Managers that start again, and when.
    pub(crate) dead: Vec<(usize, Instant)>,
    /// When lines, the provider and whoever is frozen are well again.
    pub(crate) healed_at: Instant,
}

impl Damage {
    pub(crate) fn none() -> Self {
        Self { dead: Vec::new(), healed_at: Instant::now() }
    }

    /// Whether everything works by now.
    pub(crate) fn is_over(&self) -> bool {
        self.dead.is_empty() && self.healed_at <= Instant::now()
    }

    /// The managers that start again by now.
    pub(crate) fn back(&mut self, now: Instant) -> Vec<usize> {
        self.dead.extract_if(.., |(_, at)| *at <= now).map(|(node, _)| node).collect()
    }
}
