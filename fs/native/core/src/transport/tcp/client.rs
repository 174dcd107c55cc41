//! The client's end of one connection.
//!
//! Invariants: a call that returns without its reply sends a cancel frame; when the socket ends,
//! every call in flight fails with `PeerUnreachable`.

use super::calls::{Calls, PendingCall};
use super::direct::{DirectSocket, remaining_ms};
use super::hello::Credits;
use super::outgoing::Outgoing;
use super::reader::FrameReader;
use super::receive::receive;
use super::shared::{ATTACH_KIND, Slot, Slots};
use super::writer::Writer;
use crate::buffer::BufferPool;
use crate::sys::clock::{now, timeout_at};
use crate::sys::net::TcpStream;
use crate::sys::task::spawn;
use crate::transport::frame::{FLAG_CANCEL, FLAG_REQUEST, FrameHeader};
use crate::transport::{PeerAddress, Reply, Request, SinkPlan};
use crate::wire::{MessageKind, encode};
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a server may take to look at shared memory.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection that this process made.
pub(super) struct ClientConnection {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the connection's tasks and its calls share.
pub(super) struct Shared {
    pub(super) writer: Writer,
    pub(super) calls: Calls,
    pub(super) credits: Credits,
    pub(super) buffers: BufferPool,
    pub(super) peer: PeerAddress,
    /// Memory for replies, once the server took it.
    pub(super) slots: OnceLock<Arc<Slots>>,
}

impl ClientConnection {
    /// Takes over a connected socket.
    pub(super) fn new(
        stream: TcpStream,
        peer: PeerAddress,
        buffers: BufferPool,
    ) -> ClientConnection {
        let stream = Arc::new(stream);
        let shared = Shared::new(Arc::clone(&stream), peer, buffers);
        ClientConnection::start(shared, FrameReader::new(stream), false)
    }

    /// Takes over a socket on which the call `id` was sent; also the call.
    pub(super) fn resume(
        stream: TcpStream,
        peer: PeerAddress,
        buffers: BufferPool,
        socket: &DirectSocket,
        (id, plan): (u64, Option<Box<dyn SinkPlan>>),
    ) -> (ClientConnection, Arc<PendingCall>) {
        let stream = Arc::new(stream);
        let shared = Shared::new(Arc::clone(&stream), peer, buffers);
        let call = shared.calls.insert_sent(id, plan);
        let reader = FrameReader::with_received(stream, socket.received());
        (ClientConnection::start(shared, reader, socket.is_greeted), call)
    }

    fn start(shared: Arc<Shared>, reader: FrameReader, is_greeted: bool) -> ClientConnection {
        let (reading, writing) = (Arc::clone(&shared), Arc::clone(&shared));
        let tasks = vec![
            spawn(async move { read_replies(&reading, reader, is_greeted).await }),
            spawn(async move { writing.writer.run().await }),
        ];
        ClientConnection { shared, tasks }
    }

    /// True when the socket ended.
    pub(super) fn is_lost(&self) -> bool {
        self.shared.calls.is_lost()
    }

    /// Calls in flight.
    pub(super) fn call_count(&self) -> usize {
        self.shared.calls.count()
    }

    /// One call. Dropping the future cancels it; the caller bounds it by the deadline.
    pub(super) async fn call(&self, request: Request) -> Result<Reply> {
        self.shared.call(request.kind as u16, request).await
    }

    /// Shows the server memory for its replies; until it took it, they come through the socket.
    pub(super) fn attach(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.tasks.push(spawn(async move {
            if let Err(error) = shared.attach().await {
                tracing::debug!(peer = %shared.peer, %error, "no shared memory");
            }
        }));
    }

    /// Waits for the reply of a call that was sent before the connection was taken over.
    pub(super) async fn wait(&self, id: u64, call: &PendingCall) -> Result<Reply> {
        let (shared, sent) = (&*self.shared, AtomicBool::new(true));
        let mut guard = CallGuard { shared, id, call, sent: &sent, settled: false };
        let outcome = call.outcome().await;
        guard.settled = true;
        outcome
    }
}

impl Shared {
    async fn attach(&self) -> Result<()> {
        let slots = Slots::new()?;
        let deadline = now() + ATTACH_TIMEOUT;
        let request = Request::new(MessageKind::Ping, encode(&slots.attach()), deadline);
        let reply = timeout_at(deadline, self.call(ATTACH_KIND, request)).await;
        slots.close_file();
        reply.unwrap_or_else(|| Err(Error::new(ErrorKind::DeadlineExceeded, "no answer")))?;
        self.slots.get_or_init(|| slots);
        Ok(())
    }

    async fn call(&self, kind: u16, request: Request) -> Result<Reply> {
        let shared = self;
        let _credit = shared.credits.acquire(request.payload.len()).await?;
        let slots = shared.slots.get().filter(|_| request.payload.is_empty());
        let slot = slots.and_then(|slots| slots.lend(request.reply_bytes_max));
        let code = slot.as_ref().map_or(0, Slot::code);
        let (id, call) = shared.calls.insert(request.sink, slot)?;
        let sent = AtomicBool::new(false);
        let mut guard = CallGuard { shared, id, call: &call, sent: &sent, settled: false };
        let mut header = FrameHeader::new(FLAG_REQUEST, kind, id);
        header.slot = code.into();
        header.deadline_ms = remaining_ms(request.deadline).into();
        header.set_trace(request.trace);
        let (body, payload) = (request.body, vec![request.payload]);
        let sending = async {
            shared.writer.send_streaming(header, body, payload).await?;
            sent.store(true, Ordering::Relaxed);
            Ok(())
        };
        let outcome = tokio::select! {
            biased;
            // Aborted sources and closed sockets end the call here; else the reply does.
            Err(error) = sending => Err(error),
            outcome = call.outcome() => { guard.settled = true; outcome }
        };
        drop(guard);
        outcome
    }

    fn new(stream: Arc<TcpStream>, peer: PeerAddress, buffers: BufferPool) -> Arc<Shared> {
        Arc::new(Shared {
            writer: Writer::new(stream),
            calls: Calls::default(),
            credits: Credits::new(),
            buffers,
            peer,
            slots: OnceLock::new(),
        })
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.shared.writer.close();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Cancels a call whose future is dropped before its reply came.
struct CallGuard<'a> {
    shared: &'a Shared,
    id: u64,
    call: &'a PendingCall,
    /// The whole request is out or queued.
    sent: &'a AtomicBool,
    /// The reply came.
    settled: bool,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if self.settled && self.sent.load(Ordering::Relaxed) {
            return;
        }
        if self.call.has_slot() && self.sent.load(Ordering::Relaxed) {
            // The server may write into the slot until it answers, and it will.
            return self.call.abandon();
        }
        // Also after an early reply: the rest of the payload will never come.
        self.shared.calls.remove(self.id);
        self.call.abandon();
        self.shared.writer.forget(self.id);
        let cancel = FrameHeader::new(FLAG_CANCEL, 0, self.id);
        let cancel = Outgoing::whole(cancel, Bytes::new(), Vec::new());
        if self.shared.writer.send(cancel).is_err() {
            tracing::trace!(peer = %self.shared.peer, "nobody left to cancel at");
        }
    }
}

/// The reader task.
async fn read_replies(shared: &Shared, mut reader: FrameReader, is_greeted: bool) {
    let peer = &shared.peer;
    let error = match receive(shared, &mut reader, is_greeted).await {
        Ok(()) => Error::new(ErrorKind::PeerUnreachable, "the peer closed the connection"),
        Err(error) if error.kind() == ErrorKind::PeerUnreachable => error,
        Err(error) => {
            tracing::warn!(%peer, reason = %error, "connection closed: malformed frame");
            Error::new(ErrorKind::PeerUnreachable, "the connection was closed: malformed frame")
        }
    };
    tracing::debug!(%peer, reason = error.message(), "connection ended");
    shared.writer.close();
    shared.credits.close();
    shared.calls.lose(&error.with("peer", peer));
}
