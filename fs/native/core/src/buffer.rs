//! Page-aligned buffers from a bounded pool.
//!
//! Why: direct I/O and RDMA need aligned, registered memory, and the pool is where a server says
//! "no more": whoever wants to receive waits for room instead of growing the process.
//! Invariants: bytes handed out ≤ the limit; a buffer's address and capacity are multiples of 4096;
//! a dropped buffer is room again. Locks: one mutex per size class, never held across an await.

use crate::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Alignment and granularity of buffers in bytes.
pub const PAGE_BYTES: usize = 4096;

/// Capacities of the classes in bytes; a request is rounded up to one of them.
const CLASS_BYTES: [usize; 8] =
    [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];

/// The largest buffer in bytes.
pub const BUFFER_MAX_BYTES: usize = CLASS_BYTES[CLASS_BYTES.len() - 1];

/// A bounded source of buffers. Cloning is cheap and shares the bound.
#[derive(Clone)]
pub struct BufferPool(Arc<PoolInner>);

struct PoolInner {
    limit_bytes: usize,
    /// One permit is one page.
    room: Arc<Semaphore>,
    free: [Mutex<Vec<Memory>>; CLASS_BYTES.len()],
}

/// Owned, aligned, initialised memory.
struct Memory {
    address: NonNull<u8>,
    class: usize,
}

// SAFETY: Memory owns its allocation exclusively; the pointer is not shared.
unsafe impl Send for Memory {}
// SAFETY: shared references to Memory give no access to the bytes.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(class: usize) -> Memory {
        let layout = Memory::layout(class);
        // SAFETY: the layout has a non-zero size.
        let address = unsafe { alloc_zeroed(layout) };
        let Some(address) = NonNull::new(address) else { handle_alloc_error(layout) };
        Memory { address, class }
    }

    fn layout(class: usize) -> Layout {
        Layout::from_size_align(CLASS_BYTES[class], PAGE_BYTES)
            .unwrap_or_else(|_| unreachable!("class sizes are multiples of a page"))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, freed once.
        unsafe { dealloc(self.address.as_ptr(), Memory::layout(self.class)) }
    }
}

impl BufferPool {
    /// A pool that hands out at most `limit_bytes`, which is at least the largest buffer.
    pub fn new(limit_bytes: usize) -> BufferPool {
        assert!(limit_bytes >= BUFFER_MAX_BYTES, "the pool holds at least one largest buffer");
        BufferPool(Arc::new(PoolInner {
            limit_bytes,
            room: Arc::new(Semaphore::new(limit_bytes / PAGE_BYTES)),
            free: std::array::from_fn(|_| Mutex::new(Vec::new())),
        }))
    }

    /// The bound in bytes.
    pub fn limit_bytes(&self) -> usize {
        self.0.limit_bytes
    }

    /// Bytes handed out now.
    pub fn used_bytes(&self) -> usize {
        self.0.limit_bytes / PAGE_BYTES * PAGE_BYTES - self.0.room.available_permits() * PAGE_BYTES
    }

    /// A buffer of `len` bytes (contents arbitrary); waits while the pool is exhausted.
    ///
    /// # Errors
    /// `InvalidArgument` when `len` exceeds `BUFFER_MAX_BYTES`.
    pub async fn acquire(&self, len: usize) -> Result<Buffer> {
        let class = class_of(len)?;
        let pages = u32::try_from(CLASS_BYTES[class] / PAGE_BYTES).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.0.room).acquire_many_owned(pages).await;
        let permit = permit.map_err(|_| Error::new(ErrorKind::Closed, "buffer pool closed"))?;
        Ok(self.take(class, len, permit))
    }

    /// A buffer without waiting.
    ///
    /// # Errors
    /// `PeerOverloaded` when the pool is exhausted, `InvalidArgument` when `len` is too large.
    pub fn try_acquire(&self, len: usize) -> Result<Buffer> {
        let class = class_of(len)?;
        let pages = u32::try_from(CLASS_BYTES[class] / PAGE_BYTES).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.0.room).try_acquire_many_owned(pages);
        let permit =
            permit.map_err(|_| Error::new(ErrorKind::PeerOverloaded, "buffer pool exhausted"))?;
        Ok(self.take(class, len, permit))
    }

    fn take(&self, class: usize, len: usize, permit: OwnedSemaphorePermit) -> Buffer {
        let memory = self.0.free[class].lock().pop().unwrap_or_else(|| Memory::new(class));
        Buffer { memory: Some(memory), len, pool: Arc::clone(&self.0), _permit: permit }
    }
}

fn class_of(len: usize) -> Result<usize> {
    CLASS_BYTES.iter().position(|capacity| len <= *capacity).ok_or_else(|| {
        Error::invalid("buffer too large").with("len", len).with("max", BUFFER_MAX_BYTES)
    })
}

/// An exclusively owned, page-aligned buffer. Its bytes are initialised but arbitrary.
pub struct Buffer {
    memory: Option<Memory>,
    len: usize,
    pool: Arc<PoolInner>,
    _permit: OwnedSemaphorePermit,
}

impl Buffer {
    /// Changes the visible length, up to the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "a buffer never outgrows its capacity");
        self.len = len;
    }

    /// Bytes that the memory holds: at least the length, a multiple of a page.
    pub fn capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| CLASS_BYTES[memory.class])
    }

    /// The address of the first byte, for kernels and network cards.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_ref().map_or(std::ptr::null_mut(), |memory| memory.address.as_ptr())
    }

    /// The address of the first byte, for readers of parts that no writer touches any more.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.memory.as_ref().map_or(std::ptr::null(), |memory| memory.address.as_ptr())
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is initialised, at least `len` long, and owned by self.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        // SAFETY: as in `deref`, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let mut free = self.pool.free[memory.class].lock();
            // Keep at most an eighth of the bound per class for reuse; the rest goes back to the
            // system.
            if free.len() * CLASS_BYTES[memory.class] < self.pool.limit_bytes / 8 {
                free.push(memory);
            }
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Buffer({} of {} bytes)", self.len, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the bound holds and room returns. Method: take all, drop one. Oracle: `try_acquire`.
    #[test]
    fn pool_is_bounded_and_reuses() {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let whole = pool.try_acquire(BUFFER_MAX_BYTES).expect("room");
        assert_eq!(pool.used_bytes(), BUFFER_MAX_BYTES);
        assert_eq!(pool.try_acquire(1).expect_err("full").kind(), ErrorKind::PeerOverloaded);
        drop(whole);
        let mut small = pool.try_acquire(5000).expect("room again");
        assert_eq!(small.as_mut_ptr() as usize % PAGE_BYTES, 0);
        assert_eq!((small.len(), small.capacity()), (5000, 16 << 10));
        small[4999] = 7;
        assert_eq!(small[4999], 7);
    }

    /// Goal: nonsense sizes are refused. Oracle: the error kind.
    #[test]
    fn too_large_is_refused() {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let error = pool.try_acquire(BUFFER_MAX_BYTES + 1).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
