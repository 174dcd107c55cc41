//! A transport that can be cut: what a dead or isolated process sends never arrives.

use firepond_core::buffer::BufferPool;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::{
    Connection, Handler, Listener, PeerAddress, Reply, Request, Transport,
};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokio::sync::watch;

/// Another transport behind a switch.
pub struct GatedTransport {
    pub inner: Arc<dyn Transport>,
    pub open: watch::Receiver<bool>,
}

struct GatedConnection {
    inner: Arc<dyn Connection>,
    open: watch::Receiver<bool>,
}

impl Transport for GatedTransport {
    fn connect(&self, address: &PeerAddress) -> Arc<dyn Connection> {
        Arc::new(GatedConnection { inner: self.inner.connect(address), open: self.open.clone() })
    }

    fn listen<'a>(
        &'a self,
        address: &'a PeerAddress,
        handler: Arc<dyn Handler>,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>>> {
        self.inner.listen(address, handler)
    }

    fn buffers(&self) -> &BufferPool {
        self.inner.buffers()
    }

    fn name(&self) -> &'static str {
        "gated"
    }
}

impl Connection for GatedConnection {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Reply>> {
        Box::pin(async move {
            let mut open = self.open.clone();
            tokio::select! {
                biased;
                _ = open.wait_for(|open| !open) => {
                    Err(Error::new(ErrorKind::PeerUnreachable, "cut off"))
                }
                result = self.inner.call(request) => result,
            }
        })
    }

    fn peer(&self) -> &PeerAddress {
        self.inner.peer()
    }
}
