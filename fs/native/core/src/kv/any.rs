//! The engine that a role was configured with, chosen at run time.

use crate::Result;
use crate::kv::embedded::EmbeddedStore;
use crate::kv::memory::MemoryStore;
use crate::kv::transaction::Transaction;
use crate::kv::{CommitOutcome, KvStore, KvTransaction, RangeQuery};
use bytes::Bytes;
use std::ops::Range;

/// Either engine.
#[derive(Clone)]
pub enum AnyStore {
    /// Forgets everything at the end of the process.
    Memory(MemoryStore),
    /// Durable in a directory.
    Embedded(EmbeddedStore),
}

impl AnyStore {
    /// Refuses further commits and waits until those that were accepted are answered.
    pub fn close(&self) {
        match self {
            AnyStore::Memory(_) => {}
            AnyStore::Embedded(store) => store.close(),
        }
    }
}

/// A transaction of either engine.
pub enum AnyTransaction {
    /// Of the memory engine.
    Memory(Transaction<MemoryStore>),
    /// Of the embedded engine.
    Embedded(Transaction<EmbeddedStore>),
}

/// Calls the same method of whichever transaction it is.
macro_rules! delegate {
    ($self:ident, $transaction:ident => $call:expr) => {
        match $self {
            AnyTransaction::Memory($transaction) => $call,
            AnyTransaction::Embedded($transaction) => $call,
        }
    };
}

impl AnyTransaction {
    /// The version of the state that this transaction reads.
    pub fn read_version(&self) -> u64 {
        delegate!(self, one => one.read_version())
    }
}

impl KvStore for AnyStore {
    type Transaction = AnyTransaction;

    fn begin(&self) -> AnyTransaction {
        match self {
            AnyStore::Memory(store) => AnyTransaction::Memory(store.begin()),
            AnyStore::Embedded(store) => AnyTransaction::Embedded(store.begin()),
        }
    }
}

impl KvTransaction for AnyTransaction {
    async fn get(&mut self, key: &[u8]) -> Result<Option<Bytes>> {
        delegate!(self, one => one.get(key).await)
    }

    async fn snapshot_get(&mut self, key: &[u8]) -> Result<Option<Bytes>> {
        delegate!(self, one => one.snapshot_get(key).await)
    }

    async fn get_range(&mut self, query: RangeQuery) -> Result<Vec<(Bytes, Bytes)>> {
        delegate!(self, one => one.get_range(query).await)
    }

    fn add_read_conflict_key(&mut self, key: &[u8]) {
        delegate!(self, one => one.add_read_conflict_key(key));
    }

    fn add_read_conflict_range(&mut self, range: Range<Vec<u8>>) {
        delegate!(self, one => one.add_read_conflict_range(range));
    }

    fn add_write_conflict_key(&mut self, key: &[u8]) {
        delegate!(self, one => one.add_write_conflict_key(key));
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        delegate!(self, one => one.set(key, value));
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        delegate!(self, one => one.set_versionstamped_key(prefix, suffix, value));
    }

    fn clear(&mut self, key: &[u8]) {
        delegate!(self, one => one.clear(key));
    }

    fn clear_range(&mut self, range: Range<Vec<u8>>) {
        delegate!(self, one => one.clear_range(range));
    }

    async fn commit(self) -> Result<CommitOutcome> {
        delegate!(self, one => one.commit().await)
    }
}
