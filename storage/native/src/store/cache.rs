//! The records in memory: those that are not durable yet, those that only the log has, and a
//! bounded cache of the others.
//!
//! Invariants: a look-up finds the newest visible record; a record that the index lacks stays until
//! it is written there; cached bytes stay below the bound, and the log bounds what only it has; a
//! record read from the index enters only if none was published in its shard meanwhile (else it may
//! be old already).
//! Locks: one mutex a shard, never two at a time, never held across I/O.

use super::committer::Place;
use super::log::Records;
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
    /// Visible, and not durable yet.
    unwritten: HashMap<ChunkKey, Arc<Record>>,
    /// In the log, and not in the index yet; none was removed.
    logged: HashMap<ChunkKey, Option<Arc<Record>>>,
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
    /// There is none, whatever the index says.
    Removed,
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
        if let Some(record) = shard.logged.get(key) {
            return record.clone().map_or(Found::Removed, Found::Record);
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

    /// Makes a record visible that is durable later.
    pub(super) fn publish_unwritten(&self, key: ChunkKey, record: Arc<Record>) {
        let mut shard = self.shard(&key);
        shard.generation += 1;
        // A cached older record stays hidden behind this one.
        shard.unwritten.insert(key, record);
    }

    /// A record is durable now, and visible if it was not before; none was removed.
    pub(super) fn mark_durable(
        &self,
        key: ChunkKey,
        record: Option<&Arc<Record>>,
        was_visible: bool,
        place: Place,
    ) {
        let mut shard = self.shard(&key);
        let newest = shard.unwritten.get(&key);
        if !was_visible {
            shard.generation += 1;
            shard.unwritten.remove(&key);
        } else if newest.zip(record).is_some_and(|(newest, record)| Arc::ptr_eq(newest, record)) {
            shard.unwritten.remove(&key);
        }
        match place {
            Place::Log => drop(shard.logged.insert(key, record.cloned())),
            Place::Index => {
                shard.logged.remove(&key);
                shard.settle(key, record.cloned(), self.shard_limit_bytes);
            }
        }
    }

    /// The index has these records now.
    pub(super) fn mark_indexed(&self, records: Records) {
        for (key, record) in records {
            let mut shard = self.shard(&key);
            let is_newest = match (shard.logged.get(&key), &record) {
                (Some(Some(newest)), Some(record)) => Arc::ptr_eq(newest, record),
                (Some(None), None) => true,
                _ => false,
            };
            if is_newest {
                shard.logged.remove(&key);
                shard.settle(key, record, self.shard_limit_bytes);
            }
        }
    }

    /// Whether the newest record of a chunk is not durable.
    pub(super) fn is_unwritten(&self, key: &ChunkKey) -> bool {
        self.shard(key).unwritten.contains_key(key)
    }

    /// The newest records that the index lacks and that a filter accepts; none was removed.
    pub(super) fn ahead_of_index(&self, accepts: impl Fn(&ChunkKey) -> bool) -> Records {
        let mut found = Records::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let logged = shard.logged.iter().filter(|(key, _)| accepts(key));
            found.extend(logged.map(|(key, record)| (*key, record.clone())));
            let unwritten = shard.unwritten.iter().filter(|(key, _)| accepts(key));
            found.extend(unwritten.map(|(key, record)| (*key, Some(Arc::clone(record)))));
        }
        found
    }

    /// Bytes of the cached records.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }
}

impl Shard {
    /// What the index has of a chunk.
    fn settle(&mut self, key: ChunkKey, record: Option<Arc<Record>>, limit_bytes: usize) {
        match record {
            Some(record) => self.insert(key, record, limit_bytes),
            None => self.remove(&key),
        }
    }

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

    fn publish_indexed(cache: &RecordCache, number: u8, record: Option<&Arc<Record>>) {
        cache.mark_durable(key(number), record, false, Place::Index);
    }

    /// Goal: the bound holds, and records that the index lacks survive it. Oracle: the byte count,
    /// `find`.
    #[test]
    fn bound_holds_and_what_the_index_lacks_stays() {
        let cache = RecordCache::new(16 * 1024);
        let record = Arc::new(Record::default());
        cache.publish_unwritten(key(255), Arc::clone(&record));
        cache.mark_durable(key(254), Some(&record), false, Place::Log);
        for number in 0..254 {
            publish_indexed(&cache, number, Some(&record));
        }
        assert!(cache.bytes() <= 16 * 1024 && cache.bytes() > 0);
        assert!(matches!(cache.find(&key(255)), Found::Record(_)));
        assert!(matches!(cache.find(&key(254)), Found::Record(_)));
        cache.mark_durable(key(255), Some(&record), true, Place::Index);
        cache.mark_indexed(Records::from([(key(254), Some(Arc::clone(&record)))]));
        assert!(cache.ahead_of_index(|_| true).is_empty());
    }

    /// Goal: the newest record is found, wherever it is, and a checkpoint of an older one changes
    /// nothing. Method: one chunk written, removed and written again around checkpoints. Oracle:
    /// `find`.
    #[test]
    fn newest_record_is_found() {
        let cache = RecordCache::new(1 << 20);
        let made = |updated_ns| Arc::new(Record { updated_ns, ..Record::default() });
        let (first, last) = (made(1), made(2));
        let finds = |wanted: &Arc<Record>| match cache.find(&key(1)) {
            Found::Record(found) => Arc::ptr_eq(&found, wanted),
            _ => false,
        };
        cache.mark_durable(key(1), Some(&first), false, Place::Log);
        assert!(finds(&first));
        cache.mark_durable(key(1), None, false, Place::Log);
        assert!(matches!(cache.find(&key(1)), Found::Removed));
        cache.mark_indexed(Records::from([(key(1), Some(Arc::clone(&first)))]));
        assert!(matches!(cache.find(&key(1)), Found::Removed), "the older one is no news");
        cache.publish_unwritten(key(1), Arc::clone(&last));
        cache.mark_indexed(Records::from([(key(1), None)]));
        assert!(finds(&last), "the removal is in the index, and a newer record is here");
        cache.mark_durable(key(1), Some(&last), true, Place::Log);
        cache.mark_indexed(Records::from([(key(1), Some(Arc::clone(&last)))]));
        assert!(finds(&last) && cache.bytes() > 0, "cached");
    }

    /// Goal: an old record never enters. Method: publish between look-up and offer. Oracle:
    /// refusal.
    #[test]
    fn late_offers_are_refused() {
        let cache = RecordCache::new(1 << 20);
        let Found::Unknown { generation } = cache.find(&key(1)) else { panic!("empty") };
        publish_indexed(&cache, 1, None);
        assert!(!cache.offer(key(1), &Arc::new(Record::default()), generation));
    }
}
