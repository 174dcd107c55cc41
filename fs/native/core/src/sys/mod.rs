//! The seam to the outside world: clock, randomness, disk, network, spawn.
//!
//! Why: product code uses nothing else (clippy's disallowed list says so), so that a simulated
//! world can run the code that ships. Time and tasks go through tokio, whose clock stands still and
//! jumps under `start_paused`; disks and networks are traits; randomness can be seeded per thread.
//! With the feature `simulation` a task may belong to a `machine`, which has its own clocks and can
//! be killed or frozen; without the feature that costs nothing.

#![expect(clippy::disallowed_methods, reason = "this is the seam")]

pub mod clock;
pub mod directory;
pub mod disk;
#[cfg(feature = "simulation")]
pub mod machine;
pub mod mistake;
pub mod net;
pub mod random;
pub mod task;
