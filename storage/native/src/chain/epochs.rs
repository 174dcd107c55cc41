//! When an update was taken, in epochs of the head: the stamps of `store::changes`.
//!
//! Why epochs and not a number per update: a stamp then changes a chunk's entry once in some
//! seconds and not with every write, and that is as fine as a resync needs.
//! Invariants: under one chain version the epoch only grows, and a later chain version has later
//! stamps; an update that takes its stamp after an epoch was closed gets a later one. So, once
//! every update that held its chunk's lock when the epoch was closed has ended and nothing of it is
//! pending, every update up to that stamp has ended (`resync::settled`).
//! Lock: `inner`, held for an assignment.

use firepond_core::ids::{ChainVersion, ChangeStamp};
use parking_lot::Mutex;

/// The epochs of one target, used while it is the head.
#[derive(Debug)]
pub struct Epochs {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    now: ChangeStamp,
    /// Something may have begun in this epoch.
    used: bool,
}

impl Epochs {
    /// Epochs after what the target is known to be complete through.
    pub fn new(complete_through: ChangeStamp) -> Epochs {
        let now = ChangeStamp(complete_through.0 + 1);
        Epochs { inner: Mutex::new(Inner { now, used: true }) }
    }

    /// The stamp of an update that begins now. Its chunk's lock is held.
    pub fn take(&self, chain_version: ChainVersion) -> ChangeStamp {
        let mut inner = self.inner.lock();
        inner.follow(chain_version);
        inner.used = true;
        inner.now
    }

    /// Ends the epoch, if anything may have begun in it: what begins from now on has a later stamp.
    pub fn close(&self, chain_version: ChainVersion) -> Option<ChangeStamp> {
        let mut inner = self.inner.lock();
        inner.follow(chain_version);
        if !inner.used {
            return None;
        }
        let closed = inner.now;
        inner.now = ChangeStamp(closed.0 + 1);
        inner.used = false;
        Some(closed)
    }

    /// The closed epoch is not known to have ended everywhere: a later one will say so.
    pub fn retry(&self) {
        self.inner.lock().used = true;
    }
}

impl Inner {
    fn follow(&mut self, chain_version: ChainVersion) {
        if chain_version > self.now.chain_version() {
            self.now = ChangeStamp::new(chain_version, 1);
            self.used = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: stamps only grow, also after a restart under the same chain version, and an idle epoch
    /// is not closed. Oracle: the order of the stamps.
    #[test]
    fn stamps_only_grow() {
        let epochs = Epochs::new(ChangeStamp::new(ChainVersion(3), 9));
        let mut last = epochs.take(ChainVersion(3));
        assert_eq!(last, ChangeStamp::new(ChainVersion(3), 10));
        for chain_version in [3, 3, 5, 5, 4, 6] {
            let closed = epochs.close(ChainVersion(chain_version));
            assert!(closed.is_none_or(|closed| closed >= last));
            let next = epochs.take(ChainVersion(chain_version));
            assert!(next > last && closed.is_none_or(|closed| closed < next));
            last = next;
        }
        assert_eq!(epochs.close(ChainVersion(6)), Some(last));
        assert_eq!(epochs.close(ChainVersion(6)), None);
        epochs.retry();
        assert!(epochs.close(ChainVersion(6)).is_some_and(|closed| closed > last));
    }
}
