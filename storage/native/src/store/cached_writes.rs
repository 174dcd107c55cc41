//! Large values that may be lost are written into the page cache, from where they are read next.
//!
//! Why: what a KV tier stores it reads soon; past the page cache it would have to come back from
//! the disk. Why bounded, and flushed at once: the kernel gathers dirty pages until it stops
//! whoever writes, here a thread that serves others, and a checkpoint waits for all of them.
//! Invariants: at most `OUTSTANDING_MAX_BYTES` wait for the disk, beyond that writes go past the
//! page cache; the file has a descriptor of its own, because the kernel tells each descriptor of a
//! failed flush once, and the checkpoint must hear of it, too.

use firepond_core::Result;
use firepond_core::sys::disk::DiskFile;
use firepond_core::sys::task;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes that may be in the page cache only.
const OUTSTANDING_MAX_BYTES: usize = 256 << 20;

/// The page cache as a place to write to. Cloning shares the bound.
#[derive(Clone)]
pub(super) struct CachedWrites(Arc<Inner>);

struct Inner {
    file: Arc<dyn DiskFile>,
    outstanding_bytes: AtomicUsize,
    is_flushing: AtomicBool,
}

impl CachedWrites {
    /// Writes into this file, which nobody else syncs.
    pub(super) fn new(file: Arc<dyn DiskFile>) -> CachedWrites {
        let (outstanding_bytes, is_flushing) = (AtomicUsize::new(0), AtomicBool::new(false));
        CachedWrites(Arc::new(Inner { file, outstanding_bytes, is_flushing }))
    }

    /// Writes, if there is room; false when there is none.
    ///
    /// # Errors
    /// As `DiskFile::write_cached`.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<bool> {
        let inner = &self.0;
        let before = inner.outstanding_bytes.fetch_add(bytes.len(), Ordering::AcqRel);
        if before + bytes.len() > OUTSTANDING_MAX_BYTES {
            inner.outstanding_bytes.fetch_sub(bytes.len(), Ordering::AcqRel);
            return Ok(false);
        }
        if let Err(error) = inner.file.write_cached(bytes, offset) {
            inner.outstanding_bytes.fetch_sub(bytes.len(), Ordering::AcqRel);
            return Err(error);
        }
        if !inner.is_flushing.swap(true, Ordering::AcqRel) {
            let inner = Arc::clone(inner);
            task::spawn(async move { inner.flush().await });
        }
        Ok(true)
    }
}

impl Inner {
    /// Syncs until nothing waits.
    async fn flush(&self) {
        loop {
            let waiting = self.outstanding_bytes.load(Ordering::Acquire);
            if let Err(error) = self.file.sync().await {
                // These bytes may be lost; who must not lose any syncs for himself.
                tracing::debug!(%error, "values of the page cache were not written");
            }
            self.outstanding_bytes.fetch_sub(waiting, Ordering::AcqRel);
            self.is_flushing.store(false, Ordering::Release);
            let idle = self.outstanding_bytes.load(Ordering::Acquire) == 0;
            if idle || self.is_flushing.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::sys::disk::{Disk, PositionalDisk};
    use std::path::Path;

    /// Goal: what is written can be read from the page cache, and room returns. Method: a real
    /// file, filled beyond the bound in pieces of 16 MiB. Oracle: the bytes; a piece is taken again
    /// once the flush is over.
    #[tokio::test]
    async fn room_is_bounded_and_returns() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = PositionalDisk::open(directory.path()).expect("a disk");
        let file = disk.open(Path::new("data"), true).expect("a file");
        let writes = CachedWrites::new(disk.open(Path::new("data"), false).expect("the file"));
        let piece = vec![7; 16 << 20];
        // Nothing is flushed meanwhile: this test has one thread and does not wait.
        for _ in 0..OUTSTANDING_MAX_BYTES / piece.len() {
            assert!(writes.write(&piece, 0).expect("written"));
        }
        assert!(!writes.write(&piece, 0).expect("no error"), "the bound holds");
        let mut found = vec![0; 4096];
        assert_eq!(file.read_cached(&mut found, 4096), Some(4096));
        assert_eq!(found, piece[..4096]);
        let deadline = firepond_core::sys::clock::now() + std::time::Duration::from_secs(30);
        while !writes.write(&piece[..4096], 0).expect("no error") {
            assert!(firepond_core::sys::clock::now() < deadline, "the flush ends");
            firepond_core::sys::clock::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
