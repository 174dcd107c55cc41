//! Ordered transactional key-value stores with FoundationDB's semantics.
//!
//! Why this shape: metadata is written as transactions over ordered keys, so that the store can be
//! embedded on a laptop and distributed on a cluster without a change above this trait.
//! Invariants: transactions are serialisable; a snapshot read adds no conflict; a read sees the
//! transaction's own writes; what a commit acknowledged survives a crash, and no transaction ever
//! reads what is not durable yet. Keys ≤ 4 KiB, values ≤ 100 KiB, a transaction ≤ 8 MiB.
//! Parts: `transaction` (shared by the engines) = `overlay` (own writes over a snapshot) + what was
//! read; `conflict` judges it at commit; `memory` and `embedded` are the engines, `any` chooses.

pub mod any;
pub mod conflict;
pub mod embedded;
pub mod memory;
pub mod overlay;
pub mod transaction;

pub use any::{AnyStore, AnyTransaction};
pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;
pub use transaction::{KEY_MAX_BYTES, TRANSACTION_MAX_BYTES, VALUE_MAX_BYTES};

use crate::Result;
use bytes::Bytes;
use std::future::Future;
use std::ops::Range;

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Durable, at this version; versions grow with commit order.
    Committed(u64),
    /// Nothing happened: something that was read has changed. Run the transaction again.
    Conflict,
    /// The store cannot say. Run the transaction again, with an idempotency key inside it.
    MaybeCommitted,
}

/// Which pairs a range read returns.
#[derive(Clone, Debug)]
pub struct RangeQuery {
    /// From `start` up to but not including `end`.
    pub keys: Range<Vec<u8>>,
    /// At most this many pairs; the conflict range then ends behind the last pair returned.
    pub limit: usize,
    /// From the end backwards.
    pub reverse: bool,
    /// Without adding a conflict range.
    pub snapshot: bool,
}

/// A store. Cloning is cheap; clones share the store.
pub trait KvStore: Clone + Send + Sync + 'static {
    /// Its transactions.
    type Transaction: KvTransaction;

    /// Begins a transaction that reads one consistent, durable state.
    fn begin(&self) -> Self::Transaction;
}

/// One transaction. Dropping it without `commit` forgets it.
pub trait KvTransaction: Send {
    /// The value of a key; adds the key to the read conflicts.
    fn get(&mut self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>>> + Send;
    /// The value of a key, without a conflict.
    fn snapshot_get(&mut self, key: &[u8]) -> impl Future<Output = Result<Option<Bytes>>> + Send;
    /// Pairs in key order (or reverse); adds the range that was looked at to the read conflicts.
    fn get_range(
        &mut self,
        query: RangeQuery,
    ) -> impl Future<Output = Result<Vec<(Bytes, Bytes)>>> + Send;
    /// Conflicts with whoever changes the key between our start and our commit.
    fn add_read_conflict_key(&mut self, key: &[u8]);
    /// Conflicts with whoever changes any key of the range.
    fn add_read_conflict_range(&mut self, range: Range<Vec<u8>>);
    /// Makes transactions that read the key conflict with us, though we do not change it.
    fn add_write_conflict_key(&mut self, key: &[u8]);
    /// Sets a key.
    fn set(&mut self, key: &[u8], value: &[u8]);
    /// Sets the key `prefix` + the commit's version as 8 big-endian bytes + `suffix`. This
    /// transaction does not see it, and it is applied after all its other writes.
    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]);
    /// Removes a key.
    fn clear(&mut self, key: &[u8]);
    /// Removes all keys of a range.
    fn clear_range(&mut self, range: Range<Vec<u8>>);
    /// Ends the transaction.
    ///
    /// # Errors
    /// `TransactionTooLarge`, `InvalidArgument` (an empty key), `DiskFull`: nothing was committed.
    /// `IoFailed`: the store refuses commits from then on; opening it again tells what is durable.
    fn commit(self) -> impl Future<Output = Result<CommitOutcome>> + Send;
}

/// The first key after every key that starts with `prefix`.
///
/// # Panics
/// When the prefix is empty or all 0xff: no such key exists.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xff) {
        end.pop();
    }
    let last = end.last_mut();
    *last.unwrap_or_else(|| panic!("a prefix of 0xff only has no end")) += 1;
    end
}
