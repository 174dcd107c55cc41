//! Small calls on the caller's own thread: one send, one receive, nobody is woken.
//!
//! Why: a reply that a reader task takes in and hands to the thread that waits for it costs a
//! wake-up across cores, which is more than all the rest of a small exchange. A thread that does
//! nothing but wait for one operation may as well wait in `recv`.
//! Invariants: only a thread that said so blocks, only for small calls and only for `WAIT`; a
//! socket carries one call at a time, and there are at most `SOCKET_MAX_COUNT`; a reply that is
//! late or large is waited for like any other, on the same socket, which then becomes an ordinary
//! connection. Lock: `idle`, for a push or pop.

use crate::buffer::BufferPool;
use crate::sys::clock::{Instant, now};
use crate::sys::net::TcpStream;
use crate::transport::bulk::ReplySink;
use crate::transport::frame::{
    FLAG_CONTINUATION, FLAG_END, FLAG_ERROR, FLAG_HELLO, FLAG_REPLY, FLAG_REQUEST, FrameHeader,
    HEADER_BYTES, invalid,
};
use crate::transport::{Reply, Request, SinkPlan};
use crate::wire::decode;
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::cell::Cell;
use std::io::{ErrorKind as IoKind, IoSlice, Read};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

/// How long a thread stays in `recv`; longer waits are for tasks.
const WAIT: Duration = Duration::from_millis(2);
/// What is sent and received this way at most.
const BODY_SMALL_BYTES: usize = 4 << 10;
const REPLY_SMALL_BYTES: usize = 16 << 10;
const BUFFER_BYTES: usize = 32 << 10;
/// Sockets to one peer; more threads at a time share the ordinary connection.
const SOCKET_MAX_COUNT: usize = 4;
/// Calls that go the ordinary way after one that was late.
const PAUSE_COUNT: u32 = 16;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` on a thread that does nothing else until it ends, such as a `block_on`: small calls
/// that it polls may block the thread for a moment.
pub fn on_waiting_thread<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MAY_BLOCK.set(self.0);
        }
    }
    let _restore = Restore(MAY_BLOCK.replace(true));
    work()
}

/// The sockets for small calls to one peer.
#[derive(Default)]
pub(super) struct DirectSockets {
    idle: Mutex<Vec<DirectSocket>>,
    turn_count: AtomicUsize,
    pause: AtomicU32,
}

/// The right to use one socket, until it is dropped.
pub(super) struct Turn<'a>(&'a DirectSockets);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.turn_count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl DirectSockets {
    /// The right to a socket, if a call may go this way now.
    pub(super) fn turn(&self, request: &Request) -> Option<Turn<'_>> {
        let small = request.payload.is_empty()
            && request.body.len() <= BODY_SMALL_BYTES
            && request.reply_bytes_max <= REPLY_SMALL_BYTES;
        if !small || !MAY_BLOCK.get() || request.deadline < now() + 2 * WAIT {
            return None;
        }
        let rest = |left: u32| left.checked_sub(1);
        if self.pause.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).is_ok() {
            return None;
        }
        let turn = Turn(self);
        (self.turn_count.fetch_add(1, Ordering::Relaxed) < SOCKET_MAX_COUNT).then_some(turn)
    }

    /// A socket that is connected as far as anybody knows.
    pub(super) fn take(&self) -> Option<DirectSocket> {
        let mut idle = self.idle.lock();
        while let Some(socket) = idle.pop() {
            if socket.is_quiet() {
                return Some(socket);
            }
        }
        None
    }

    /// Keeps a socket whose call ended.
    pub(super) fn put(&self, socket: DirectSocket) {
        self.idle.lock().push(socket);
    }

    /// A call was late: the next ones are not worth a try.
    pub(super) fn pause(&self) {
        self.pause.store(PAUSE_COUNT, Ordering::Relaxed);
    }
}

/// A connected socket outside the runtime.
pub(super) struct DirectSocket {
    socket: socket2::Socket,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The server's hello came.
    pub(super) is_greeted: bool,
    last_id: u64,
}

/// How a call on a socket ended.
pub(super) enum Exchanged {
    /// With its outcome; the socket is free.
    Settled(Result<Reply>),
    /// Not yet: the reply to this id is still to come, into this plan.
    Late(u64, Option<Box<dyn SinkPlan>>),
    /// The socket is of no use any more.
    Broken(Error),
}

/// What the buffer begins with.
enum Found {
    Reply(FrameHeader, Bytes, std::ops::Range<usize>),
    Incomplete,
    /// A frame for which an ordinary connection is needed.
    Large,
}

impl DirectSocket {
    /// Takes over a connected socket.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(socket: socket2::Socket) -> std::io::Result<DirectSocket> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(WAIT))?;
        socket.set_write_timeout(Some(WAIT))?;
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(DirectSocket { socket, buffer, start: 0, end: 0, is_greeted: false, last_id: 0 })
    }

    /// The socket as an ordinary stream of the runtime.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn to_stream(&self) -> std::io::Result<TcpStream> {
        let socket = self.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        TcpStream::from_std(socket.into())
    }

    /// What was received and not used.
    pub(super) fn received(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// False when the peer closed the socket or sent what nobody asked for.
    fn is_quiet(&self) -> bool {
        if !self.is_greeted {
            return true;
        }
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let peeked = self.socket.recv_with_flags(&mut byte, flags);
        peeked.is_err_and(|error| error.kind() == IoKind::WouldBlock)
    }

    /// One call, on this thread.
    pub(super) fn exchange(&mut self, request: Request, buffers: &BufferPool) -> Exchanged {
        self.last_id += 1;
        let id = self.last_id;
        if let Err(error) = self.send(id, &request) {
            return Exchanged::Broken(error);
        }
        let plan = request.sink;
        loop {
            match self.next_reply() {
                Ok(Found::Reply(header, body, payload)) => {
                    if header.request_id.get() != id {
                        return Exchanged::Broken(lost("a reply that nobody waits for"));
                    }
                    return Exchanged::Settled(self.settle(&header, body, payload, plan, buffers));
                }
                Ok(Found::Large) => return Exchanged::Late(id, plan),
                Ok(Found::Incomplete) => {}
                Err(error) => return Exchanged::Broken(lost(error.message())),
            }
            match self.receive() {
                Ok(0) => return Exchanged::Broken(lost("the peer closed the connection")),
                Ok(_) => {}
                Err(error) if error.kind() == IoKind::WouldBlock => {
                    return Exchanged::Late(id, plan);
                }
                Err(error) if error.kind() == IoKind::Interrupted => {}
                Err(error) => return Exchanged::Broken(lost(&error.to_string())),
            }
        }
    }

    fn send(&mut self, id: u64, request: &Request) -> Result<()> {
        let mut header = FrameHeader::new(FLAG_REQUEST | FLAG_END, request.kind as u16, id);
        header.deadline_ms = remaining_ms(request.deadline).into();
        header.set_trace(request.trace);
        let header = header.seal(&request.body);
        let mut sent = 0;
        while sent < HEADER_BYTES + request.body.len() {
            let from = sent.min(HEADER_BYTES);
            let parts = [
                IoSlice::new(&header[from..]),
                IoSlice::new(&request.body[sent.saturating_sub(HEADER_BYTES)..]),
            ];
            match self.socket.send_vectored(&parts) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == IoKind::Interrupted => {}
                Err(error) => return Err(lost(&error.to_string())),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> std::io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let count = (&self.socket).read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// Passes over the hello, and takes a reply that is there as a whole.
    fn next_reply(&mut self) -> Result<Found> {
        while self.end - self.start >= HEADER_BYTES {
            let mut bytes = [0; HEADER_BYTES];
            bytes.copy_from_slice(&self.buffer[self.start..self.start + HEADER_BYTES]);
            let header = FrameHeader::parse(&bytes)?;
            let (body_len, len) =
                (header.body_len.get() as usize, header.payload_len.get() as usize);
            let is_hello = header.has(FLAG_HELLO);
            let is_whole = header.has(FLAG_END) && !header.has(FLAG_CONTINUATION);
            if HEADER_BYTES + body_len + len > self.buffer.len() || (!is_hello && !is_whole) {
                return Ok(Found::Large);
            }
            let body = self.start + HEADER_BYTES;
            let payload = body + body_len;
            if self.end < payload + len {
                return Ok(Found::Incomplete);
            }
            let body = Bytes::copy_from_slice(&self.buffer[body..payload]);
            header.verify(&body)?;
            self.start = payload + len;
            if is_hello == self.is_greeted || !(is_hello || header.has(FLAG_REPLY)) {
                return Err(invalid("a frame out of place"));
            }
            if !is_hello {
                return Ok(Found::Reply(header, body, payload..payload + len));
            }
            self.is_greeted = true;
        }
        Ok(Found::Incomplete)
    }

    fn settle(
        &self,
        header: &FrameHeader,
        body: Bytes,
        payload: std::ops::Range<usize>,
        plan: Option<Box<dyn SinkPlan>>,
        buffers: &BufferPool,
    ) -> Result<Reply> {
        if header.has(FLAG_ERROR) {
            return Err(Error::from_wire(decode(&body)?));
        }
        let mut sink = ReplySink::new(plan);
        sink.begin(&body, payload.len(), buffers)?;
        sink.write(&self.buffer[payload]);
        Ok(Reply { body, payload: sink.finish() })
    }
}

/// What is left until a deadline, rounded up, at least one millisecond.
pub(super) fn remaining_ms(deadline: Instant) -> u32 {
    let left = deadline.saturating_duration_since(now()).as_micros().div_ceil(1000);
    u32::try_from(left.max(1)).unwrap_or(u32::MAX)
}

fn lost(reason: &str) -> Error {
    Error::new(ErrorKind::PeerUnreachable, "the connection broke").with("reason", reason)
}
