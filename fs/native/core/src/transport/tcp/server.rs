//! The listening end: accepts connections and serves each on a task of its own.
//!
//! Invariants: dropping the listener ends its connections, and with each connection its handlers.

use super::TcpOptions;
use super::serve::{ServerConnection, serve};
use super::socket;
use crate::buffer::BufferPool;
use crate::sys::clock::sleep;
use crate::sys::net::{TcpListener, TcpStream};
use crate::sys::task::spawn;
use crate::transport::{Handler, Listener, PeerAddress};
use crate::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// Pause after the system refused to accept (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) struct TcpServer {
    address: PeerAddress,
    task: JoinHandle<()>,
}

/// Binds and begins to serve.
pub(super) async fn listen(
    address: &PeerAddress,
    handler: Arc<dyn Handler>,
    buffers: BufferPool,
    options: TcpOptions,
) -> Result<TcpServer> {
    let refused = |error: std::io::Error| {
        Error::new(ErrorKind::IoFailed, format!("cannot listen: {error}")).with("address", address)
    };
    let listener = TcpListener::bind(address.0.as_str()).await.map_err(refused)?;
    let bound = PeerAddress(listener.local_addr().map_err(refused)?.to_string());
    let task = spawn(accept(listener, handler, buffers, options));
    Ok(TcpServer { address: bound, task })
}

async fn accept(
    listener: TcpListener,
    handler: Arc<dyn Handler>,
    buffers: BufferPool,
    options: TcpOptions,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (handler, buffers) = (Arc::clone(&handler), buffers.clone());
                let peer = PeerAddress(peer.to_string());
                connections.spawn(serve_stream(stream, peer, handler, buffers, options));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_stream(
    stream: TcpStream,
    peer: PeerAddress,
    handler: Arc<dyn Handler>,
    buffers: BufferPool,
    options: TcpOptions,
) {
    if let Err(error) = socket::set_up(&stream) {
        return tracing::debug!(%peer, %error, "connection ended before it began");
    }
    let connection = ServerConnection::new(stream, peer.clone(), handler, buffers, options);
    match serve(&connection).await {
        Ok(()) => tracing::debug!(%peer, "connection ended"),
        Err(error) if error.kind() == ErrorKind::PeerUnreachable => {
            tracing::debug!(%peer, reason = error.message(), "connection ended");
        }
        Err(error) => tracing::warn!(%peer, reason = %error, "connection closed: malformed frame"),
    }
}

impl Listener for TcpServer {
    fn address(&self) -> &PeerAddress {
        &self.address
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
