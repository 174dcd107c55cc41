//! One peer behind a few connections.
//!
//! Why several: small calls have a connection of their own, so that none waits behind bulk bytes
//! that a server has no room for; bulk calls spread over two, so that both of their ends use two
//! cores.
//! Invariants: a lost connection is replaced by the next call that needs it; after a failure to
//! connect, calls fail at once until the pause is over. Lock: a slot's `connecting`, across
//! connect.

use super::TcpOptions;
use super::client::ClientConnection;
use super::direct::{DirectSocket, DirectSockets, Exchanged, Turn};
use super::socket;
use crate::buffer::BufferPool;
use crate::sys::clock::{Instant, now, timeout_at};
use crate::sys::disk::BoxFuture;
use crate::sys::net::TcpStream;
use crate::transport::{Connection, PeerAddress, Reply, Request};
use crate::wire::{BODY_MAX_BYTES, MessageKind, PAYLOAD_MAX_BYTES};
use crate::{Error, ErrorKind, Result};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// A request with a payload of at least this many bytes is bulk.
const BULK_MIN_BYTES: usize = 16 << 10;

/// A peer, as `Transport::connect` gives it.
pub(super) struct TcpPeer {
    address: PeerAddress,
    buffers: BufferPool,
    options: TcpOptions,
    /// The first is for small calls, the others are for bulk.
    slots: Vec<Slot>,
    direct: DirectSockets,
}

#[derive(Default)]
struct Slot {
    current: ArcSwapOption<ClientConnection>,
    connecting: tokio::sync::Mutex<Backoff>,
}

/// When the next attempt to connect is due.
#[derive(Default)]
struct Backoff {
    failed: Option<(Instant, Error)>,
    pause: Duration,
}

impl TcpPeer {
    pub(super) fn new(address: PeerAddress, buffers: BufferPool, options: TcpOptions) -> TcpPeer {
        let slots = (0..=options.bulk_connection_count).map(|_| Slot::default()).collect();
        TcpPeer { address, buffers, options, slots, direct: DirectSockets::default() }
    }

    async fn exchange(&self, request: Request) -> Result<Reply> {
        if let Some(turn) = self.direct.turn(&request) {
            return self.exchange_here(request, turn).await;
        }
        let slot = self.slot(&request);
        let connection = match slot.usable() {
            Some(connection) => connection,
            None => self.reconnect(slot).await?,
        };
        connection.call(request).await
    }

    /// As `exchange`, on this thread, which may block for a moment.
    async fn exchange_here(&self, request: Request, turn: Turn<'_>) -> Result<Reply> {
        let mut socket = match self.direct.take() {
            Some(socket) => socket,
            None => {
                let mut backoff = self.slots[0].connecting.lock().await;
                let stream = self.connect(&mut backoff).await?;
                let socket = stream.into_std().map(socket2::Socket::from);
                socket.and_then(DirectSocket::new).map_err(|error| self.unusable(&error))?
            }
        };
        let outcome = match socket.exchange(request, &self.buffers) {
            Exchanged::Settled(outcome) => {
                self.direct.put(socket);
                outcome
            }
            Exchanged::Broken(error) => Err(error),
            Exchanged::Late(id, plan) => {
                self.direct.pause();
                drop(turn);
                let stream = socket.to_stream().map_err(|error| self.unusable(&error))?;
                let (address, buffers) = (self.address.clone(), self.buffers.clone());
                let (connection, call) =
                    ClientConnection::resume(stream, address, buffers, &socket, (id, plan));
                return connection.wait(id, &call).await;
            }
        };
        outcome.map_err(|error| error.with("peer", &self.address))
    }

    fn unusable(&self, error: &std::io::Error) -> Error {
        Error::new(ErrorKind::PeerUnreachable, "the socket is of no use")
            .with("peer", &self.address)
            .with("reason", error)
    }

    fn slot(&self, request: &Request) -> &Slot {
        let small =
            request.payload.len() < BULK_MIN_BYTES && request.kind != MessageKind::BatchRead;
        let (first, bulk) = (&self.slots[0], &self.slots[1..]);
        if small {
            return first;
        }
        let load = |slot: &&Slot| slot.usable().map_or(0, |connection| connection.call_count());
        bulk.iter().min_by_key(load).unwrap_or(first)
    }

    async fn reconnect(&self, slot: &Slot) -> Result<Arc<ClientConnection>> {
        let mut backoff = slot.connecting.lock().await;
        if let Some(connection) = slot.usable() {
            return Ok(connection);
        }
        let stream = self.connect(&mut backoff).await?;
        let is_bulk = !std::ptr::eq(slot, &self.slots[0]);
        let is_shared = is_bulk && self.options.shared_memory && socket::is_local(&stream);
        let (address, buffers) = (self.address.clone(), self.buffers.clone());
        let mut connection = ClientConnection::new(stream, address, buffers);
        if is_shared {
            connection.attach();
        }
        let connection = Arc::new(connection);
        slot.current.store(Some(Arc::clone(&connection)));
        Ok(connection)
    }

    /// A connected socket, unless an attempt failed a moment ago.
    async fn connect(&self, backoff: &mut Backoff) -> Result<TcpStream> {
        if let Some((failed_at, error)) = &backoff.failed
            && now() < *failed_at + backoff.pause
        {
            return Err(error.clone());
        }
        let attempt = socket::connect(&self.address);
        match timeout_at(now() + CONNECT_TIMEOUT, attempt).await {
            Some(Ok(stream)) => {
                *backoff = Backoff::default();
                Ok(stream)
            }
            failure => {
                let reason = match failure {
                    Some(Err(error)) => error.to_string(),
                    _ => "no answer".to_owned(),
                };
                let error = Error::new(ErrorKind::PeerUnreachable, "cannot connect")
                    .with("peer", &self.address)
                    .with("reason", reason);
                backoff.pause = (backoff.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
                backoff.failed = Some((now(), error.clone()));
                Err(error)
            }
        }
    }
}

impl Slot {
    fn usable(&self) -> Option<Arc<ClientConnection>> {
        self.current.load_full().filter(|connection| !connection.is_lost())
    }
}

impl Connection for TcpPeer {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let deadline = request.deadline;
            if request.body.len() > BODY_MAX_BYTES || request.payload.len() > PAYLOAD_MAX_BYTES {
                return Err(Error::invalid("a message exceeds its limit")
                    .with("body_bytes", request.body.len())
                    .with("payload_bytes", request.payload.len()));
            }
            if deadline <= now() {
                return Err(Error::new(ErrorKind::DeadlineExceeded, "the deadline has passed"));
            }
            let outcome = timeout_at(deadline, self.exchange(request)).await;
            outcome.unwrap_or_else(|| {
                Err(Error::new(ErrorKind::DeadlineExceeded, "no reply before the deadline")
                    .with("peer", &self.address))
            })
        })
    }

    fn peer(&self) -> &PeerAddress {
        &self.address
    }
}
