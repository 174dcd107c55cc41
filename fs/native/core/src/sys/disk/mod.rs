//! Files of a storage disk behind one trait, so that io_uring, positional I/O and a simulated disk
//! that tears, drops, rots and delays are exchangeable.
//!
//! Invariants: a write is durable only after a `sync` that started after the write completed;
//! buffers are 4096-aligned (`Buffer`) and are handed back when an operation ends. An operation
//! starts when its method is called, not when its future is first polled, and it runs to its end
//! although the future is dropped: the engine owns the memory until then.

mod directory;
mod io_uring;
mod positional;
pub mod simulated;

pub use io_uring::IoUringDisk;
pub use positional::PositionalDisk;

use crate::buffer::Buffer;
use crate::{Error, Result};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

/// A boxed future: disk engines are chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Offsets and lengths of direct writes are multiples of this, and so are buffer addresses.
pub const ALIGNMENT_BYTES: usize = 4096;

/// Opens a directory, which is made when it is absent, with the engine of this name: "io_uring",
/// "positional", or "auto" for the best that the kernel allows.
///
/// # Errors
/// `InvalidArgument` for another name, `Unsupported` when io_uring was asked for and the kernel
/// refuses it, `IoFailed` when the directory cannot be made.
pub fn open_disk(path: &Path, engine: &str) -> Result<Arc<dyn Disk>> {
    match engine {
        "positional" => Ok(Arc::new(PositionalDisk::open(path)?)),
        "io_uring" => Ok(Arc::new(IoUringDisk::open(path)?)),
        "auto" => match IoUringDisk::open(path) {
            Ok(disk) => Ok(Arc::new(disk)),
            Err(error) => {
                tracing::info!(%error, "io_uring is not available, using positional I/O");
                Ok(Arc::new(PositionalDisk::open(path)?))
            }
        },
        other => Err(Error::invalid("no such disk engine")
            .with("disk_engine", other)
            .with("known", "auto, io_uring, positional")),
    }
}

/// One engine over one directory.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file below the directory; `create` makes it when it is absent (and syncs the
    /// directory).
    fn open(&self, path: &Path, create: bool) -> Result<Arc<dyn DiskFile>>;
    /// The directory.
    fn root(&self) -> &Path;
    /// Which engine this is, for status and logs: "io_uring", "positional", "simulated".
    fn engine(&self) -> &'static str;
    /// Bytes of the file system: (total, free for us).
    fn space(&self) -> Result<(u64, u64)>;
    /// Names directly below the directory.
    fn list(&self) -> Result<Vec<PathBuf>>;
    /// Removes a file below the directory; absent is fine.
    fn remove(&self, path: &Path) -> Result<()>;
}

/// One open file. All methods may be called concurrently.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads into `buffer` from `offset`; returns it with the number of bytes read (short at the
    /// end).
    fn read(&self, buffer: Buffer, offset: u64) -> BoxFuture<'_, (Result<usize>, Buffer)>;
    /// Copies into `into` only what the page cache holds, without waiting; `None` if that is not
    /// all.
    fn read_cached(&self, into: &mut [u8], offset: u64) -> Option<usize>;
    /// Reads on the calling thread, which waits for it; short at the end. For opening.
    fn read_in_place(&self, into: &mut [u8], offset: u64) -> Result<usize>;
    /// Writes whole pages into the page cache, on the calling thread: durable after a `sync`. For
    /// little data, which costs less to copy than to hand over. Offset and length are multiples of
    /// `ALIGNMENT_BYTES`.
    fn write_cached(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Writes whole pages on the calling thread, which waits for it; past the page cache when the
    /// memory is aligned. Durable after a `sync`.
    fn write_in_place(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Writes `range` of `buffer` at `offset`: all of it or an error. Offset and length are
    /// multiples of `ALIGNMENT_BYTES`. The buffer is shared, so that it can be forwarded at the
    /// same time.
    fn write(
        &self,
        buffer: crate::payload::Payload,
        range: std::ops::Range<usize>,
        offset: u64,
    ) -> BoxFuture<'_, Result<()>>;
    /// As `write`, of several parts of a buffer, each at its offset. They start together, which
    /// costs one system call where the engine can; all have ended when this ends.
    fn write_scattered(
        &self,
        buffer: crate::payload::Payload,
        parts: Vec<(std::ops::Range<usize>, u64)>,
    ) -> BoxFuture<'_, Result<()>> {
        let start = |(range, offset)| self.write(buffer.clone(), range, offset);
        let writes: Vec<BoxFuture<'_, Result<()>>> = parts.into_iter().map(start).collect();
        Box::pin(async move {
            let mut result = Ok(());
            for write in writes {
                result = result.and(write.await);
            }
            result
        })
    }
    /// Makes all completed writes durable (fdatasync).
    fn sync(&self) -> BoxFuture<'_, Result<()>>;
    /// As `sync`, when the future is polled and on the thread that polls it, which blocks: a
    /// committer's own thread saves two hops.
    fn sync_in_place(&self) -> BoxFuture<'_, Result<()>>;
    /// Grows or shrinks the file to `len` bytes. Growing takes the space, where the file system
    /// can.
    fn set_len(&self, len: u64) -> Result<()>;
    /// The length in bytes.
    fn len(&self) -> Result<u64>;
    /// True when the file has no bytes.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Gives the space of a range back to the file system; reads of it give zeros.
    fn punch(&self, offset: u64, len: u64) -> Result<()>;
}
