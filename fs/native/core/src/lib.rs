//! What every native part of firepond shares: ids, errors, wire types, routing, buffers, the
//! transports, the transactional stores and the `sys` seam.
//!
//! Invariants: nothing here knows a service; arrows point down only (client → meta, storage →
//! core).

pub mod buffer;
pub mod checksum;
pub mod error;
mod error_kind;
pub mod ids;
pub mod kv;
pub mod layout;
pub mod payload;
pub mod peer;
pub mod routing;
pub mod sys;
pub mod transport;
pub mod watch;
pub mod wire;

pub use error::{Error, ErrorKind, Result, Retry};
