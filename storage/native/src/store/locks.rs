//! One lock a chunk, made when somebody needs it.
//!
//! Why not a fixed number of stripes: an update holds its lock while its payload arrives, and a
//! slow sender must not stop an unrelated chunk.
//! Invariants: a lock exists while somebody holds it or waits for it, not longer.
//! Locks: a chunk's lock is taken before every other lock of the store, and at most one a task.

use super::record::ChunkKey;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

type Slot = Arc<tokio::sync::Mutex<()>>;

/// The locks in use.
#[derive(Default)]
pub(super) struct ChunkLocks {
    slots: Mutex<HashMap<ChunkKey, Slot>>,
}

/// A chunk that is held, or waited for.
pub(super) struct ChunkGuard {
    locks: Arc<ChunkLocks>,
    key: ChunkKey,
    held: Option<OwnedMutexGuard<()>>,
}

impl ChunkLocks {
    /// Waits for a chunk.
    pub(super) async fn lock(self: &Arc<Self>, key: ChunkKey) -> ChunkGuard {
        let mut guard = ChunkGuard { locks: Arc::clone(self), key, held: None };
        let slot = self.slot(key);
        guard.held = Some(slot.lock_owned().await);
        guard
    }

    /// Takes a chunk if nobody has it.
    pub(super) fn try_lock(self: &Arc<Self>, key: ChunkKey) -> Option<ChunkGuard> {
        let mut guard = ChunkGuard { locks: Arc::clone(self), key, held: None };
        guard.held = self.slot(key).try_lock_owned().ok();
        guard.held.is_some().then_some(guard)
    }

    fn slot(&self, key: ChunkKey) -> Slot {
        Arc::clone(self.slots.lock().entry(key).or_default())
    }
}

impl Drop for ChunkGuard {
    fn drop(&mut self) {
        self.held = None;
        let mut slots = self.locks.slots.lock();
        // Nobody can come to share the slot while the map is locked.
        if slots.get(&self.key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::{ChunkId, TargetId};

    /// Goal: holders exclude each other and leave nothing behind. Oracle: the map is empty.
    #[tokio::test]
    async fn locks_exclude_and_vanish() {
        let locks = Arc::new(ChunkLocks::default());
        let key = ChunkKey { target: TargetId(1), chunk: ChunkId([1; 16]) };
        let held = locks.lock(key).await;
        assert!(locks.try_lock(key).is_none());
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(5), locks.lock(key));
        assert!(waiting.await.is_err());
        drop(held);
        assert!(locks.try_lock(key).is_some());
        assert!(locks.slots.lock().is_empty());
    }
}
