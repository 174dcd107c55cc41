//! TCP: the transport that works everywhere.
//!
//! Parts: `socket` (options), `reader` and `writer` (frames), `hello` (credits); for callers `peer`
//! (several connections), `client` (one), `calls` and `receive` (replies), `direct` (small calls on
//! the caller's thread); for services `server` (accepts), `serve` (one connection) and `bodies` (a
//! bound); for both `shared` (memory that two ends on one host see).
//! Invariants: connections are one-way: whoever connected asks, the other answers.

mod bodies;
mod calls;
mod client;
mod direct;
mod hello;
mod outgoing;
mod peer;
mod reader;
mod receive;
mod serve;
mod server;
mod shared;
mod socket;
mod writer;

pub use direct::on_waiting_thread;

use super::{Connection, Handler, Listener, PeerAddress, Transport};
use crate::Result;
use crate::buffer::BufferPool;
use crate::sys::disk::BoxFuture;
use peer::TcpPeer;
use std::sync::Arc;

/// What a `TcpTransport` grants and uses.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// Requests in flight that a client of ours may have on one connection.
    pub request_count_max: u32,
    /// Bytes of payload of requests in flight that a client of ours may have on one connection.
    pub payload_bytes_max: u64,
    /// Connections for bulk calls to one peer; one more is for small calls.
    pub bulk_connection_count: usize,
    /// Replies come through shared memory where both ends are on one host.
    pub shared_memory: bool,
}

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        TcpOptions {
            request_count_max: 256,
            payload_bytes_max: 64 << 20,
            bulk_connection_count: 2,
            shared_memory: true,
        }
    }
}

/// TCP with firepond's framing.
pub struct TcpTransport {
    buffers: BufferPool,
    options: TcpOptions,
}

impl TcpTransport {
    /// A transport whose receive buffers come from `buffers`.
    pub fn new(buffers: BufferPool) -> TcpTransport {
        TcpTransport::with_options(buffers, TcpOptions::default())
    }

    /// A transport with other limits.
    pub fn with_options(buffers: BufferPool, options: TcpOptions) -> TcpTransport {
        assert!(options.request_count_max > 0, "a client needs a credit to ask anything");
        TcpTransport { buffers, options }
    }
}

impl Transport for TcpTransport {
    fn connect(&self, address: &PeerAddress) -> Arc<dyn Connection> {
        Arc::new(TcpPeer::new(address.clone(), self.buffers.clone(), self.options))
    }

    fn listen<'a>(
        &'a self,
        address: &'a PeerAddress,
        handler: Arc<dyn Handler>,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let buffers = self.buffers.clone();
            let server = server::listen(address, handler, buffers, self.options).await?;
            Ok(Box::new(server) as Box<dyn Listener>)
        })
    }

    fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    fn name(&self) -> &'static str {
        "tcp"
    }
}
