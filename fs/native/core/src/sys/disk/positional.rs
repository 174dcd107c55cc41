//! The engine that every kernel has: `pread` and `pwrite` on the runtime's blocking threads.
//!
//! Invariants: an operation owns its memory until it ended; dropping its future only drops the
//! answer.

use super::directory::{Directory, OpenFile, written_bytes};
use super::{BoxFuture, Disk, DiskFile};
use crate::Result;
use crate::buffer::Buffer;
use crate::payload::Payload;
use crate::sys::task::{spawn_blocking, unfinished};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Positional I/O over one directory.
pub struct PositionalDisk(Directory);

struct PositionalFile(Arc<OpenFile>);

impl PositionalDisk {
    /// Opens a directory, which is made when it is absent.
    ///
    /// # Errors
    /// `IoFailed` when it cannot be made.
    pub fn open(root: &Path) -> Result<PositionalDisk> {
        Ok(PositionalDisk(Directory::open(root)?))
    }
}

impl Disk for PositionalDisk {
    fn open(&self, path: &Path, create: bool) -> Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(PositionalFile(Arc::new(self.0.open_file(path, create)?))))
    }
    fn root(&self) -> &Path {
        self.0.root()
    }
    fn engine(&self) -> &'static str {
        "positional"
    }
    fn space(&self) -> Result<(u64, u64)> {
        self.0.space()
    }
    fn list(&self) -> Result<Vec<PathBuf>> {
        self.0.list()
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.0.remove(path)
    }
}

impl DiskFile for PositionalFile {
    fn read(&self, mut buffer: Buffer, offset: u64) -> BoxFuture<'_, (Result<usize>, Buffer)> {
        let file = Arc::clone(&self.0);
        let task = spawn_blocking(move || (file.read_at(&mut buffer, offset), buffer));
        Box::pin(async move {
            match task.await {
                Ok(answer) => answer,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        })
    }

    fn read_cached(&self, into: &mut [u8], offset: u64) -> Option<usize> {
        self.0.read_cached(into, offset)
    }

    fn read_in_place(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        self.0.read_at(into, offset)
    }

    fn write_cached(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.0.write_cached(bytes, offset)
    }

    fn write_in_place(&self, bytes: &[u8], offset: u64) -> Result<()> {
        super::directory::check_aligned(bytes.len(), offset)?;
        self.0.write_at(bytes, offset)
    }

    fn write(
        &self,
        buffer: Payload,
        range: Range<usize>,
        offset: u64,
    ) -> BoxFuture<'_, Result<()>> {
        let file = Arc::clone(&self.0);
        finish(spawn_blocking(move || {
            file.write_at(written_bytes(&buffer, range, offset)?, offset)
        }))
    }

    fn write_scattered(
        &self,
        buffer: Payload,
        parts: Vec<(Range<usize>, u64)>,
    ) -> BoxFuture<'_, Result<()>> {
        let file = Arc::clone(&self.0);
        finish(spawn_blocking(move || {
            let mut parts = parts.into_iter();
            parts.try_for_each(|(range, offset)| {
                file.write_at(written_bytes(&buffer, range, offset)?, offset)
            })
        }))
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        let file = Arc::clone(&self.0);
        finish(spawn_blocking(move || file.sync()))
    }

    fn sync_in_place(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.0.sync() })
    }
    fn set_len(&self, len: u64) -> Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> Result<u64> {
        self.0.len()
    }
    fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.0.punch(offset, len)
    }
}

fn finish(task: tokio::task::JoinHandle<Result<()>>) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move { task.await.unwrap_or_else(|error| Err(unfinished(&error))) })
}
