//! The one transaction type of all engines: a snapshot, an overlay, and what to check at commit.
//!
//! Invariants: a read that this transaction's own writes answer adds no conflict; a range read with
//! a limit conflicts only up to the last pair it returned; limits are checked once, at commit, and
//! a transaction that breaks one commits nothing.

use crate::kv::conflict::ConflictSet;
use crate::kv::overlay::{Overlay, Snapshot};
use crate::kv::{CommitOutcome, KvTransaction, RangeQuery};
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::future::{Future, ready};
use std::ops::Range;

/// The longest key in bytes.
pub const KEY_MAX_BYTES: usize = 4 << 10;
/// The longest value in bytes.
pub const VALUE_MAX_BYTES: usize = 100 << 10;
/// Most bytes of keys, values and conflict keys of one transaction.
pub const TRANSACTION_MAX_BYTES: usize = 8 << 20;

/// What a transaction asks the engine to commit.
pub struct CommitIntent {
    /// The version that it read.
    pub read_version: u64,
    /// What must not have changed since.
    pub reads: ConflictSet,
    /// What others see as changed though it is not written.
    pub extra_writes: ConflictSet,
    /// What is written.
    pub overlay: Overlay,
    /// Keys, values and conflict keys in bytes.
    pub size_bytes: usize,
}

impl CommitIntent {
    /// All that others see as changed, once the version is known.
    pub fn write_conflicts(&self, version: u64) -> ConflictSet {
        let mut writes = self.extra_writes.clone();
        writes.keys.extend(self.overlay.writes.keys().cloned());
        writes.keys.extend(self.overlay.stamped.iter().map(|one| one.key(version)));
        let cleared = self.overlay.cleared.iter();
        writes.ranges.extend(cleared.map(|(start, end)| start.clone()..end.clone()));
        writes
    }
}

/// An engine: gives snapshots and commits intents.
pub trait Engine: Clone + Send + Sync + 'static {
    /// Its snapshots.
    type Snapshot: Snapshot;
    /// Commits, or says why not.
    fn commit(&self, intent: CommitIntent) -> impl Future<Output = Result<CommitOutcome>> + Send;
}

/// A transaction over any engine.
pub struct Transaction<E: Engine> {
    /// Before the engine, so that the last transaction closes its snapshot before the store.
    snapshot: E::Snapshot,
    engine: E,
    overlay: Overlay,
    reads: ConflictSet,
    extra_writes: ConflictSet,
    size_bytes: usize,
    refusal: Option<Error>,
}

impl<E: Engine> Transaction<E> {
    pub(super) fn new(engine: E, snapshot: E::Snapshot) -> Transaction<E> {
        Transaction {
            snapshot,
            engine,
            overlay: Overlay::default(),
            reads: ConflictSet::default(),
            extra_writes: ConflictSet::default(),
            size_bytes: 0,
            refusal: None,
        }
    }

    /// The version of the state that this transaction reads.
    pub fn read_version(&self) -> u64 {
        self.snapshot.version()
    }

    fn charge(&mut self, bytes: usize) {
        self.size_bytes = self.size_bytes.saturating_add(bytes);
    }

    /// Remembers the first broken limit; says whether the write may be kept.
    fn admit(&mut self, key_len: usize, value_len: usize) -> bool {
        let broken = if key_len == 0 {
            Some(Error::invalid("a key has at least one byte"))
        } else if key_len > KEY_MAX_BYTES {
            Some(too_large("key too long", key_len, KEY_MAX_BYTES))
        } else if value_len > VALUE_MAX_BYTES {
            Some(too_large("value too long", value_len, VALUE_MAX_BYTES))
        } else {
            None
        };
        let admitted = broken.is_none();
        self.refusal = self.refusal.take().or(broken);
        self.charge(key_len + value_len);
        // A transaction that is refused anyway must not go on growing.
        admitted && self.size_bytes <= TRANSACTION_MAX_BYTES
    }

    fn read(&self, key: &[u8]) -> Result<(Option<Bytes>, bool)> {
        if key.is_empty() || key.len() > KEY_MAX_BYTES {
            return Err(Error::invalid("a key has 1 to 4096 bytes").with("len", key.len()));
        }
        match self.overlay.get(key) {
            Some(own) => Ok((own, true)),
            None => Ok((self.snapshot.get(key)?, false)),
        }
    }

    fn read_range(&mut self, query: &RangeQuery) -> Result<Vec<(Bytes, Bytes)>> {
        let pairs = self.overlay.range(&self.snapshot, query)?;
        if !query.snapshot && query.limit > 0 {
            let mut seen = query.keys.clone();
            let last = pairs.last().filter(|_| pairs.len() == query.limit);
            if let Some((key, _)) = last {
                if query.reverse {
                    seen.start = key.to_vec();
                } else {
                    seen.end = [&key[..], &[0]].concat();
                }
            }
            self.add_read_conflict_range(seen);
        }
        Ok(pairs)
    }

    fn into_intent(self) -> Result<(E, CommitIntent)> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        if self.size_bytes > TRANSACTION_MAX_BYTES {
            let found = self.size_bytes;
            return Err(too_large("transaction too large", found, TRANSACTION_MAX_BYTES));
        }
        let intent = CommitIntent {
            read_version: self.snapshot.version(),
            reads: self.reads,
            extra_writes: self.extra_writes,
            overlay: self.overlay,
            size_bytes: self.size_bytes,
        };
        Ok((self.engine, intent))
    }
}

fn too_large(what: &str, found: usize, max: usize) -> Error {
    Error::new(ErrorKind::TransactionTooLarge, what).with("bytes", found).with("max", max)
}

impl<E: Engine> KvTransaction for Transaction<E> {
    fn get(&mut self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>>> + Send {
        let found = self.read(key).map(|(value, own)| {
            if !own {
                self.add_read_conflict_key(key);
            }
            value
        });
        ready(found)
    }

    fn snapshot_get(&mut self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>>> + Send {
        ready(self.read(key).map(|(value, _)| value))
    }

    fn get_range(
        &mut self,
        query: RangeQuery,
    ) -> impl Future<Output = Result<Vec<(Bytes, Bytes)>>> + Send {
        ready(self.read_range(&query))
    }

    fn add_read_conflict_key(&mut self, key: &[u8]) {
        self.charge(key.len());
        self.reads.keys.push(Bytes::copy_from_slice(key));
    }

    fn add_read_conflict_range(&mut self, range: Range<Vec<u8>>) {
        self.charge(range.start.len() + range.end.len());
        self.reads.ranges.push(Bytes::from(range.start)..Bytes::from(range.end));
    }

    fn add_write_conflict_key(&mut self, key: &[u8]) {
        self.charge(key.len());
        self.extra_writes.keys.push(Bytes::copy_from_slice(key));
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        if self.admit(key.len(), value.len()) {
            self.overlay.write(key, Some(Bytes::copy_from_slice(value)));
        }
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        if self.admit(prefix.len() + suffix.len() + size_of::<u64>(), value.len()) {
            self.overlay.write_stamped(prefix, suffix, value);
        }
    }

    fn clear(&mut self, key: &[u8]) {
        if self.admit(key.len(), 0) {
            self.overlay.write(key, None);
        }
    }

    fn clear_range(&mut self, range: Range<Vec<u8>>) {
        self.charge(range.start.len() + range.end.len());
        self.overlay.clear_range(range);
    }

    async fn commit(self) -> Result<CommitOutcome> {
        let (engine, intent) = self.into_intent()?;
        if intent.overlay.is_empty() && intent.extra_writes.is_empty() {
            // What it read is one state of the past: serialisable at its read version.
            return Ok(CommitOutcome::Committed(intent.read_version));
        }
        engine.commit(intent).await
    }
}
