//! How many bytes of request bodies a listener holds at a time, over all its connections.
//!
//! Why beside the buffer pool: bodies are small and decoded from ordinary memory, but a batch may
//! be up to 4 MiB, and many peers may send many. Small bodies, all that replicas send each other,
//! are bounded by the credits alone, so that work which was begun can always end.
//! Invariant: large bodies in flight never exceed the limit; each charge is given back once.

use crate::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bodies up to this size are not charged.
const SMALL_BYTES: usize = 64 << 10;
/// Large bodies in flight at a listener.
const LIMIT_BYTES: usize = 64 << 20;

/// The room of one listener. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Bodies(Arc<AtomicUsize>);

/// A body in flight; gives its room back when dropped.
pub(super) struct BodyCharge {
    bodies: Bodies,
    len: usize,
}

impl Bodies {
    /// Takes room for a body.
    ///
    /// # Errors
    /// `PeerOverloaded` when large bodies fill the room.
    pub(super) fn charge(&self, len: usize) -> Result<BodyCharge> {
        let len = if len <= SMALL_BYTES { 0 } else { len };
        let before = self.0.fetch_add(len, Ordering::Relaxed);
        let charge = BodyCharge { bodies: self.clone(), len };
        if before + len > LIMIT_BYTES {
            return Err(Error::new(ErrorKind::PeerOverloaded, "no room for the request's body")
                .with("body_bytes", len));
        }
        Ok(charge)
    }
}

impl Drop for BodyCharge {
    fn drop(&mut self) {
        self.bodies.0.fetch_sub(self.len, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the bound holds, refusals take nothing, small bodies always pass. Oracle: charges.
    #[test]
    fn large_bodies_are_bounded() {
        let bodies = Bodies::default();
        let mut held = Vec::new();
        for _ in 0..LIMIT_BYTES / (4 << 20) {
            held.push(bodies.charge(4 << 20).expect("room"));
        }
        let refused = bodies.charge(4 << 20).err().expect("full");
        assert_eq!(refused.kind(), ErrorKind::PeerOverloaded);
        assert!(bodies.charge(SMALL_BYTES).is_ok());
        held.pop();
        assert!(bodies.charge(4 << 20).is_ok());
    }
}
