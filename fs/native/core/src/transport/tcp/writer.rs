//! The sending half of a connection.
//!
//! Why callers write themselves: when the socket has room, a message leaves with one system call on
//! the task that made it, without a hop to another task; the connection's writer task only goes on
//! where a full socket stopped them.
//! Invariants: whoever holds `half` writes, all others only queue; messages take turns frame by
//! frame; the queue holds references, and what it can hold is bounded by credits. Lock order: half,
//! queue.

use super::outgoing::{Frame, Outgoing};
use crate::payload::Payload;
use crate::sys::net::TcpStream;
use crate::transport::frame::{FrameHeader, SEGMENT_MAX_BYTES};
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::{ErrorKind as IoKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Bytes and slices that one system call takes.
const WRITE_BYTES: usize = 2 * SEGMENT_MAX_BYTES;
const WRITE_SLICES: usize = 256;

/// Sends messages over one socket.
pub(super) struct Writer {
    stream: Arc<TcpStream>,
    queue: Mutex<VecDeque<Outgoing>>,
    half: Mutex<WriteHalf>,
    /// Wakes the writer task when a full socket stopped a caller.
    blocked: Notify,
    closed: AtomicBool,
}

/// Frames that are being written.
#[derive(Default)]
struct WriteHalf {
    frames: VecDeque<Frame>,
    bytes: usize,
    slice_count: usize,
    /// Bytes of the first frame that are out.
    written: usize,
}

impl Writer {
    pub(super) fn new(stream: Arc<TcpStream>) -> Writer {
        Writer {
            stream,
            queue: Mutex::default(),
            half: Mutex::default(),
            blocked: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Sends a message, at once if the socket has room.
    pub(super) fn send(&self, message: Outgoing) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::PeerUnreachable, "the connection is closed"));
        }
        self.queue.lock().push_back(message);
        self.flush();
        Ok(())
    }

    /// Sends a message whose payload may still be arriving, segment by segment as it comes.
    pub(super) async fn send_streaming(
        &self,
        mut header: FrameHeader,
        body: Bytes,
        parts: Vec<Payload>,
    ) -> Result<()> {
        if parts.iter().all(Payload::is_complete) {
            return self.send(Outgoing::whole(header, body, parts));
        }
        let total: usize = parts.iter().map(Payload::len).sum();
        header.payload_total = (total as u32).into();
        let mut sent = 0;
        let mut body = Some(body);
        for part in parts {
            let mut offset = 0;
            while offset < part.len() {
                let count = SEGMENT_MAX_BYTES.min(part.len() - offset);
                part.wait_filled(offset + count).await?;
                sent += count;
                let first = body.is_some();
                let place = (first, sent == total);
                let body = body.take().unwrap_or_default();
                let range = (offset, count);
                self.send(Outgoing::segment(header, body, part.clone(), range, place))?;
                offset += count;
            }
        }
        Ok(())
    }

    /// Forgets what is queued of a request.
    pub(super) fn forget(&self, request_id: u64) {
        self.queue.lock().retain(|message| message.request_id() != request_id);
    }

    /// Ends both directions; whoever reads or writes notices.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let shutdown = socket2::SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Both);
        if let Err(error) = shutdown {
            tracing::trace!(%error, "socket was closed before");
        }
        self.queue.lock().clear();
    }

    /// The writer task: goes on whenever a full socket has room again.
    pub(super) async fn run(&self) {
        loop {
            self.blocked.notified().await;
            if self.stream.writable().await.is_err() {
                return self.close();
            }
            self.flush();
        }
    }

    /// Writes until the queue is empty, the socket is full, or somebody else is writing.
    fn flush(&self) {
        loop {
            let Some(mut half) = self.half.try_lock() else { return };
            match self.drain(&mut half) {
                Ok(()) => {}
                Err(error) if error.kind() == IoKind::WouldBlock => {
                    // First: the writer task would find `half` taken, and nobody would go on.
                    drop(half);
                    return self.blocked.notify_one();
                }
                Err(_) => return self.close(),
            }
            drop(half);
            // Whoever queued while we held `half` relied on us to see it.
            if self.queue.lock().is_empty() {
                return;
            }
        }
    }

    fn drain(&self, half: &mut WriteHalf) -> std::io::Result<()> {
        loop {
            half.refill(&mut self.queue.lock());
            if half.frames.is_empty() {
                return Ok(());
            }
            let mut vector = Vec::with_capacity(half.slice_count);
            let mut skip = half.written;
            for frame in &half.frames {
                frame.append(skip, &mut vector);
                skip = 0;
            }
            let count = self.write(&vector)?;
            drop(vector);
            half.consume(count);
        }
    }

    fn write(&self, vector: &[IoSlice<'_>]) -> std::io::Result<usize> {
        // The system takes no more slices than this at a time.
        let vector = &vector[..vector.len().min(1024)];
        match self.stream.try_write_vectored(vector) {
            Ok(0) => Err(IoKind::WriteZero.into()),
            Err(error) if error.kind() == IoKind::Interrupted => Ok(0),
            other => other,
        }
    }
}

impl WriteHalf {
    /// Takes frames from the messages in turn until a system call has enough.
    fn refill(&mut self, queue: &mut VecDeque<Outgoing>) {
        while self.bytes < WRITE_BYTES && self.slice_count < WRITE_SLICES {
            let Some(mut message) = queue.pop_front() else { return };
            let (frame, more) = message.next_frame();
            self.bytes += frame.len;
            self.slice_count += frame.slice_count();
            self.frames.push_back(frame);
            if more {
                queue.push_back(message);
            }
        }
    }

    fn consume(&mut self, mut count: usize) {
        self.bytes -= count;
        count += self.written;
        while self.frames.front().is_some_and(|frame| frame.len <= count) {
            let Some(frame) = self.frames.pop_front() else { break };
            count -= frame.len;
            self.slice_count -= frame.slice_count();
        }
        self.written = count;
    }
}
