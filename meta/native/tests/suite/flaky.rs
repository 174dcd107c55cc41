//! A store whose commits sometimes end in an unknown outcome.

use bytes::Bytes;
use firepond_core::Result;
use firepond_core::kv::{CommitOutcome, KvStore, KvTransaction, MemoryStore, RangeQuery};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of three commits one is made, one is made but said to be unknown, one is lost and unknown.
#[derive(Clone)]
pub struct FlakyStore {
    inner: MemoryStore,
    commits: Arc<AtomicU64>,
}

pub struct FlakyTransaction {
    inner: <MemoryStore as KvStore>::Transaction,
    commits: Arc<AtomicU64>,
}

impl FlakyStore {
    pub fn new(start: u64) -> FlakyStore {
        FlakyStore { inner: MemoryStore::new(), commits: Arc::new(AtomicU64::new(start)) }
    }
}

impl KvStore for FlakyStore {
    type Transaction = FlakyTransaction;

    fn begin(&self) -> FlakyTransaction {
        FlakyTransaction { inner: self.inner.begin(), commits: Arc::clone(&self.commits) }
    }
}

impl KvTransaction for FlakyTransaction {
    async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.get(key).await
    }

    async fn snapshot_get(&mut self, key: &[u8]) -> Result<Option<Bytes>> {
        self.inner.snapshot_get(key).await
    }

    async fn get_range(&mut self, query: RangeQuery) -> Result<Vec<(Bytes, Bytes)>> {
        self.inner.get_range(query).await
    }

    fn add_read_conflict_key(&mut self, key: &[u8]) {
        self.inner.add_read_conflict_key(key);
    }

    fn add_read_conflict_range(&mut self, range: Range<Vec<u8>>) {
        self.inner.add_read_conflict_range(range);
    }

    fn add_write_conflict_key(&mut self, key: &[u8]) {
        self.inner.add_write_conflict_key(key);
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.inner.set(key, value);
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        self.inner.set_versionstamped_key(prefix, suffix, value);
    }

    fn clear(&mut self, key: &[u8]) {
        self.inner.clear(key);
    }

    fn clear_range(&mut self, range: Range<Vec<u8>>) {
        self.inner.clear_range(range);
    }

    async fn commit(self) -> Result<CommitOutcome> {
        match self.commits.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => self.inner.commit().await,
            1 => {
                self.inner.commit().await?;
                Ok(CommitOutcome::MaybeCommitted)
            }
            _ => Ok(CommitOutcome::MaybeCommitted),
        }
    }
}
