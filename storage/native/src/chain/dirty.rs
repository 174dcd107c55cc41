//! Chunks that may have a pending version: one look here says that a read is clean.
//!
//! Invariants: a chunk is in the set before its pending version can exist, and leaves it only when
//! the store has none, under the chunk's lock. Locks: one per shard, held for one operation.

use super::locks::shard_index;
use firepond_core::ids::ChunkId;
use parking_lot::RwLock;
use std::collections::HashSet;

const SHARD_COUNT: usize = 64;

/// The dirty chunks of one target.
pub struct DirtyChunks([RwLock<HashSet<ChunkId>>; SHARD_COUNT]);

impl Default for DirtyChunks {
    fn default() -> DirtyChunks {
        DirtyChunks(std::array::from_fn(|_| RwLock::default()))
    }
}

impl DirtyChunks {
    /// Marks a chunk.
    pub fn insert(&self, chunk: ChunkId) {
        self.0[shard_index(&chunk)].write().insert(chunk);
    }

    /// Unmarks a chunk.
    pub fn remove(&self, chunk: ChunkId) {
        self.0[shard_index(&chunk)].write().remove(&chunk);
    }

    /// Whether the chunk may have a pending version.
    pub fn contains(&self, chunk: ChunkId) -> bool {
        self.0[shard_index(&chunk)].read().contains(&chunk)
    }

    /// How many are marked.
    pub fn count(&self) -> usize {
        self.0.iter().map(|shard| shard.read().len()).sum()
    }
}
