//! The listening end: accepts connections and serves each on a task of its own.
//!
//! Invariants: dropping the listener ends its connections, and with each connection its handlers.

use super::TcpOptions;
use super::bodies::Bodies;
use super::serve::{Room, ServerConnection, serve};
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
/// Connections at a time; each holds a little memory even when it is silent.
const CONNECTION_COUNT_MAX: usize = 4096;

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
    let (bodies, shared_bytes) = (Bodies::default(), Arc::default());
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((_, peer)) if connections.len() >= CONNECTION_COUNT_MAX => {
                tracing::warn!(%peer, count = connections.len(), "too many connections: refused");
            }
            Ok((stream, peer)) => {
                let room = (buffers.clone(), bodies.clone(), Arc::clone(&shared_bytes));
                let peer = PeerAddress(peer.to_string());
                let handler = Arc::clone(&handler);
                connections.spawn(serve_stream(stream, peer, handler, room, options));
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
    room: Room,
    options: TcpOptions,
) {
    if let Err(error) = socket::set_up(&stream) {
        return tracing::debug!(%peer, %error, "connection ended before it began");
    }
    let connection = ServerConnection::new(stream, peer.clone(), handler, room, options);
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
