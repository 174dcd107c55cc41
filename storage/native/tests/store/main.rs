//! Tests of the chunk store through its public face.
#![expect(clippy::print_stderr, reason = "a killed child reports on it, and measurements")]

mod basics;
mod compact;
mod crash;
mod fixture;
mod holes;
mod kill;
mod limits;
mod model;
mod scale;
mod space;
