//! The simulated network: a transport whose messages have the weather's fates, and whose handlers
//! run on the machine that listens.
//!
//! Why around the transport in memory: payloads, sinks and limits are then those of the transport
//! that the conformance suite tests. Invariants: a handler is a task of the listening machine, so
//! it stops with it; what a dead machine sends goes nowhere; deadlines travel as the time that is
//! left, as clocks differ.

use super::site::Site;
use super::weather::Fate;
use crate::plan::Process;
use firepond_core::buffer::BufferPool;
use firepond_core::sys::clock;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::sys::machine::Machine;
use firepond_core::transport::memory::MemoryTransport;
use firepond_core::transport::{
    Connection, Handler, IncomingRequest, Listener, OutgoingReply, PeerAddress, Reply, Request,
    Transport,
};
use firepond_core::wire::storage::{UpdateKind, UpdateRequest};
use firepond_core::wire::{MessageKind, decode};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the buffers of one process.
pub(super) const BUFFER_BYTES: usize = 64 << 20;

/// One process's door to the network.
pub(super) struct SimulatedTransport {
    site: Arc<Site>,
    process: Process,
    machine: Machine,
    inner: MemoryTransport,
}

struct SimulatedConnection {
    site: Arc<Site>,
    machine: Machine,
    from: Process,
    to: Option<Process>,
    inner: Arc<dyn Connection>,
}

struct OnMachine {
    machine: Machine,
    handler: Arc<dyn Handler>,
}

/// The task of a call ends with the call.
struct EndOnDrop(tokio::task::AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SimulatedTransport {
    pub(super) fn new(site: &Arc<Site>, process: Process, machine: &Machine) -> SimulatedTransport {
        let inner = MemoryTransport::new(&site.network, BufferPool::new(BUFFER_BYTES));
        SimulatedTransport { site: Arc::clone(site), process, machine: machine.clone(), inner }
    }
}

impl Transport for SimulatedTransport {
    fn connect(&self, address: &PeerAddress) -> Arc<dyn Connection> {
        Arc::new(SimulatedConnection {
            site: Arc::clone(&self.site),
            machine: self.machine.clone(),
            from: self.process,
            to: process_of(address),
            inner: self.inner.connect(address),
        })
    }

    fn listen<'a>(
        &'a self,
        address: &'a PeerAddress,
        handler: Arc<dyn Handler>,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>>> {
        let machine = self.machine.clone();
        self.inner.listen(address, Arc::new(OnMachine { machine, handler }))
    }

    fn buffers(&self) -> &BufferPool {
        self.inner.buffers()
    }

    fn name(&self) -> &'static str {
        "simulated"
    }
}

impl Handler for OnMachine {
    fn handle(&self, mut request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        // Called by the caller's task, on the caller's clock.
        let left = request.deadline.saturating_duration_since(clock::now());
        request.deadline = self.machine.now() + left;
        let handler = Arc::clone(&self.handler);
        Box::pin(async move {
            let task = self.machine.spawn(async move { handler.handle(request).await });
            let _end = EndOnDrop(task.abort_handle());
            task.await.unwrap_or_else(|_| Err(unreachable("the connection broke")))
        })
    }
}

impl Connection for SimulatedConnection {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let (kind, deadline) = (request.kind, request.deadline);
            let outcome = match clock::timeout_at(deadline, self.exchange(request)).await {
                Some(outcome) => outcome,
                None => Err(Error::new(ErrorKind::DeadlineExceeded, "no reply in time")),
            };
            let outcome = outcome.map_err(|error| error.with("peer", self.inner.peer()));
            let (from, to) = (self.from, self.inner.peer());
            match &outcome {
                Ok(_) => self.site.trace.line(format_args!("{from} {kind:?} {to}: ok")),
                Err(error) => {
                    let what = error.kind().name();
                    self.site.trace.line(format_args!("{from} {kind:?} {to}: {what}"));
                }
            }
            outcome
        })
    }

    fn peer(&self) -> &PeerAddress {
        self.inner.peer()
    }
}

impl SimulatedConnection {
    async fn exchange(&self, request: Request) -> Result<Reply> {
        let Some(to) = self.to else { return Err(unreachable("no such host")) };
        match self.site.weather.fate(self.from, to, may_stray(&request)) {
            Fate::Arrives(delay) => pause(delay).await,
            Fate::Breaks(delay) => {
                pause(delay).await;
                return Err(unreachable("the request was lost"));
            }
            Fate::Strays(delay) => {
                self.stray(request, delay);
                return Err(unreachable("the connection broke behind the request"));
            }
            Fate::Vanishes => return Err(self.silence().await),
        }
        if self.machine.is_dead() {
            std::future::pending::<()>().await;
        }
        let reply = self.inner.call(request).await;
        match self.site.weather.fate(to, self.from, false) {
            Fate::Arrives(delay) | Fate::Strays(delay) => pause(delay).await,
            Fate::Breaks(delay) => {
                pause(delay).await;
                return Err(unreachable("the reply was lost"));
            }
            Fate::Vanishes => return Err(self.silence().await),
        }
        reply
    }

    async fn silence(&self) -> Error {
        pause(self.site.weather.silence()).await;
        unreachable("the peer is silent")
    }

    /// The message arrives late, when nobody waits for its reply any more.
    fn stray(&self, request: Request, delay: Duration) {
        let late = Request {
            kind: request.kind,
            body: request.body,
            payload: request.payload,
            deadline: request.deadline + delay,
            trace: request.trace,
            reply_bytes_max: request.reply_bytes_max,
            sink: None,
        };
        let inner = Arc::clone(&self.inner);
        // The network's own: it arrives although its sender dies.
        tokio::spawn(async move {
            pause(delay).await;
            inner.call(late).await.ok();
        });
    }
}

/// Whose address it is: "storage-0:7".
fn process_of(address: &PeerAddress) -> Option<Process> {
    let (host, _) = address.0.rsplit_once(':')?;
    if host == "meta" {
        return Some(Process::Meta);
    }
    let (name, index) = host.split_once('-')?;
    let index = index.parse().ok()?;
    match name {
        "storage" => Some(Process::Storage(index)),
        "client" => Some(Process::Client(index)),
        "manager" => Some(Process::Manager(index)),
        _ => None,
    }
}

/// Updates of chunks: what a late one must not do is what exactly-once is about. Nobody remembers
/// that there was nothing to remove, so a removal that strays may remove what came after it.
fn may_stray(request: &Request) -> bool {
    match request.kind {
        MessageKind::Update => decode::<UpdateRequest>(&request.body)
            .is_ok_and(|update| update.kind != UpdateKind::Remove),
        MessageKind::Forward => true,
        _ => false,
    }
}

pub(super) async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

pub(super) fn unreachable(why: &str) -> Error {
    Error::new(ErrorKind::PeerUnreachable, why)
}
