//! Sockets as the transport wants them.

use crate::sys::net::TcpStream;
use crate::transport::PeerAddress;
use std::time::Duration;

/// A peer that vanished without a word is noticed after this time, even on an idle connection.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Connects, and sets the socket up.
pub(super) async fn connect(address: &PeerAddress) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address.0.as_str()).await?;
    set_up(&stream)?;
    Ok(stream)
}

/// Whether the other end is on this host.
pub(super) fn is_local(stream: &TcpStream) -> bool {
    let ends = (stream.local_addr(), stream.peer_addr());
    matches!(ends, (Ok(here), Ok(there)) if here.ip() == there.ip())
}

/// Small frames leave at once; dead peers are noticed; buffer sizes are the kernel's to tune.
pub(super) fn set_up(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(SILENCE_MAX / 3)
        .with_interval(SILENCE_MAX / 3)
        .with_retries(2);
    socket.set_tcp_keepalive(&keepalive)
}
