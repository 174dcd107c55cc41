//! How far a resync is, for the status.

use firepond_core::sys::clock::unix_time_ns;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far a resync is.
#[derive(Debug)]
pub struct Progress {
    /// Chunks that are to be looked at.
    pub chunks_total: AtomicU64,
    /// Chunks that agree now.
    pub chunks_done: AtomicU64,
    /// Bytes of chunks that were sent.
    pub bytes_moved: AtomicU64,
    /// When it began, in ms since 1970.
    pub started_ms: u64,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            chunks_total: AtomicU64::new(0),
            chunks_done: AtomicU64::new(0),
            bytes_moved: AtomicU64::new(0),
            started_ms: unix_time_ns() / 1_000_000,
        }
    }
}

impl Progress {
    /// So many chunks are to be looked at, and none was.
    pub(super) fn begin(&self, total: u64) {
        self.chunks_total.store(total, Ordering::Relaxed);
        self.chunks_done.store(0, Ordering::Relaxed);
    }

    /// So many more agree. New ones appear while it runs: the total follows.
    pub(super) fn done(&self, count: u64) {
        let done = self.chunks_done.fetch_add(count, Ordering::Relaxed) + count;
        self.chunks_total.fetch_max(done, Ordering::Relaxed);
    }

    /// A chunk of so many bytes was sent.
    pub(super) fn moved(&self, bytes: u64) {
        self.bytes_moved.fetch_add(bytes, Ordering::Relaxed);
    }
}
