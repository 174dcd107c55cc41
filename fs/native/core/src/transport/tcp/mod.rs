//! TCP: the transport that works everywhere.

use super::{Connection, Handler, Listener, PeerAddress, Transport};
use crate::buffer::BufferPool;
use crate::sys::disk::BoxFuture;
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;

/// TCP with firepond's framing.
pub struct TcpTransport {
    buffers: BufferPool,
}

impl TcpTransport {
    /// A transport whose receive buffers come from `buffers`.
    pub fn new(buffers: BufferPool) -> TcpTransport {
        TcpTransport { buffers }
    }
}

impl Transport for TcpTransport {
    fn connect(&self, _address: &PeerAddress) -> Arc<dyn Connection> {
        unreachable!("being built")
    }

    fn listen<'a>(
        &'a self,
        address: &'a PeerAddress,
        _handler: Arc<dyn Handler>,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>>> {
        Box::pin(async move {
            Err(Error::new(ErrorKind::Unsupported, "not yet").with("address", address))
        })
    }

    fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    fn name(&self) -> &'static str {
        "tcp"
    }
}
