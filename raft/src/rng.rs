//! Random numbers that a simulation can repeat: on a seeded thread they follow from the seed.

use std::cell::RefCell;
use std::convert::Infallible;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng, TryRng};

thread_local! {
    static SEEDED: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// Seeds the generator of this thread.
pub fn seed(seed: u64) {
    SEEDED.with(|rng| *rng.borrow_mut() = Some(SmallRng::seed_from_u64(seed)));
}

/// A number from `low` to `high`, both included.
pub fn between(low: u64, high: u64) -> u64 {
    Source.random_range(low..=high)
}

/// A unique random number.
pub fn unique() -> u128 {
    Source.random()
}

/// Uses the seeded generator of this thread, or else that of the system.
pub(crate) struct Source;

impl TryRng for Source {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(draw(|rng| rng.next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(draw(|rng| rng.next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        draw(|rng| rng.fill_bytes(bytes));
        Ok(())
    }
}

fn draw<T>(with: impl FnOnce(&mut dyn Rng) -> T) -> T {
    SEEDED.with(|seeded| match seeded.borrow_mut().as_mut() {
        Some(rng) => with(rng),
        None => with(&mut rand::rng()),
    })
}
