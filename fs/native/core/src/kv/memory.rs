//! The engine for tests and simulation: all versions in one ordered map.
//!
//! Why: it is the oracle that the embedded engine is compared with, and it has no thread, no clock
//! and no randomness, so that a simulation that uses it replays exactly.
//! Invariants: a key's versions are in increasing order; a version that a living transaction may
//! read is kept; `garbage` names every key that has a version to drop. Lock: one mutex, never held
//! across an await.

use crate::Result;
use crate::kv::conflict::Resolver;
use crate::kv::overlay::{Snapshot, Visitor};
use crate::kv::transaction::{CommitIntent, Engine, Transaction};
use crate::kv::{CommitOutcome, KvStore};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, ready};
use std::ops::{Bound, Range};
use std::sync::Arc;

/// Bytes of recent writes that the resolver remembers.
const CONFLICT_WINDOW_BYTES: usize = 32 << 20;

/// A store in memory. Cloning is cheap; clones share the store.
#[derive(Clone)]
pub struct MemoryStore(Arc<Mutex<State>>);

struct State {
    version: u64,
    /// Per key its values by version; `None` is a removal.
    keys: BTreeMap<Bytes, Vec<(u64, Option<Bytes>)>>,
    resolver: Resolver,
    /// How many living transactions read each version.
    readers: BTreeMap<u64, usize>,
    /// Keys with an older version or a removal, by the version that made it superfluous.
    garbage: VecDeque<(u64, Bytes)>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore(Arc::new(Mutex::new(State {
            version: 0,
            keys: BTreeMap::new(),
            resolver: Resolver::new(0, CONFLICT_WINDOW_BYTES),
            readers: BTreeMap::new(),
            garbage: VecDeque::new(),
        })))
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl KvStore for MemoryStore {
    type Transaction = Transaction<MemoryStore>;

    fn begin(&self) -> Transaction<MemoryStore> {
        let mut state = self.0.lock();
        let version = state.version;
        *state.readers.entry(version).or_insert(0) += 1;
        let snapshot = MemorySnapshot { state: Arc::clone(&self.0), version };
        Transaction::new(self.clone(), snapshot)
    }
}

impl Engine for MemoryStore {
    type Snapshot = MemorySnapshot;

    fn commit(&self, intent: CommitIntent) -> impl Future<Output = Result<CommitOutcome>> + Send {
        ready(Ok(self.0.lock().commit(&intent)))
    }
}

impl State {
    fn commit(&mut self, intent: &CommitIntent) -> CommitOutcome {
        if self.resolver.conflicts(&intent.reads, intent.read_version) {
            return CommitOutcome::Conflict;
        }
        let version = self.version + 1;
        self.resolver.record(version, intent.write_conflicts(version));
        for (start, end) in &intent.overlay.cleared {
            let inside = (Bound::Included(start.clone()), Bound::Excluded(end.clone()));
            let found: Vec<Bytes> = self.keys.range(inside).map(|(key, _)| key.clone()).collect();
            found.iter().for_each(|key| self.put(version, key, None));
        }
        for (key, value) in &intent.overlay.writes {
            self.put(version, key, value.clone());
        }
        for stamped in &intent.overlay.stamped {
            self.put(version, &stamped.key(version), Some(stamped.value.clone()));
        }
        self.version = version;
        self.collect();
        CommitOutcome::Committed(version)
    }

    fn put(&mut self, version: u64, key: &Bytes, value: Option<Bytes>) {
        let versions = self.keys.entry(key.clone()).or_default();
        if versions.last().is_some_and(|(newest, _)| *newest == version) {
            versions.pop();
        }
        let superfluous = !versions.is_empty() || value.is_none();
        versions.push((version, value));
        if superfluous {
            self.garbage.push_back((version, key.clone()));
        }
    }

    /// Drops what no living or future transaction can read.
    fn collect(&mut self) {
        let oldest = self.readers.first_key_value().map_or(self.version, |(version, _)| *version);
        while self.garbage.front().is_some_and(|(version, _)| *version <= oldest) {
            let Some((_, key)) = self.garbage.pop_front() else { return };
            let Some(versions) = self.keys.get_mut(&key) else { continue };
            let readable = versions.partition_point(|(version, _)| *version <= oldest);
            versions.drain(..readable.saturating_sub(1));
            let removed =
                versions.first().is_some_and(|(at, value)| *at <= oldest && value.is_none());
            if removed {
                versions.remove(0);
            }
            if versions.is_empty() {
                self.keys.remove(&key);
            }
        }
    }
}

/// One state of the store, kept readable while it lives.
pub struct MemorySnapshot {
    state: Arc<Mutex<State>>,
    version: u64,
}

impl Snapshot for MemorySnapshot {
    fn version(&self) -> u64 {
        self.version
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.state.lock().keys.get(key).and_then(|versions| visible(versions, self.version)))
    }

    fn scan(&self, keys: Range<&[u8]>, reverse: bool, visit: &mut Visitor<'_>) -> Result<()> {
        let state = self.state.lock();
        let bounds = (Bound::Included(keys.start), Bound::Excluded(keys.end));
        let mut range = state.keys.range::<[u8], _>(bounds);
        while let Some((key, versions)) = if reverse { range.next_back() } else { range.next() } {
            let Some(value) = visible(versions, self.version) else { continue };
            if visit(key.clone(), value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Some(count) = state.readers.get_mut(&self.version) {
            *count -= 1;
            if *count == 0 {
                state.readers.remove(&self.version);
                state.collect();
            }
        }
    }
}

fn visible(versions: &[(u64, Option<Bytes>)], at: u64) -> Option<Bytes> {
    let count = versions.partition_point(|(version, _)| *version <= at);
    versions[..count].last().and_then(|(_, value)| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::KvTransaction;

    /// Goal: memory follows the live data. Method: overwrite and remove while a reader holds on,
    /// then let it go. Oracle: the reader's value; then the number of versions that are left.
    #[tokio::test]
    async fn old_versions_go_with_their_readers() {
        let store = MemoryStore::new();
        let write = async |value: Option<&[u8]>| {
            let mut transaction = store.begin();
            match value {
                Some(value) => transaction.set(b"key", value),
                None => transaction.clear(b"key"),
            }
            transaction.commit().await.expect("commits");
        };
        write(Some(b"1")).await;
        let mut reader = store.begin();
        write(Some(b"2")).await;
        write(Some(b"3")).await;
        write(None).await;
        assert_eq!(reader.get(b"key").await.expect("reads").as_deref(), Some(&b"1"[..]));
        drop(reader);
        assert!(store.0.lock().keys.is_empty());
        assert!(store.0.lock().garbage.is_empty());
    }
}
