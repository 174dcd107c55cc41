//! A service to call, behind each transport.

mod direct;
mod sharing;
mod tcp_faults;

use bytes::Bytes;
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::payload::Payload;
use firepond_core::sys::clock::now;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::memory::{MemoryNetwork, MemoryTransport};
use firepond_core::transport::tcp::{TcpOptions, TcpTransport};
use firepond_core::transport::{
    Connection, Handler, IncomingRequest, Listener, OutgoingReply, PeerAddress, Request, Transport,
};
use firepond_core::wire::MessageKind;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Does what a request's body says.
pub(crate) struct Service {
    pool: BufferPool,
    gate: watch::Sender<bool>,
    running: AtomicUsize,
    running_peak: AtomicUsize,
    pool_peak: AtomicUsize,
    seen: AtomicUsize,
}

impl Service {
    fn new(pool: BufferPool) -> Service {
        Service {
            pool,
            gate: watch::Sender::new(false),
            running: AtomicUsize::new(0),
            running_peak: AtomicUsize::new(0),
            pool_peak: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
        }
    }

    /// Handlers that run now.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// The most that ever ran.
    pub(crate) fn running_peak(&self) -> usize {
        self.running_peak.load(Ordering::SeqCst)
    }

    /// The most memory that the pool ever had out.
    pub(crate) fn pool_peak_bytes(&self) -> usize {
        self.pool_peak.load(Ordering::SeqCst)
    }

    /// Bytes that the last "stream" saw.
    pub(crate) fn seen_bytes(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// Lets "gate" answer.
    pub(crate) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    async fn answer(&self, request: IncomingRequest) -> Result<OutgoingReply> {
        let _running = Running::new(self);
        self.pool_peak.fetch_max(self.pool.used_bytes(), Ordering::SeqCst);
        match request.body.as_ref() {
            b"echo" => {
                request.payload.complete().await?;
                Ok(OutgoingReply { body: request.body, payload: vec![request.payload] })
            }
            b"stream" => {
                let mut seen = 0;
                while seen < request.payload.len() {
                    seen = request.payload.wait_filled(seen + 1).await?.len();
                    self.seen.store(seen, Ordering::SeqCst);
                }
                Ok(OutgoingReply::body(seen.to_string().into()))
            }
            b"gate" => {
                let mut gate = self.gate.subscribe();
                gate.wait_for(|open| *open).await.expect("the service lives");
                Ok(OutgoingReply::body(Bytes::from_static(b"open")))
            }
            b"sleep" => {
                request.payload.complete().await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(OutgoingReply::body(Bytes::from_static(b"slept")))
            }
            b"large" => {
                let bytes = Payload::from_bytes(pattern(100_000).into());
                Ok(OutgoingReply { body: request.body, payload: vec![bytes] })
            }
            b"fail" => Err(Error::new(ErrorKind::DiskFull, "no extent").with("disk", "/d0")),
            other => Err(Error::invalid(format!("unknown: {other:?}"))),
        }
    }
}

/// Counts a handler until it ends or is dropped.
struct Running<'a>(&'a Service);

impl<'a> Running<'a> {
    fn new(service: &'a Service) -> Running<'a> {
        let running = service.running.fetch_add(1, Ordering::SeqCst) + 1;
        service.running_peak.fetch_max(running, Ordering::SeqCst);
        service.seen.store(0, Ordering::SeqCst);
        Running(service)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Handler for Service {
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        Box::pin(self.answer(request))
    }
}

/// A transport with a listening service.
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) service: Arc<Service>,
    pub(crate) server_pool: BufferPool,
    /// The requests that a client may have in flight on one connection, if the transport grants.
    pub(crate) request_count_max: Option<u32>,
    pub(crate) address: PeerAddress,
    server: Arc<dyn Transport>,
    client: Arc<dyn Connection>,
    listener: Option<Box<dyn Listener>>,
}

impl World {
    async fn new(
        name: &'static str,
        server: Arc<dyn Transport>,
        client: Arc<dyn Transport>,
        address: &str,
        request_count_max: Option<u32>,
    ) -> World {
        let server_pool = server.buffers().clone();
        let service = Arc::new(Service::new(server_pool.clone()));
        let address = PeerAddress(address.to_owned());
        let handler = Arc::clone(&service) as Arc<dyn Handler>;
        let listener = server.listen(&address, handler).await.expect("listens");
        World {
            name,
            service,
            server_pool,
            request_count_max,
            address: listener.address().clone(),
            client: client.connect(listener.address()),
            server,
            listener: Some(listener),
        }
    }

    /// The connection to the service.
    pub(crate) fn connection(&self) -> Arc<dyn Connection> {
        Arc::clone(&self.client)
    }

    /// Ends the service's listener.
    pub(crate) fn drop_listener(&mut self) {
        self.listener = None;
    }

    /// Brings it back at the same address.
    pub(crate) async fn listen_again(&mut self) {
        let handler = Arc::clone(&self.service) as Arc<dyn Handler>;
        self.listener = Some(self.server.listen(&self.address, handler).await.expect("listens"));
    }
}

/// TCP on loopback, as between two hosts.
pub(crate) async fn tcp_world() -> World {
    loopback("tcp", false).await
}

/// TCP on loopback, with one connection for bulk and with or without shared memory for replies.
async fn loopback(name: &'static str, shared_memory: bool) -> World {
    let options = TcpOptions {
        request_count_max: 16,
        bulk_connection_count: 1,
        shared_memory,
        ..TcpOptions::default()
    };
    let server = TcpTransport::with_options(BufferPool::new(3 * BUFFER_MAX_BYTES), options);
    let client = TcpTransport::with_options(BufferPool::new(3 * BUFFER_MAX_BYTES), options);
    World::new(name, Arc::new(server), Arc::new(client), "127.0.0.1:0", Some(16)).await
}

/// Every transport.
pub(crate) async fn worlds() -> Vec<World> {
    let network = MemoryNetwork::new();
    let server = MemoryTransport::new(&network, BufferPool::new(3 * BUFFER_MAX_BYTES));
    let client = MemoryTransport::new(&network, BufferPool::new(3 * BUFFER_MAX_BYTES));
    let memory = World::new("memory", Arc::new(server), Arc::new(client), "storage:0", None).await;
    vec![memory, tcp_world().await, sharing::shm_world().await]
}

/// A request whose body tells the service what to do.
pub(crate) fn request(what: &'static str, deadline_ms: u64) -> Request {
    let deadline = now() + Duration::from_millis(deadline_ms);
    Request::new(MessageKind::Ping, Bytes::from_static(what.as_bytes()), deadline)
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Polls a condition for at most five seconds.
pub(crate) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + Duration::from_secs(5);
    while !condition() {
        assert!(now() < deadline, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
