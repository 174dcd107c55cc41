//! How processes talk: requests with a small body and a bulk payload, replies in any order.
//!
//! Why one trait: TCP, shared memory and RDMA differ only in how bulk bytes move. The one who
//! serves moves them: it *pulls* a request's payload into its buffers and *pushes* a reply's
//! payload into the caller's sink, which is what one-sided READ and WRITE do; TCP carries both
//! inside frames.
//! Invariants: every request ends with exactly one outcome, at its deadline at the latest; after
//! `call` has returned nothing is written into its sink; memory per connection is bounded by
//! credits. Framing and limits: docs/wire.md.

mod bulk;
mod frame;
pub mod memory;
pub mod tcp;

use crate::buffer::BufferPool;
use crate::payload::Payload;
use crate::sys::clock::Instant;
use crate::sys::disk::BoxFuture;
use crate::wire::MessageKind;
use crate::{Error, Result};
use bytes::Bytes;
use std::any::Any;
use std::sync::Arc;

/// Where a peer listens: "host:port" for TCP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAddress(pub String);

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// W3C trace context, carried from client to disk. Zero means "not traced".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// Names the whole operation.
    pub trace_id: u128,
    /// Names the caller's part.
    pub span_id: u64,
}

/// One request.
pub struct Request {
    /// What is asked.
    pub kind: MessageKind,
    /// The encoded message, at most `BODY_MAX_BYTES`.
    pub body: Bytes,
    /// Bulk bytes, at most `PAYLOAD_MAX_BYTES`; may still be arriving (cut-through).
    pub payload: Payload,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Whose operation this is part of.
    pub trace: TraceContext,
    /// The most bytes of payload that the reply can have, as far as the caller knows.
    pub reply_bytes_max: usize,
    /// Where the reply's payload goes; without one it arrives in a pooled buffer.
    pub sink: Option<Box<dyn SinkPlan>>,
}

/// One reply. An error of the service is `Err` of `call`, not a reply.
#[derive(Debug)]
pub struct Reply {
    /// The encoded answer.
    pub body: Bytes,
    /// The payload, complete; empty when it went into the request's sink.
    pub payload: Payload,
}

/// Decides, once a reply's body is known, where its payload goes.
pub trait SinkPlan: Send {
    /// Slices that together are exactly `payload_len` bytes long, in the order of the payload.
    ///
    /// # Errors
    /// Any error fails the call; the payload is then thrown away.
    fn plan(&mut self, body: &[u8], payload_len: usize) -> Result<Vec<SinkSlice>>;
}

/// A part of a caller's memory, kept alive and exclusively lent by its owner.
pub struct SinkSlice {
    address: *mut u8,
    len: usize,
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the maker of the slice promised exclusive, valid memory for as long as the owner lives.
unsafe impl Send for SinkSlice {}

impl SinkSlice {
    /// A slice of memory that `owner` keeps valid.
    ///
    /// # Safety
    /// `address` must be valid for writes of `len` bytes while `owner` lives, and nobody else may
    /// access these bytes until the call that uses the slice has returned.
    pub unsafe fn new(
        address: *mut u8,
        len: usize,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> SinkSlice {
        SinkSlice { address, len, _owner: owner }
    }

    /// The same memory once more, for one try of a call.
    ///
    /// # Safety
    /// This slice must not be touched while the lent one lives.
    pub(crate) unsafe fn lend(&self) -> SinkSlice {
        SinkSlice { address: self.address, len: self.len, _owner: Arc::clone(&self._owner) }
    }

    /// The first `len` bytes, or all if there are fewer.
    #[must_use]
    pub fn shorten(mut self, len: usize) -> SinkSlice {
        self.len = self.len.min(len);
        self
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a slice of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: promised in `new`; self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.len) }
    }
}

/// A request as the service sees it.
pub struct IncomingRequest {
    /// What is asked.
    pub kind: MessageKind,
    /// The encoded message.
    pub body: Bytes,
    /// Bulk bytes; they may still be arriving.
    pub payload: Payload,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Whose operation this is part of.
    pub trace: TraceContext,
    /// Who asks, for logs.
    pub peer: PeerAddress,
}

/// What a service answers: a body, and payload parts that are sent one after the other.
#[derive(Debug, Default)]
pub struct OutgoingReply {
    /// The encoded answer.
    pub body: Bytes,
    /// Bulk bytes.
    pub payload: Vec<Payload>,
}

/// A service. The future is dropped when the caller cancels or its connection breaks, so a handler
/// that must finish what it began spawns it.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>>;
}

/// One peer, however many connections are behind it. Reconnects by itself.
pub trait Connection: Send + Sync {
    /// Sends a request and waits for its reply, at most until its deadline.
    ///
    /// # Errors
    /// `PeerUnreachable`, `DeadlineExceeded`, `PeerOverloaded`, or what the service answered.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply>>;
    /// Whom this leads to.
    fn peer(&self) -> &PeerAddress;
}

/// A way to make and accept connections.
pub trait Transport: Send + Sync + 'static {
    /// A connection to a peer; made lazily, so this does not wait.
    fn connect(&self, address: &PeerAddress) -> Arc<dyn Connection>;
    /// Serves requests at an address ("host:0" picks a port) until the listener is dropped.
    fn listen<'a>(
        &'a self,
        address: &'a PeerAddress,
        handler: Arc<dyn Handler>,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>>>;
    /// Where receive buffers come from; for RDMA it is registered memory.
    fn buffers(&self) -> &BufferPool;
    /// "tcp", "memory", "shm" or "rdma".
    fn name(&self) -> &'static str;
}

/// A listening socket; dropping it stops serving and closes its connections.
pub trait Listener: Send + Sync {
    /// The address with the port that was picked.
    fn address(&self) -> &PeerAddress;
}

impl Request {
    /// A request without payload or sink.
    pub fn new(kind: MessageKind, body: Bytes, deadline: Instant) -> Request {
        Request {
            kind,
            body,
            payload: Payload::empty(),
            deadline,
            trace: TraceContext::default(),
            reply_bytes_max: 0,
            sink: None,
        }
    }
}

impl OutgoingReply {
    /// A reply without payload.
    pub fn body(body: Bytes) -> OutgoingReply {
        OutgoingReply { body, payload: Vec::new() }
    }
}

/// The error of a reply that does not decode.
pub fn malformed(what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(crate::ErrorKind::FrameInvalid, format!("{what} does not decode: {error}"))
}
