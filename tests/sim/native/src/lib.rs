//! The simulator: a seeded world that runs the code that ships, with every fault that
//! docs/faults.md names, and checkers that judge what clients saw.
//!
//! Read first: `plan` (what happens, a pure function of the seed), `world` (where it happens),
//! `history` (what clients saw), `checkers` (what must be true of it).

pub mod checkers;
pub mod history;
pub mod plan;
#[cfg(feature = "python")]
mod python;
#[cfg(feature = "python")]
mod python_plan;
pub mod workload;
pub mod world;
