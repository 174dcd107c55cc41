//! Sockets, for the TCP transport only; everything else talks through `transport`.

pub use tokio::net::{TcpListener, TcpStream};
