//! What a client of the KV tier counts. A failure is a miss for the caller, so it must be seen
//! here.

use super::VALUE_MAX_BYTES;
use firepond_core::Error;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the namespace was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvStats {
    /// Values found by `get`.
    pub hit_count: u64,
    /// Values that `get` did not find, failures included.
    pub miss_count: u64,
    /// Reads that failed; the last error says why.
    pub read_failure_count: u64,
    /// Values stored by `put`.
    pub stored_count: u64,
    /// Values that `put` found to exist.
    pub exists_count: u64,
    /// Updates (`put`, `delete`) that failed.
    pub update_failure_count: u64,
    /// Values removed by `delete`.
    pub deleted_count: u64,
    /// Bytes that `get` returned.
    pub read_bytes: u64,
    /// Bytes that `put` stored.
    pub stored_bytes: u64,
    /// The last failure, as one line.
    pub last_error: Option<String>,
}

/// The living counts. Lock: `last_error`, held only to replace it.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) hit_count: AtomicU64,
    pub(super) miss_count: AtomicU64,
    pub(super) stored_count: AtomicU64,
    pub(super) exists_count: AtomicU64,
    pub(super) deleted_count: AtomicU64,
    read_failure_count: AtomicU64,
    update_failure_count: AtomicU64,
    read_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    last_error: Mutex<Option<Error>>,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn hit(&self, bytes: u32) {
        assert!(bytes as usize <= VALUE_MAX_BYTES, "a value never exceeds a chunk");
        count(&self.hit_count);
        self.read_bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    pub(super) fn stored(&self, bytes: usize) {
        count(&self.stored_count);
        self.stored_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn read_failed(&self, error: &Error) {
        count(&self.read_failure_count);
        *self.last_error.lock() = Some(error.clone());
    }

    pub(super) fn update_failed(&self, error: &Error) {
        count(&self.update_failure_count);
        *self.last_error.lock() = Some(error.clone());
    }

    pub(super) fn snapshot(&self) -> KvStats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        KvStats {
            hit_count: value(&self.hit_count),
            miss_count: value(&self.miss_count),
            read_failure_count: value(&self.read_failure_count),
            stored_count: value(&self.stored_count),
            exists_count: value(&self.exists_count),
            update_failure_count: value(&self.update_failure_count),
            deleted_count: value(&self.deleted_count),
            read_bytes: value(&self.read_bytes),
            stored_bytes: value(&self.stored_bytes),
            last_error: self.last_error.lock().as_ref().map(ToString::to_string),
        }
    }
}
