//! A commit that cannot say whether it happened.

use crate::support::get;
use bytes::Bytes;
use firepond_core::Result;
use firepond_core::kv::{CommitOutcome, KvStore, KvTransaction, RangeQuery};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A store whose commits often answer "maybe": half of these happened, half did not.
#[derive(Clone)]
struct MaybeStore<S: KvStore> {
    inner: S,
    commit_count: Arc<AtomicU64>,
}

struct MaybeTransaction<T: KvTransaction> {
    inner: T,
    commit_count: Arc<AtomicU64>,
}

impl<S: KvStore> KvStore for MaybeStore<S> {
    type Transaction = MaybeTransaction<S::Transaction>;

    fn begin(&self) -> Self::Transaction {
        let commit_count = Arc::clone(&self.commit_count);
        MaybeTransaction { inner: self.inner.begin(), commit_count }
    }
}

impl<T: KvTransaction> KvTransaction for MaybeTransaction<T> {
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
        match self.commit_count.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Ok(CommitOutcome::MaybeCommitted),
            1 => match self.inner.commit().await? {
                CommitOutcome::Committed(_) => Ok(CommitOutcome::MaybeCommitted),
                other => Ok(other),
            },
            _ => self.inner.commit().await,
        }
    }
}

/// Goal: the recipe of the trait makes "maybe" harmless. Method: increments, each with its own
/// idempotency key, retried until the store is sure. Oracle: the exact sum, although commits
/// happened whose answer was "maybe".
pub(crate) async fn retry_with_an_idempotency_key_is_exactly_once<S: KvStore>(store: S) {
    const INCREMENT_COUNT: u64 = 30;
    let store = MaybeStore { inner: store, commit_count: Arc::default() };
    let mut found_done_count = 0;
    for number in 0..INCREMENT_COUNT {
        let request = format!("request/{number}");
        loop {
            let mut transaction = store.begin();
            if get(&mut transaction, &request).await.is_some() {
                found_done_count += 1;
                break;
            }
            let value = get(&mut transaction, "counter").await;
            let value: u64 = value.map_or(0, |text| text.parse().expect("a number"));
            transaction.set(b"counter", (value + 1).to_string().as_bytes());
            transaction.set(request.as_bytes(), b"done");
            if let CommitOutcome::Committed(_) = transaction.commit().await.expect("answers") {
                break;
            }
        }
    }
    assert!(found_done_count > 0, "some commits must have happened in spite of the answer");
    let counted = get(&mut store.begin(), "counter").await;
    assert_eq!(counted, Some(INCREMENT_COUNT.to_string()));
}
