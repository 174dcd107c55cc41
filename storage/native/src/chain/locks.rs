//! One lock per chunk, first come first served.
//!
//! Why our own: locks exist only while somebody has or wants them, their number and their queues
//! are bounded, and a waiter that goes away is passed over.
//! Invariants: one holder per chunk; waiters get the lock in the order in which they asked.
//! Locks: one mutex per shard, never held across an await.

use firepond_core::ids::ChunkId;
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

const SHARD_COUNT: usize = 64;
/// Waiters of one chunk; more are refused.
const WAITERS_MAX_COUNT: usize = 256;

type Waiters = VecDeque<oneshot::Sender<ChunkGuard>>;
type Shard = Mutex<HashMap<ChunkId, Waiters>>;

/// The chunk locks of one target. Cloning shares them.
#[derive(Clone)]
pub struct ChunkLocks(Arc<[Shard; SHARD_COUNT]>);

/// The right to change a chunk, until dropped.
pub struct ChunkGuard {
    locks: ChunkLocks,
    chunk: ChunkId,
}

impl Default for ChunkLocks {
    fn default() -> ChunkLocks {
        ChunkLocks(Arc::new(std::array::from_fn(|_| Shard::default())))
    }
}

/// Which of 64 shards a chunk belongs to: its low bytes differ between neighbours.
pub(super) fn shard_index(chunk: &ChunkId) -> usize {
    let [.., high, low] = chunk.0;
    (usize::from(low) ^ usize::from(high) ^ usize::from(chunk.0[11])) % SHARD_COUNT
}

impl ChunkLocks {
    /// Waits for the lock of a chunk.
    ///
    /// # Errors
    /// `PeerOverloaded` when too many wait already.
    pub async fn lock(&self, chunk: ChunkId) -> Result<ChunkGuard> {
        let receiver = {
            let mut held = self.0[shard_index(&chunk)].lock();
            let Some(waiters) = held.get_mut(&chunk) else {
                held.insert(chunk, Waiters::new());
                return Ok(ChunkGuard { locks: self.clone(), chunk });
            };
            if waiters.len() >= WAITERS_MAX_COUNT {
                return Err(Error::new(ErrorKind::PeerOverloaded, "too many updates of one chunk")
                    .with("chunk", chunk));
            }
            let (sender, receiver) = oneshot::channel();
            waiters.push_back(sender);
            receiver
        };
        receiver.await.map_err(|_| Error::internal("a chunk lock was lost"))
    }

    /// The chunks whose locks are held now, in order.
    pub fn held(&self) -> Vec<ChunkId> {
        let keys = |shard: &Shard| shard.lock().keys().copied().collect::<Vec<_>>();
        let mut held: Vec<ChunkId> = self.0.iter().flat_map(keys).collect();
        held.sort_unstable();
        held
    }

    /// Locks held now.
    pub fn held_count(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl Drop for ChunkGuard {
    fn drop(&mut self) {
        let next = {
            let mut held = self.locks.0[shard_index(&self.chunk)].lock();
            let next = held.get_mut(&self.chunk).and_then(VecDeque::pop_front);
            if next.is_none() {
                held.remove(&self.chunk);
            }
            next
        };
        if let Some(next) = next {
            // If the waiter is gone, the guard comes back, is dropped, and passes the lock on.
            let guard = ChunkGuard { locks: self.locks.clone(), chunk: self.chunk };
            drop(next.send(guard));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::{ChunkIndex, InodeId};

    fn chunk(index: u32) -> ChunkId {
        ChunkId::file(InodeId(1), ChunkIndex(index))
    }

    /// Goal: first come first served, and others do not wait. Oracle: the order of the grants.
    #[tokio::test]
    async fn fifo_per_chunk() {
        let locks = ChunkLocks::default();
        let first = locks.lock(chunk(1)).await.expect("free");
        let (log, mut granted) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        for number in 0..5 {
            let (locks, log) = (locks.clone(), log.clone());
            tasks.push(tokio::spawn(async move {
                let _guard = locks.lock(chunk(1)).await.expect("granted");
                log.send(number).expect("open");
            }));
            tokio::task::yield_now().await;
        }
        drop(locks.lock(chunk(2)).await.expect("another chunk is free"));
        assert!(granted.try_recv().is_err());
        drop(first);
        for expected in 0..5 {
            assert_eq!(granted.recv().await, Some(expected));
        }
        for task in tasks {
            task.await.expect("ends");
        }
        assert_eq!(locks.held_count(), 0);
    }

    /// Goal: a waiter that went away does not keep the lock. Oracle: the next one gets it.
    #[tokio::test]
    async fn gone_waiters_are_passed_over() {
        let locks = ChunkLocks::default();
        let first = locks.lock(chunk(1)).await.expect("free");
        let gone = tokio::spawn({
            let locks = locks.clone();
            async move { locks.lock(chunk(1)).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        gone.abort();
        let last = tokio::spawn({
            let locks = locks.clone();
            async move { locks.lock(chunk(1)).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        drop(first);
        last.await.expect("ends").expect("granted");
        assert_eq!(locks.held_count(), 0);
    }
}
