//! Chain replication (CRAQ): updates travel from the head to the tail, acknowledgements back.
//!
//! How to read it: `role` (what a target may do), `admit` (what happens to an update under the
//! lock), `update` (its life as a machine), `drive` (that machine's runtime), `read` and `serve`
//! (which version is shown), `rollforward` (what is pending when a chain changes). The machines do
//! no I/O, so that a simulator drives the code that ships. Rules: docs/architecture.md.
//! Source: van Renesse and Schneider, "Chain Replication", OSDI 2004; Terrace and Freedman, "Object
//! Storage on CRAQ", USENIX ATC 2009.
//! Invariants: acknowledged means durable on every serving replica; a read never goes back in time;
//! a pending version is rolled forward and dropped only when all who may have it agree.

pub mod admit;
pub mod backend;
pub mod dirty;
mod drive;
pub mod epochs;
mod expel;
mod fetch;
pub mod findings;
pub(crate) mod forward;
pub mod job;
pub mod lease;
pub mod locks;
pub mod node;
pub mod read;
pub(crate) mod repair;
pub mod replica;
pub mod role;
pub mod rollforward;
pub(crate) mod run;
mod serve;
pub mod space;
pub mod target_state;
pub mod update;
#[cfg(test)]
mod update_tests;
pub mod values;

pub use backend::Backend;
pub use node::Node;
pub use replica::Replica;
pub use role::Standing;
