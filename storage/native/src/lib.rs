//! The storage service: a chunk store per disk, chains of replicas over it.

pub mod chain;
pub mod resync;
pub mod scrub;
pub mod service;
pub mod store;
