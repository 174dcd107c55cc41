//! Random tests of chains: clients at work, faults, and checkers of what the clients saw.

#![allow(clippy::allow_attributes, reason = "expect would fail where nothing is to be excused")]
#![allow(dead_code, reason = "the notes of a history are for who reads a failure")]
#![allow(missing_docs, unreachable_pub, reason = "a test's helper")]

pub mod audit;
pub mod check_content;
pub mod check_end;
pub mod check_order;
pub mod clients;
pub mod faults;
pub mod history;

/// Chunks that the clients work on.
pub const CHUNK_COUNT: u32 = 3;
