//! The records in memory: those that the index does not have yet, and a bounded cache of the
//! others.
//!
//! Invariants: a look-up finds the newest visible record; a record that the index lacks stays until
//! it is written; cached bytes stay below the bound; a record read from the index enters only if
//! none was published in its shard meanwhile (else it may be old already).
//! Locks: one mutex a shard, never two at a time, never held across I/O.

use super::record::{ChunkKey, Record};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

const SHARD_COUNT: usize = 16;

/// Records by chunk.
pub(super) struct RecordCache {
    shards: [Mutex<Shard>; SHARD_COUNT],
    shard_limit_bytes: usize,
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    /// Grows with each publication.
    generation: u64,
    /// Visible, and not in the index yet.
    unwritten: HashMap<ChunkKey, Arc<Record>>,
    cached: HashMap<ChunkKey, Entry>,
    /// Clock order of the cached ones.
    order: VecDeque<ChunkKey>,
    bytes: usize,
}

struct Entry {
    record: Arc<Record>,
    bytes: usize,
    is_used: bool,
}

/// What a look-up in memory gives.
pub(super) enum Found {
    Record(Arc<Record>),
    /// Look in the index, and offer what is there with this number.
    Unknown {
        generation: u64,
    },
}

impl RecordCache {
    pub(super) fn new(limit_bytes: usize) -> RecordCache {
        RecordCache {
            shards: std::array::from_fn(|_| Mutex::default()),
            shard_limit_bytes: limit_bytes / SHARD_COUNT,
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, key: &ChunkKey) -> MutexGuard<'_, Shard> {
        self.shards[self.hasher.hash_one(key) as usize % SHARD_COUNT].lock()
    }

    pub(super) fn find(&self, key: &ChunkKey) -> Found {
        let mut shard = self.shard(key);
        if let Some(record) = shard.unwritten.get(key) {
            return Found::Record(Arc::clone(record));
        }
        if let Some(entry) = shard.cached.get_mut(key) {
            entry.is_used = true;
            return Found::Record(Arc::clone(&entry.record));
        }
        Found::Unknown { generation: shard.generation }
    }

    /// Keeps a record that was read from the index; false when it may be old by now.
    pub(super) fn offer(&self, key: ChunkKey, record: &Arc<Record>, generation: u64) -> bool {
        let mut shard = self.shard(&key);
        if shard.generation != generation {
            return false;
        }
        shard.insert(key, Arc::clone(record), self.shard_limit_bytes);
        true
    }

    /// Makes a record visible that the index has already.
    pub(super) fn publish_written(&self, key: ChunkKey, record: Option<Arc<Record>>) {
        let mut shard = self.shard(&key);
        shard.generation += 1;
        shard.unwritten.remove(&key);
        match record {
            Some(record) => shard.insert(key, record, self.shard_limit_bytes),
            None => shard.remove(&key),
        }
    }

    /// Makes a record visible that the index gets later.
    pub(super) fn publish_unwritten(&self, key: ChunkKey, record: Arc<Record>) {
        let mut shard = self.shard(&key);
        shard.generation += 1;
        // A cached older record stays hidden behind this one, and is replaced by `mark_written`.
        shard.unwritten.insert(key, record);
    }

    /// The index has this record now.
    pub(super) fn mark_written(&self, key: ChunkKey, record: &Arc<Record>) {
        let mut shard = self.shard(&key);
        let is_newest = shard.unwritten.get(&key).is_some_and(|other| Arc::ptr_eq(other, record));
        if is_newest {
            shard.unwritten.remove(&key);
            shard.insert(key, Arc::clone(record), self.shard_limit_bytes);
        }
    }

    /// Whether the index lacks the newest record of a chunk.
    pub(super) fn is_unwritten(&self, key: &ChunkKey) -> bool {
        self.shard(key).unwritten.contains_key(key)
    }

    /// The records that the index lacks and that a filter accepts.
    pub(super) fn unwritten(
        &self,
        accepts: impl Fn(&ChunkKey) -> bool,
    ) -> Vec<(ChunkKey, Arc<Record>)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let pairs = shard.unwritten.iter().filter(|(key, _)| accepts(key));
            found.extend(pairs.map(|(key, record)| (*key, Arc::clone(record))));
        }
        found
    }

    /// Bytes of the cached records.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }
}

impl Shard {
    fn insert(&mut self, key: ChunkKey, record: Arc<Record>, limit_bytes: usize) {
        let bytes = record.memory_bytes();
        if bytes > limit_bytes {
            self.remove(&key);
            return;
        }
        match self.cached.get_mut(&key) {
            Some(entry) => {
                self.bytes = self.bytes - entry.bytes + bytes;
                *entry = Entry { record, bytes, is_used: true };
            }
            None => {
                self.cached.insert(key, Entry { record, bytes, is_used: false });
                self.order.push_back(key);
                self.bytes += bytes;
            }
        }
        self.evict(limit_bytes);
    }

    fn remove(&mut self, key: &ChunkKey) {
        if let Some(entry) = self.cached.remove(key) {
            self.bytes -= entry.bytes;
            self.order.retain(|other| other != key);
        }
    }

    /// Second chance: what was used since the hand last passed stays for another round.
    fn evict(&mut self, limit_bytes: usize) {
        while self.bytes > limit_bytes {
            let Some(key) = self.order.pop_front() else { return };
            let Some(entry) = self.cached.get_mut(&key) else { continue };
            if std::mem::take(&mut entry.is_used) {
                self.order.push_back(key);
            } else if let Some(entry) = self.cached.remove(&key) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::{ChunkId, TargetId};

    fn key(number: u8) -> ChunkKey {
        ChunkKey { target: TargetId(1), chunk: ChunkId([number; 16]) }
    }

    /// Goal: the bound holds and unwritten records survive it. Oracle: the byte count, `find`.
    #[test]
    fn bound_holds_and_unwritten_stay() {
        let cache = RecordCache::new(16 * 1024);
        let record = Arc::new(Record::default());
        cache.publish_unwritten(key(255), Arc::clone(&record));
        for number in 0..255 {
            cache.publish_written(key(number), Some(Arc::clone(&record)));
        }
        assert!(cache.bytes() <= 16 * 1024 && cache.bytes() > 0);
        assert!(matches!(cache.find(&key(255)), Found::Record(_)));
        cache.mark_written(key(255), &record);
        assert!(cache.unwritten(|_| true).is_empty());
    }

    /// Goal: an old record never enters. Method: publish between look-up and offer. Oracle:
    /// refusal.
    #[test]
    fn late_offers_are_refused() {
        let cache = RecordCache::new(1 << 20);
        let Found::Unknown { generation } = cache.find(&key(1)) else { panic!("empty") };
        cache.publish_written(key(1), None);
        assert!(!cache.offer(key(1), &Arc::new(Record::default()), generation));
    }
}
