//! The server's end of one connection: receives requests, runs handlers, sends replies.
//!
//! Why the first poll happens here: a handler that needs no waiting (a read of cached blocks, most
//! metadata look-ups) answers without a hop to another task. It happens only when no other request
//! waits in the buffer, so that several requests still run on several cores.
//! Invariants: requests in flight stay below twice the grant, else the connection is closed; a
//! payload's memory comes from the pool, and reading stops while the pool has none. Replies to
//! calls that this process made come on its own connections, so this cannot stop them.

use super::TcpOptions;
use super::bodies::{Bodies, BodyCharge};
use super::hello::Hello;
use super::outgoing::Outgoing;
use super::reader::{FrameReader, out_of_place};
use super::shared::{ATTACH_KIND, Attach, Attached};
use super::writer::Writer;
use crate::buffer::BufferPool;
use crate::payload::{Payload, PayloadWriter};
use crate::sys::clock::{Instant, now, sleep, timeout_at};
use crate::sys::disk::BoxFuture;
use crate::sys::net::TcpStream;
use crate::sys::task::spawn;
use crate::transport::frame::{
    FLAG_CANCEL, FLAG_CONTINUATION, FLAG_END, FLAG_ERROR, FLAG_HELLO, FLAG_REPLY, FLAG_REQUEST,
    FrameHeader,
};
use crate::transport::{Handler, IncomingRequest, OutgoingReply, PeerAddress};
use crate::wire::{BODY_MAX_BYTES, MessageKind, PAYLOAD_MAX_BYTES, decode, encode};
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::IoSliceMut;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinHandle};

/// How long a request waits for room in the pool before it is refused: it must not wait for ever,
/// as servers that forward to each other in a circle could then wait for one another.
const ROOM_WAIT: Duration = Duration::from_secs(1);
const ROOM_POLL: Duration = Duration::from_millis(1);
/// A payload up to this size is received before its handler starts.
const EAGER_BYTES: usize = 64 << 10;

/// One accepted connection. Dropping it ends its socket, its handlers and its payloads.
pub(super) struct ServerConnection {
    shared: Arc<Shared>,
    stream: Arc<TcpStream>,
    buffers: BufferPool,
    bodies: Bodies,
    shared_bytes: Arc<AtomicUsize>,
    options: TcpOptions,
    writing: JoinHandle<()>,
}

struct Shared {
    writer: Writer,
    handler: Arc<dyn Handler>,
    running: Mutex<HashMap<u64, AbortHandle>>,
    peer: PeerAddress,
    /// The caller's memory for replies, if it showed some.
    attached: OnceLock<Attached>,
}

/// What the connections of a listener share: buffers, room for bodies, a count of shared memory.
pub(super) type Room = (BufferPool, Bodies, Arc<AtomicUsize>);

/// Payloads that are being received, by request.
type Arriving = HashMap<u64, PayloadWriter>;

impl ServerConnection {
    pub(super) fn new(
        stream: TcpStream,
        peer: PeerAddress,
        handler: Arc<dyn Handler>,
        (buffers, bodies, shared_bytes): Room,
        options: TcpOptions,
    ) -> ServerConnection {
        let stream = Arc::new(stream);
        let writer = Writer::new(Arc::clone(&stream));
        let (running, attached) = (Mutex::default(), OnceLock::new());
        let shared = Arc::new(Shared { writer, handler, running, peer, attached });
        let writing = Arc::clone(&shared);
        let writing = spawn(async move { writing.writer.run().await });
        ServerConnection { shared, stream, buffers, bodies, shared_bytes, options, writing }
    }
}

impl Drop for ServerConnection {
    fn drop(&mut self) {
        self.shared.writer.close();
        self.writing.abort();
        self.shared.running.lock().drain().for_each(|(_, handle)| handle.abort());
    }
}

/// Serves until the peer closes.
pub(super) async fn serve(connection: &ServerConnection) -> Result<()> {
    let shared = &connection.shared;
    let hello = Hello {
        request_count_max: connection.options.request_count_max,
        payload_bytes_max: connection.options.payload_bytes_max,
    };
    let header = FrameHeader::new(FLAG_HELLO | FLAG_END, 0, 0);
    shared.writer.send(Outgoing::whole(header, encode(&hello), Vec::new()))?;
    let mut reader = FrameReader::new(Arc::clone(&connection.stream));
    let mut arriving = Arriving::new();
    while let Some((header, body)) = reader.next().await? {
        let id = header.request_id.get();
        if header.has(FLAG_CANCEL) {
            arriving.remove(&id);
            shared.cancel(id);
        } else if !header.has(FLAG_REQUEST) {
            return Err(out_of_place("a frame that only a server sends", &header));
        } else if header.kind.get() == ATTACH_KIND {
            connection.attach(&header, &body);
        } else if header.has(FLAG_CONTINUATION) {
            segment(&mut reader, &mut arriving, &header).await?;
        } else {
            connection.begin(&mut reader, &mut arriving, &header, body).await?;
        }
    }
    Ok(())
}

/// Receives one segment; the payload is there once its writer is dropped.
async fn segment(
    reader: &mut FrameReader,
    arriving: &mut Arriving,
    header: &FrameHeader,
) -> Result<()> {
    let id = header.request_id.get();
    let mut len = header.payload_len.get() as usize;
    let Some(writer) = arriving.get_mut(&id) else { return reader.discard(len).await };
    while len > 0 {
        let room = writer.unfilled();
        if room.len() < len {
            return Err(out_of_place("more payload than announced", header));
        }
        match reader.try_fill(&mut [IoSliceMut::new(&mut room[..len])])? {
            Some(count) => {
                writer.advance(count);
                len -= count;
            }
            None => reader.readable().await?,
        }
    }
    if header.has(FLAG_END) {
        arriving.remove(&id);
    }
    Ok(())
}

impl ServerConnection {
    /// The caller shows its memory for replies.
    fn attach(&self, header: &FrameHeader, body: &[u8]) {
        let open = |attach: Attach| match self.options.shared_memory {
            true => Attached::open(&attach, &self.shared_bytes),
            false => Err(Error::new(ErrorKind::Unsupported, "shared memory is switched off")),
        };
        match decode(body).and_then(open) {
            Err(error) => self.shared.reply_error(header, &error),
            Ok(attached) => {
                self.shared.attached.get_or_init(|| attached);
                let frame = self.shared.reply_header(header);
                self.shared.send(Outgoing::whole(frame, Bytes::new(), Vec::new()));
            }
        }
    }

    /// A request's first frame.
    async fn begin(
        &self,
        reader: &mut FrameReader,
        arriving: &mut Arriving,
        header: &FrameHeader,
        body: Bytes,
    ) -> Result<()> {
        let id = header.request_id.get();
        let in_flight = self.shared.running.lock().len() + arriving.len();
        if in_flight >= 2 * self.options.request_count_max as usize {
            return Err(out_of_place("more requests than credits", header));
        }
        let deadline = now() + Duration::from_millis(u64::from(header.deadline_ms.get()));
        let total = header.payload_total.get() as usize;
        let prepared = match MessageKind::from_code(header.kind.get()) {
            None => Err(Error::new(ErrorKind::Unsupported, "unknown kind of message")
                .with("kind", format!("{:#06x}", header.kind.get()))),
            Some(kind) => self.room(kind, total, deadline).await.map(|room| (kind, room)),
        };
        let prepared = prepared.and_then(|it| Ok((it, self.bodies.charge(body.len())?)));
        let ((kind, room), charge) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.shared.reply_error(header, &error);
                return segment(reader, arriving, header).await;
            }
        };
        let payload = match room {
            None => Payload::empty(),
            Some((payload, writer)) => {
                arriving.insert(id, writer);
                payload
            }
        };
        let (trace, peer) = (header.trace(), self.shared.peer.clone());
        let request = IncomingRequest { kind, body, payload, deadline, trace, peer };
        if total <= EAGER_BYTES {
            segment(reader, arriving, header).await?;
            self.run(header, request, charge, reader.is_drained() && header.has(FLAG_END));
            return Ok(());
        }
        self.run(header, request, charge, false);
        segment(reader, arriving, header).await
    }

    /// Memory for a payload, waiting a bounded time for it. Bulk from clients may take half of
    /// the pool; the other half is for what replicas forward, so that work that was begun can end.
    async fn room(
        &self,
        kind: MessageKind,
        total: usize,
        deadline: Instant,
    ) -> Result<Option<(Payload, PayloadWriter)>> {
        if total == 0 {
            return Ok(None);
        }
        let until = deadline.min(now() + ROOM_WAIT);
        let whole = kind == MessageKind::Forward || total <= EAGER_BYTES;
        let share_bytes = self.buffers.limit_bytes() / if whole { 1 } else { 2 };
        let buffer = loop {
            let used_bytes = self.buffers.used_bytes();
            if (used_bytes + total <= share_bytes || used_bytes == 0)
                && let Ok(buffer) = self.buffers.try_acquire(total)
            {
                break buffer;
            }
            if now() >= until {
                return Err(Error::new(ErrorKind::PeerOverloaded, "no room for the payload")
                    .with("payload_bytes", total));
            }
            sleep(ROOM_POLL).await;
        };
        Ok(Some(Payload::streaming(buffer)))
    }

    /// Runs the handler: at once and here if it is `alone`, else on a task of its own.
    fn run(&self, header: &FrameHeader, request: IncomingRequest, charge: BodyCharge, alone: bool) {
        let (shared, header) = (Arc::clone(&self.shared), *header);
        let mut work: BoxFuture<'static, ()> = Box::pin(async move {
            shared.answer(&header, request).await;
            drop(charge);
        });
        if alone {
            let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(()) = polled {
                return;
            }
        }
        let id = header.request_id.get();
        let shared = Arc::clone(&self.shared);
        // Under the lock, so that a task that ends at once finds its entry.
        let mut running = self.shared.running.lock();
        let task = spawn(async move {
            work.await;
            shared.running.lock().remove(&id);
        });
        running.insert(id, task.abort_handle());
    }
}

impl Shared {
    fn cancel(&self, id: u64) {
        self.writer.forget(id);
        if let Some(handle) = self.running.lock().remove(&id) {
            handle.abort();
        }
    }

    async fn answer(&self, header: &FrameHeader, request: IncomingRequest) {
        let deadline = request.deadline;
        let outcome = timeout_at(deadline, self.handler.handle(request)).await;
        let outcome = outcome.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::DeadlineExceeded, "the deadline passed at the server"))
        });
        let sent = match outcome.and_then(within_limits) {
            Ok(reply) => self.reply(header, reply).await,
            Err(error) => {
                self.reply_error(header, &error);
                return;
            }
        };
        if let Err(error) = sent {
            let cause = Error::new(ErrorKind::IoFailed, "the reply's payload broke off");
            self.reply_error(header, &cause.with("cause", error));
        }
    }

    async fn reply(&self, header: &FrameHeader, reply: OutgoingReply) -> Result<()> {
        let mut frame = self.reply_header(header);
        let total = reply.payload.iter().map(Payload::len).sum();
        if let Some(attached) = self.attached.get()
            && let Some(slot) = attached.slot(header.slot.get(), total)
            && reply.payload.iter().all(Payload::is_complete)
        {
            attached.put(slot, reply.payload.iter().map(Payload::filled));
            frame.slot = header.slot;
            return self.writer.send(Outgoing::in_slot(frame, reply.body, total));
        }
        self.writer.send_streaming(frame, reply.body, reply.payload).await
    }

    fn reply_header(&self, header: &FrameHeader) -> FrameHeader {
        FrameHeader::new(FLAG_REPLY, header.kind.get(), header.request_id.get())
    }

    fn reply_error(&self, header: &FrameHeader, error: &Error) {
        let flags = FLAG_REPLY | FLAG_ERROR;
        let frame = FrameHeader::new(flags, header.kind.get(), header.request_id.get());
        self.send(Outgoing::whole(frame, encode(&error.to_wire()), Vec::new()));
    }

    fn send(&self, message: Outgoing) {
        if self.writer.send(message).is_err() {
            tracing::trace!(peer = %self.peer, "nobody left to answer");
        }
    }
}

fn within_limits(reply: OutgoingReply) -> Result<OutgoingReply> {
    let payload: usize = reply.payload.iter().map(Payload::len).sum();
    if reply.body.len() > BODY_MAX_BYTES || payload > PAYLOAD_MAX_BYTES {
        return Err(Error::internal("a reply exceeds the limits of a message")
            .with("body_bytes", reply.body.len())
            .with("payload_bytes", payload));
    }
    Ok(reply)
}
