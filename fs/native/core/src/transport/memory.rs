//! The transport within one process: addresses are names, nothing is a socket.
//!
//! Why: tests and simulations of services need calls that are deterministic and can be cut at will.
//! A call runs the handler on the caller's task; only payload copies that a handler may overtake
//! run beside it, so the order of events is that of the executor.
//! Invariants: as in `transport`; a payload is copied into the receiver's pool, so that its bound
//! holds here as it does on a network. Lock: `listeners`, held to look up or change.

use super::bulk::{ReplySink, copy_parts};
use super::{
    Connection, Handler, IncomingRequest, Listener, PeerAddress, Reply, Request, Transport,
};
use crate::buffer::BufferPool;
use crate::payload::Payload;
use crate::sys::clock::{now, timeout_at};
use crate::sys::disk::BoxFuture;
use crate::watch;
use crate::wire::{BODY_MAX_BYTES, PAYLOAD_MAX_BYTES};
use crate::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What listens in this process, by name. Cloning shares it.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<Listeners>>);

#[derive(Default)]
struct Listeners {
    by_name: HashMap<PeerAddress, Service>,
    next_port: u32,
}

#[derive(Clone)]
struct Service {
    handler: Arc<dyn Handler>,
    buffers: BufferPool,
    /// Turns true when the listener goes away.
    closed: watch::Receiver<bool>,
}

/// One process's door to a `MemoryNetwork`.
pub struct MemoryTransport {
    network: MemoryNetwork,
    buffers: BufferPool,
}

struct MemoryConnection {
    network: MemoryNetwork,
    buffers: BufferPool,
    peer: PeerAddress,
}

struct MemoryListener {
    network: MemoryNetwork,
    address: PeerAddress,
    closed: watch::Sender<bool>,
}

impl MemoryNetwork {
    /// A network where nobody listens.
    pub fn new() -> MemoryNetwork {
        MemoryNetwork::default()
    }
}

impl MemoryTransport {
    /// A door whose receive buffers come from `buffers`.
    pub fn new(network: &MemoryNetwork, buffers: BufferPool) -> MemoryTransport {
        MemoryTransport { network: network.clone(), buffers }
    }
}

impl Transport for MemoryTransport {
    fn connect(&self, address: &PeerAddress) -> Arc<dyn Connection> {
        let (network, buffers) = (self.network.clone(), self.buffers.clone());
        Arc::new(MemoryConnection { network, buffers, peer: address.clone() })
    }

    fn listen<'a>(
        &'a self,
        address: &'a PeerAddress,
        handler: Arc<dyn Handler>,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut listeners = self.network.0.lock();
            let mut address = address.clone();
            if let Some(host) = address.0.strip_suffix(":0") {
                listeners.next_port += 1;
                address = PeerAddress(format!("{host}:{}", listeners.next_port));
            }
            if listeners.by_name.contains_key(&address) {
                return Err(Error::new(ErrorKind::IoFailed, "the address is in use")
                    .with("address", &address));
            }
            let (closed, receiver) = watch::channel(false);
            let service = Service { handler, buffers: self.buffers.clone(), closed: receiver };
            listeners.by_name.insert(address.clone(), service);
            let network = self.network.clone();
            Ok(Box::new(MemoryListener { network, address, closed }) as Box<dyn Listener>)
        })
    }

    fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

impl Listener for MemoryListener {
    fn address(&self) -> &PeerAddress {
        &self.address
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.network.0.lock().by_name.remove(&self.address);
        self.closed.send(true);
    }
}

impl Connection for MemoryConnection {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let deadline = request.deadline;
            if deadline <= now() {
                return Err(Error::new(ErrorKind::DeadlineExceeded, "the deadline has passed"));
            }
            let outcome = timeout_at(deadline, self.call_service(request)).await;
            outcome.unwrap_or_else(|| {
                Err(Error::new(ErrorKind::DeadlineExceeded, "no reply before the deadline")
                    .with("peer", &self.peer))
            })
        })
    }

    fn peer(&self) -> &PeerAddress {
        &self.peer
    }
}

impl MemoryConnection {
    async fn call_service(&self, request: Request) -> Result<Reply> {
        check_size(request.body.len(), request.payload.len())?;
        let service = self.network.0.lock().by_name.get(&self.peer).cloned();
        let Some(service) = service else { return Err(self.unreachable("nobody listens")) };
        let mut closed = service.closed.clone();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(self.unreachable("the listener closed")),
            reply = self.exchange(&service, request) => reply,
        }
    }

    async fn exchange(&self, service: &Service, request: Request) -> Result<Reply> {
        let mut sink = ReplySink::new(request.sink);
        let (payload, copy) = receive(&service.buffers, &request.payload).await?;
        let incoming = IncomingRequest {
            kind: request.kind,
            body: request.body,
            payload,
            deadline: request.deadline,
            trace: request.trace,
            peer: PeerAddress("memory".to_owned()),
        };
        let handler = service.handler.handle(incoming);
        let reply = tokio::select! {
            biased;
            reply = handler => reply?,
            never = copy => match never {},
        };
        let payload_len = reply.payload.iter().map(Payload::len).sum();
        check_size(reply.body.len(), payload_len)?;
        sink.begin(&reply.body, payload_len, &self.buffers)?;
        copy_parts(&reply.payload, &mut sink).await?;
        Ok(Reply { body: reply.body, payload: sink.finish() })
    }

    fn unreachable(&self, message: &str) -> Error {
        Error::new(ErrorKind::PeerUnreachable, message).with("peer", &self.peer)
    }
}

fn check_size(body_len: usize, payload_len: usize) -> Result<()> {
    if body_len > BODY_MAX_BYTES || payload_len > PAYLOAD_MAX_BYTES {
        return Err(Error::invalid("a message exceeds its limit")
            .with("body_bytes", body_len)
            .with("payload_bytes", payload_len));
    }
    Ok(())
}

/// The receiver's copy of a payload, and the work that fills it and then waits for ever.
async fn receive(
    buffers: &BufferPool,
    source: &Payload,
) -> Result<(Payload, BoxFuture<'static, std::convert::Infallible>)> {
    if source.is_empty() {
        return Ok((Payload::empty(), Box::pin(std::future::pending())));
    }
    let (copy, mut writer) = Payload::streaming(buffers.acquire(source.len()).await?);
    let source = source.clone();
    let mut done = 0;
    let ready = source.filled().len();
    writer.unfilled()[..ready].copy_from_slice(&source.filled()[..ready]);
    writer.advance(ready);
    done += ready;
    let work = async move {
        while let Ok(bytes) = source.wait_filled(done + 1).await {
            let more = &bytes[done..];
            if more.is_empty() {
                break;
            }
            writer.unfilled()[..more.len()].copy_from_slice(more);
            writer.advance(more.len());
            done += more.len();
        }
        drop(writer);
        std::future::pending().await
    };
    Ok((copy, Box::pin(work)))
}
