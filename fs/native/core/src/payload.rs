//! A payload: immutable bytes that may still be arriving.
//!
//! Why: a replica forwards and persists what it receives while it receives it (cut-through), so the
//! same memory has one writer (the connection that receives) and several readers (the disk, the
//! next hop). Source of the idea: CRAQ's pipelined chains (Terrace and Freedman, USENIX ATC 2009).
//! Invariants: the filled length only grows; bytes below it never change again; exactly one writer;
//! a payload ends complete or aborted, never in between once its writer is gone.

use crate::buffer::Buffer;
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// The top bit of the fill state marks an aborted payload.
const ABORTED: usize = 1 << (usize::BITS - 1);

/// Shared, read-only view of bytes that are there or arriving. Cloning is cheap.
#[derive(Clone)]
pub struct Payload(Arc<Inner>);

struct Inner {
    memory: Memory,
    len: usize,
    /// Bytes that are there, with `ABORTED` when no more will come.
    filled: AtomicUsize,
    /// The fewest bytes that somebody waits for: before them nobody is woken.
    wanted: AtomicUsize,
    changed: Notify,
}

enum Memory {
    Bytes(Bytes),
    Pooled(UnsafeCell<Buffer>),
    /// A part of another payload that was complete when the part was taken.
    Part {
        whole: Payload,
        start: usize,
    },
}

// SAFETY: the cell is written only by the one `PayloadWriter`, only at or above `filled`; readers
// look only below `filled`, which is published with Release after the bytes were written.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Payload {
    /// No bytes.
    pub fn empty() -> Payload {
        Payload::from_bytes(Bytes::new())
    }

    /// Bytes that are all there.
    pub fn from_bytes(bytes: Bytes) -> Payload {
        let len = bytes.len();
        Payload(Arc::new(Inner {
            memory: Memory::Bytes(bytes),
            len,
            filled: AtomicUsize::new(len),
            wanted: AtomicUsize::new(usize::MAX),
            changed: Notify::new(),
        }))
    }

    /// A full buffer.
    pub fn from_buffer(buffer: Buffer) -> Payload {
        let len = buffer.len();
        Payload(Arc::new(Inner {
            memory: Memory::Pooled(UnsafeCell::new(buffer)),
            len,
            filled: AtomicUsize::new(len),
            wanted: AtomicUsize::new(usize::MAX),
            changed: Notify::new(),
        }))
    }

    /// A payload whose bytes will be written through the writer; the buffer's length is its length.
    pub fn streaming(buffer: Buffer) -> (Payload, PayloadWriter) {
        let len = buffer.len();
        let payload = Payload(Arc::new(Inner {
            memory: Memory::Pooled(UnsafeCell::new(buffer)),
            len,
            filled: AtomicUsize::new(0),
            wanted: AtomicUsize::new(usize::MAX),
            changed: Notify::new(),
        }));
        let writer = PayloadWriter { payload: payload.clone() };
        (payload, writer)
    }

    /// A part of this payload, which must be complete; the memory is shared.
    pub fn part(&self, range: std::ops::Range<usize>) -> Payload {
        assert!(self.is_complete(), "parts are taken of complete payloads");
        assert!(range.start <= range.end && range.end <= self.0.len, "a part is within its whole");
        Payload(Arc::new(Inner {
            len: range.len(),
            filled: AtomicUsize::new(range.len()),
            memory: Memory::Part { whole: self.clone(), start: range.start },
            wanted: AtomicUsize::new(usize::MAX),
            changed: Notify::new(),
        }))
    }

    /// True when all bytes are there.
    pub fn is_complete(&self) -> bool {
        self.0.filled.load(Ordering::Acquire) == self.0.len
    }

    /// True when the sender gave up before the last byte.
    pub fn is_aborted(&self) -> bool {
        self.0.filled.load(Ordering::Acquire) & ABORTED != 0
    }

    /// Bytes in all, arrived or not.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// True when there will never be a byte.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// The bytes that are there now.
    pub fn filled(&self) -> &[u8] {
        let filled = self.0.filled.load(Ordering::Acquire) & !ABORTED;
        match &self.0.memory {
            Memory::Bytes(bytes) => bytes,
            Memory::Pooled(cell) => {
                // SAFETY: the Buffer value itself is never replaced while the payload lives; only
                // bytes at or above `filled` may still be written, and the slice ends there.
                unsafe { std::slice::from_raw_parts((*cell.get()).as_ptr(), filled) }
            }
            Memory::Part { whole, start } => &whole.filled()[*start..*start + filled],
        }
    }

    /// Waits until at least `count` bytes (or all, if fewer) are there, and returns what is there.
    ///
    /// # Errors
    /// `PeerUnreachable` when the sender gave up.
    pub async fn wait_filled(&self, count: usize) -> Result<&[u8]> {
        let wanted = count.min(self.0.len);
        loop {
            let state = self.0.filled.load(Ordering::Acquire);
            if state & !ABORTED >= wanted {
                return Ok(self.filled());
            }
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // First: whoever takes the wish away wakes us afterwards.
            changed.as_mut().enable();
            self.0.wanted.fetch_min(wanted, Ordering::SeqCst);
            let state = self.0.filled.load(Ordering::SeqCst);
            if state & !ABORTED >= wanted {
                return Ok(self.filled());
            }
            if state & ABORTED != 0 {
                return Err(Error::new(ErrorKind::PeerUnreachable, "the sender gave up"));
            }
            changed.await;
        }
    }

    /// Waits for all bytes.
    ///
    /// # Errors
    /// `PeerUnreachable` when the sender gave up.
    pub async fn complete(&self) -> Result<&[u8]> {
        self.wait_filled(self.0.len).await
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Payload({} of {} bytes)", self.filled().len(), self.0.len)
    }
}

/// The one writer of a streaming payload. Dropping it early aborts the payload.
pub struct PayloadWriter {
    payload: Payload,
}

impl PayloadWriter {
    /// The part that is still to be written.
    pub fn unfilled(&mut self) -> &mut [u8] {
        let inner = &self.payload.0;
        let filled = inner.filled.load(Ordering::Relaxed) & !ABORTED;
        let Memory::Pooled(cell) = &inner.memory else { return &mut [] };
        // SAFETY: only this writer exists, it is borrowed exclusively, and readers never look at or
        // above `filled`. The pointer is taken without making a reference to the whole buffer's
        // bytes.
        unsafe {
            let start = (*cell.get()).as_ptr().cast_mut().add(filled);
            std::slice::from_raw_parts_mut(start, inner.len - filled)
        }
    }

    /// Publishes `count` more bytes of what `unfilled` gave.
    pub fn advance(&mut self, count: usize) {
        let inner = &self.payload.0;
        let filled = inner.filled.load(Ordering::Relaxed);
        assert!(filled + count <= inner.len, "a payload never outgrows its length");
        inner.filled.store(filled + count, Ordering::SeqCst);
        if inner.wanted.load(Ordering::SeqCst) <= filled + count {
            inner.wanted.swap(usize::MAX, Ordering::SeqCst);
            inner.changed.notify_waiters();
        }
    }

    /// True when all bytes are there.
    pub fn is_complete(&self) -> bool {
        self.payload.0.filled.load(Ordering::Relaxed) == self.payload.0.len
    }
}

impl Drop for PayloadWriter {
    fn drop(&mut self) {
        if !self.is_complete() {
            self.payload.0.filled.fetch_or(ABORTED, Ordering::Release);
        }
        self.payload.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{BUFFER_MAX_BYTES, BufferPool};

    /// Goal: readers see exactly the published prefix while the writer goes on. Oracle: the bytes.
    #[tokio::test]
    async fn readers_follow_the_writer() {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let (payload, mut writer) = Payload::streaming(pool.acquire(8).await.expect("room"));
        assert_eq!(payload.filled(), b"");
        writer.unfilled()[..3].copy_from_slice(b"abc");
        writer.advance(3);
        assert_eq!(payload.wait_filled(2).await.expect("there"), b"abc");
        let reader = payload.clone();
        let task = tokio::spawn(async move { reader.complete().await.map(<[u8]>::to_vec) });
        writer.unfilled().copy_from_slice(b"defgh");
        writer.advance(5);
        assert_eq!(task.await.expect("task").expect("all"), b"abcdefgh");
        assert_eq!(payload.part(2..5).filled(), b"cde");
        assert!(payload.is_complete() && payload.part(8..8).is_empty());
    }

    /// Goal: a reader is woken for what it waits for, not for every byte; two readers with
    /// different wishes both get theirs. Method: the writer advances byte by byte. Oracle: polls
    /// and bytes.
    #[tokio::test]
    async fn readers_sleep_until_their_bytes_are_there() {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let (payload, mut writer) = Payload::streaming(pool.acquire(1000).await.expect("room"));
        let woken = Arc::new(AtomicUsize::new(0));
        let reader = |wanted: usize| {
            let (payload, woken) = (payload.clone(), Arc::clone(&woken));
            tokio::spawn(async move {
                let mut reading = std::pin::pin!(payload.wait_filled(wanted));
                std::future::poll_fn(|context| {
                    woken.fetch_add(1, Ordering::SeqCst);
                    reading.as_mut().poll(context)
                })
                .await
                .map(<[u8]>::len)
            })
        };
        let tasks = [reader(400), reader(900)];
        for _ in 0..1000 {
            tokio::task::yield_now().await;
            writer.advance(1);
        }
        for (task, wanted) in tasks.into_iter().zip([400, 900]) {
            assert!(task.await.expect("a task").expect("filled") >= wanted);
        }
        assert!(woken.load(Ordering::SeqCst) <= 5, "{woken:?}");
    }

    /// Goal: nobody waits for bytes that never come. Oracle: the error.
    #[tokio::test]
    async fn dropped_writer_aborts() {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let (payload, writer) = Payload::streaming(pool.acquire(8).await.expect("room"));
        drop(writer);
        let error = payload.complete().await.expect_err("aborted");
        assert_eq!(error.kind(), ErrorKind::PeerUnreachable);
    }
}
