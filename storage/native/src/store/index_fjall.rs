//! The index on fjall, an LSM tree in pure Rust.
//!
//! Why: one append and one sync for a whole group of updates, point reads from a bloom-filtered
//! tree, ordered scans. Alternatives and their cost: docs/decisions.
//! Invariants: this store's committer is the only writer.

use super::index::{Change, ChunkIndex, Visit};
use firepond_core::{Error, ErrorKind, Result};
use fjall::config::BlockSizePolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

/// Bytes of blocks that the tree keeps in memory.
const BLOCK_CACHE_BYTES: u64 = 16 << 20;
/// Bytes of the log before the tree must flush.
const LOG_MAX_BYTES: u64 = 128 << 20;
/// Bytes of a table in memory.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// Bytes of a block on disk: a record of a whole chunk is 1.3 KiB.
const BLOCK_BYTES: u32 = 16 << 10;

/// An index in a directory of its own.
pub(super) struct FjallIndex {
    database: Database,
    records: Keyspace,
}

impl FjallIndex {
    pub(super) fn open(path: &Path) -> Result<FjallIndex> {
        let database = Database::builder(path)
            .cache_size(BLOCK_CACHE_BYTES)
            .max_journaling_size(LOG_MAX_BYTES)
            .worker_threads(1)
            .open()
            .map_err(|error| failed(error, "open").with("path", path.display()))?;
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
        };
        let records =
            database.keyspace("records", options).map_err(|error| failed(error, "open"))?;
        Ok(FjallIndex { database, records })
    }
}

impl ChunkIndex for FjallIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.records.get(key).map_err(|error| failed(error, "get"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let mut pairs = self.records.range(from..to);
        loop {
            let Some(guard) = (if reverse { pairs.next_back() } else { pairs.next() }) else {
                return Ok(());
            };
            let (key, value) = guard.into_inner().map_err(|error| failed(error, "scan"))?;
            if !visit(&key, &value)? {
                return Ok(());
            }
        }
    }

    fn write(&self, changes: Vec<Change>, sync: bool) -> Result<()> {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.database.batch().durability(Some(mode));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.records, key, value),
                None => batch.remove(&self.records, key),
            }
        }
        batch.commit().map_err(|error| failed(error, "write"))
    }
}

fn failed(error: fjall::Error, attempted: &str) -> Error {
    match error {
        fjall::Error::Io(error) => Error::io(&error, &format!("index {attempted}")),
        fjall::Error::Locked => Error::new(ErrorKind::StoreLocked, "the index is in use"),
        other => Error::new(ErrorKind::StoreCorrupt, format!("index {attempted}: {other}")),
    }
}
