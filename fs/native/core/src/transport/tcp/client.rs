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
use super::writer::Writer;
use crate::buffer::BufferPool;
use crate::sys::net::TcpStream;
use crate::sys::task::spawn;
use crate::transport::frame::{FLAG_CANCEL, FLAG_REQUEST, FrameHeader};
use crate::transport::{PeerAddress, Reply, Request, SinkPlan};
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

/// One connection that this process made.
pub(super) struct ClientConnection {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

/// What the connection's tasks and its calls share.
pub(super) struct Shared {
    pub(super) writer: Writer,
    pub(super) calls: Calls,
    pub(super) credits: Credits,
    pub(super) buffers: BufferPool,
    pub(super) peer: PeerAddress,
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
        let tasks = [
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
        let shared = &*self.shared;
        let _credit = shared.credits.acquire(request.payload.len()).await?;
        let (id, call) = shared.calls.insert(request.sink)?;
        let sent = AtomicBool::new(false);
        let mut guard = CallGuard { shared, id, call: &call, sent: &sent, settled: false };
        let mut header = FrameHeader::new(FLAG_REQUEST, request.kind as u16, id);
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
    fn new(stream: Arc<TcpStream>, peer: PeerAddress, buffers: BufferPool) -> Arc<Shared> {
        Arc::new(Shared {
            writer: Writer::new(stream),
            calls: Calls::default(),
            credits: Credits::new(),
            buffers,
            peer,
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
