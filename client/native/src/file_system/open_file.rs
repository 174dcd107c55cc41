//! One open file.
//!
//! Invariants: after `close` every call fails; an error of a buffered write is returned exactly
//! once to each handle that was open; a handle that is dropped without `close` is closed in the
//! background.

use super::Inner;
use super::destination::Destination;
use super::inode_state::InodeState;
use super::read::FileRead;
use super::read_ahead::{BLOCK_BYTES, ReadAhead, ReadyBlock};
use bytes::Bytes;
use firepond_core::ids::InodeId;
use firepond_core::payload::Payload;
use firepond_core::sys::{clock, task};
use firepond_core::transport::SinkSlice;
use firepond_core::watch;
use firepond_core::wire::meta::{Attributes, Credentials};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The largest part of `read` that is one buffer.
const READ_BUFFER_BYTES: usize = 4 << 20;
/// How much of one large read is on its way at a time.
const READ_WINDOW_BYTES: usize = 64 << 20;

/// An open file. All methods may be called concurrently.
pub struct OpenFile {
    inner: Arc<Inner>,
    state: Arc<InodeState>,
    who: Credentials,
    handle: u64,
    readable: bool,
    writable: bool,
    read_ahead: Mutex<ReadAhead>,
    errors_seen: AtomicU64,
    closed: AtomicBool,
}

impl OpenFile {
    pub(super) fn new(
        inner: Arc<Inner>,
        state: Arc<InodeState>,
        who: &Credentials,
        handle: u64,
        (readable, writable): (bool, bool),
    ) -> OpenFile {
        let who = who.clone();
        let errors_seen = AtomicU64::new(state.local.lock().error_count());
        let read_ahead = Mutex::new(ReadAhead::new(inner.options.read_ahead_max_bytes));
        let closed = AtomicBool::new(false);
        OpenFile { inner, state, who, handle, readable, writable, read_ahead, errors_seen, closed }
    }

    /// The file.
    pub fn inode(&self) -> InodeId {
        self.state.inode
    }

    /// What is known of the file, with this client's unsettled writes.
    pub fn attributes(&self) -> Attributes {
        self.state.local.lock().visible()
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(super) fn state(&self) -> &Arc<InodeState> {
        &self.state
    }

    /// Whether a change may begin: open for writing, and no earlier one has failed.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.check(self.writable, "writing")?;
        self.take_error()
    }

    /// Whether it may write.
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// Reads `len` bytes at `offset` into pooled buffers; fewer only at the end of the file.
    ///
    /// # Errors
    /// `Closed` when not open for reading; whatever a chain or the metadata service answered.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Vec<Payload>> {
        self.check(self.readable, "reading")?;
        let mut payloads = Vec::with_capacity(len.div_ceil(READ_BUFFER_BYTES).min(64));
        let mut done = 0;
        while done < len {
            let part = READ_BUFFER_BYTES.min(len - done);
            let deadline = clock::now() + self.inner.options.operation_timeout();
            let buffer = clock::timeout_at(deadline, self.inner.read_pool.acquire(part)).await;
            let buffer = buffer
                .ok_or_else(|| Error::new(ErrorKind::DeadlineExceeded, "no room to read into"))??;
            let (destination, payload, mut writer) = Destination::pooled(buffer);
            let count = self.read_part(offset + done as u64, destination).await?;
            writer.advance(count);
            done += count;
            if count == part {
                payloads.push(payload);
                continue;
            }
            // The end of the file: a payload of exactly the bytes that are there.
            if count > 0 {
                payloads.push(Payload::from_bytes(Bytes::copy_from_slice(payload.filled())));
            }
            break;
        }
        Ok(payloads)
    }

    /// Reads into the caller's memory; the number of bytes is short only at the end of the file.
    ///
    /// # Errors
    /// As `read`.
    pub async fn read_into(&self, offset: u64, sinks: Vec<SinkSlice>) -> Result<usize> {
        self.check(self.readable, "reading")?;
        let total: usize = sinks.iter().map(SinkSlice::len).sum();
        if total <= READ_WINDOW_BYTES {
            return self.read_part(offset, Destination::new(sinks)).await;
        }
        let whole = Destination::new(sinks);
        let mut done = 0;
        while done < total {
            let end = total.min(done + READ_WINDOW_BYTES);
            let part = Destination::new(whole.sinks(done..end));
            let count = self.read_part(offset + done as u64, part).await?;
            done += count;
            if done < end {
                break;
            }
        }
        Ok(done)
    }

    /// One part of a read of a batch, for `FileSystem::read_batch`.
    pub(super) fn batch_part(&self, offset: u64, sinks: Vec<SinkSlice>) -> Result<FileRead> {
        self.check(self.readable, "reading")?;
        let destination = Destination::new(sinks);
        Ok(FileRead { state: Arc::clone(&self.state), offset, destination })
    }

    async fn read_part(&self, offset: u64, mut destination: Destination) -> Result<usize> {
        // Blocks that end early were read at an end that may have moved since: ask again.
        if let Some(blocks) = self.read_on(offset, destination.len())
            && let Some(count) = copy_blocks(blocks, offset, &mut destination).await
            && count == destination.len()
        {
            return Ok(count);
        }
        let deadline = clock::now() + self.inner.options.operation_timeout();
        let read = FileRead { state: Arc::clone(&self.state), offset, destination };
        let mut results = self.inner.read_files(vec![read], deadline).await;
        results.pop().unwrap_or_else(|| unreachable!("one read has one result"))
    }

    /// Starts read-ahead where it helps; returns the blocks that serve this read.
    fn read_on(&self, offset: u64, len: usize) -> Option<Vec<ReadyBlock>> {
        let (size, generation) = {
            let local = self.state.local.lock();
            (local.size(), local.generation())
        };
        let mut ahead = self.read_ahead.lock();
        let blocks = ahead.serve(offset, len, size, generation);
        for start in ahead.wanted(size) {
            let Ok(buffer) = self.inner.read_pool.try_acquire(BLOCK_BYTES) else { break };
            let (destination, payload, mut writer) = Destination::pooled(buffer);
            let (sender, receiver) = watch::channel(None);
            let (inner, state) = (Arc::clone(&self.inner), Arc::clone(&self.state));
            let task = task::spawn(async move {
                let deadline = clock::now() + inner.options.operation_timeout();
                let read = FileRead { state, offset: start, destination };
                let mut results = inner.read_files(vec![read], deadline).await;
                let result = results.pop().map(|result| {
                    result.map(|count| {
                        writer.advance(count);
                        (payload, count)
                    })
                });
                sender.send(result);
            });
            ahead.started(start, receiver, task.abort_handle());
        }
        blocks
    }

    /// Takes bytes in; they are sent in the background. An error of an earlier write is returned
    /// here.
    ///
    /// # Errors
    /// `Closed` when not open for writing, `FileTooLarge`, or the error of an earlier write.
    pub async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        self.write_slice(offset, &data).await
    }

    /// As `write`, from borrowed memory: the bytes are copied once, into the buffers that are sent.
    ///
    /// # Errors
    /// As `write`.
    pub async fn write_slice(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check_writable()?;
        self.inner.write(&self.state, offset, data).await
    }

    /// Writes at the end of the file as this client knows it; returns where that was. Appends of
    /// several clients to one file are not ordered among each other.
    ///
    /// # Errors
    /// As `write`.
    pub async fn append(&self, data: Bytes) -> Result<u64> {
        self.append_slice(&data).await
    }

    /// As `append`, from borrowed memory.
    ///
    /// # Errors
    /// As `write`.
    pub async fn append_slice(&self, data: &[u8]) -> Result<u64> {
        self.check_writable()?;
        self.inner.append(&self.state, data).await
    }

    /// Returns when every byte written so far is acknowledged by its chain: durable on all
    /// replicas.
    ///
    /// # Errors
    /// The error of a write that failed; those bytes are lost, and the file has its old contents
    /// there.
    pub async fn flush(&self) -> Result<()> {
        self.check(true, "flushing")?;
        self.flush_open().await
    }

    async fn flush_open(&self) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        let seen = self.errors_seen.load(Ordering::Acquire);
        let result = self.inner.flush(&self.state, seen).await;
        self.take_error()?;
        result
    }

    /// `flush`, and the length and time of the last write are settled at the metadata service:
    /// fsync.
    ///
    /// # Errors
    /// As `flush`.
    pub async fn sync(&self) -> Result<()> {
        self.flush().await?;
        if self.writable { self.inner.settle(&self.who, &self.state).await } else { Ok(()) }
    }

    /// Flushes and gives the handle back. Only the first call does something; a failed close is
    /// still a close, as in POSIX.
    ///
    /// # Errors
    /// As `sync`.
    pub async fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.read_ahead.lock().clear();
        if !self.writable {
            self.close_in_background();
            return Ok(());
        }
        let flushed = self.flush_open().await;
        let closed = self.inner.close_handle(&self.who, &self.state, self.handle, true).await;
        flushed.and(closed)
    }

    fn close_in_background(&self) {
        let (who, state) = (self.who.clone(), Arc::clone(&self.state));
        self.inner.close_in_background(who, state, self.handle, self.writable);
    }

    fn check(&self, allowed: bool, what: &str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the file is closed"));
        }
        if allowed {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Closed, format!("the file is not open for {what}"))
            .with("inode", self.state.inode))
    }

    /// An error that this handle has not reported yet.
    fn take_error(&self) -> Result<()> {
        let local = self.state.local.lock();
        let seen = self.errors_seen.swap(local.error_count(), Ordering::AcqRel);
        local.error_since(seen).map_or(Ok(()), Err)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.close_in_background();
        }
    }
}

/// Copies out of blocks; `None` when one of them failed and the read must go its own way.
async fn copy_blocks(
    blocks: Vec<ReadyBlock>,
    offset: u64,
    destination: &mut Destination,
) -> Option<usize> {
    let end = offset + destination.len() as u64;
    let mut done = 0;
    for (start, mut receiver) in blocks {
        let result = receiver.wait_for(Option::is_some).await.ok()?;
        let Some(Ok((payload, count))) = &result else { return None };
        let from = offset.max(start);
        let to = end.min(start + *count as u64);
        if from >= to {
            break;
        }
        let range = (from - start) as usize..(to - start) as usize;
        destination.put((from - offset) as usize, &payload.filled()[range]);
        done = (to - offset) as usize;
        if *count < BLOCK_BYTES {
            break;
        }
    }
    Some(done)
}
