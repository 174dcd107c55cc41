//! Randomness: from the operating system, or from a seed that a test gave this thread.

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use std::cell::RefCell;

thread_local! {
    static GENERATOR: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// A uniformly random number.
pub fn u64() -> u64 {
    GENERATOR.with_borrow_mut(|slot| slot.get_or_insert_with(SmallRng::from_os_rng).next_u64())
}

/// A uniformly random number below `bound`, which is at least 1.
pub fn below(bound: u64) -> u64 {
    assert!(bound > 0, "nothing is below 0");
    ((u128::from(u64()) * u128::from(bound)) >> 64) as u64
}

/// Makes this thread's randomness a function of the seed. For simulations.
pub fn seed_thread(seed: u64) {
    GENERATOR.set(Some(SmallRng::seed_from_u64(seed)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the same seed gives the same numbers, within the bound. Oracle: two runs.
    #[test]
    fn seeded_numbers_repeat() {
        let run = || {
            seed_thread(5);
            (0..50).map(|_| below(10)).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        assert!(run().iter().all(|value| *value < 10));
    }
}
