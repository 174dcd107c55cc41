//! Measures the TCP transport against a bare socket, in one process on loopback:
//! `cargo run --release -p firepond-core --example transport_speed`.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]
#![expect(clippy::disallowed_types, reason = "the bare socket is what it compares with")]

use bytes::Bytes;
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::payload::Payload;
use firepond_core::sys::clock::now;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::sys::task::spawn_thread;
use firepond_core::transport::tcp::TcpTransport;
use firepond_core::transport::{
    Connection, Handler, IncomingRequest, OutgoingReply, PeerAddress, Request, SinkPlan, SinkSlice,
    Transport,
};
use firepond_core::wire::MessageKind;
use firepond_core::{Error, Result};
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const BLOCK_BYTES: usize = 1 << 20;
const BLOCK_COUNT: usize = 4096;
const SMALL_COUNT: usize = 40_000;

/// Swallows payloads, and answers "read" with a block.
struct Service {
    block: Payload,
}

impl Handler for Service {
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        Box::pin(async move {
            request.payload.complete().await?;
            let payload = match request.body.as_ref() {
                b"read" => vec![self.block.clone()],
                _ => vec![],
            };
            Ok(OutgoingReply { body: Bytes::from_static(b"done"), payload })
        })
    }
}

struct Landing(Arc<Mutex<Vec<u8>>>);

impl SinkPlan for Landing {
    fn plan(&mut self, _body: &[u8], payload_len: usize) -> Result<Vec<SinkSlice>> {
        let address = self.0.lock().as_mut_ptr();
        let owner = Arc::clone(&self.0) as Arc<_>;
        // SAFETY: the vector has this length, is never resized, and nobody reads it.
        Ok(vec![unsafe { SinkSlice::new(address, payload_len, owner) }])
    }
}

fn request(body: &'static [u8]) -> Request {
    let deadline = now() + Duration::from_secs(30);
    Request::new(MessageKind::BatchRead, Bytes::from_static(body), deadline)
}

/// `BLOCK_COUNT` calls, `depth` at a time, in seconds.
async fn bulk(connection: &Arc<dyn Connection>, depth: usize, write: bool) -> Result<f64> {
    let begin = now();
    let tasks: Vec<_> = (0..depth)
        .map(|_| {
            let connection = Arc::clone(connection);
            let memory = Arc::new(Mutex::new(vec![0; BLOCK_BYTES]));
            let block = Payload::from_bytes(vec![7; BLOCK_BYTES].into());
            tokio::spawn(async move {
                for _ in 0..BLOCK_COUNT / depth {
                    let mut call = request(if write { b"write" } else { b"read" });
                    if write {
                        call.payload = block.clone();
                    } else {
                        call.sink = Some(Box::new(Landing(Arc::clone(&memory))));
                    }
                    connection.call(call).await?;
                }
                Ok::<(), Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|error| Error::internal(error.to_string()))??;
    }
    Ok(begin.elapsed().as_secs_f64())
}

async fn small(connection: &Arc<dyn Connection>, depth: usize) -> Result<f64> {
    let begin = now();
    let tasks: Vec<_> = (0..depth)
        .map(|_| {
            let connection = Arc::clone(connection);
            tokio::spawn(async move {
                for _ in 0..SMALL_COUNT / depth {
                    connection.call(request(b"small")).await?;
                }
                Ok::<(), Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|error| Error::internal(error.to_string()))??;
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// Seconds that a bare socket needs for the same bytes.
fn raw() -> std::io::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sender = spawn_thread("sender", move || {
        if let Ok((mut stream, _)) = listener.accept() {
            let block = vec![7; BLOCK_BYTES];
            while stream.write_all(&block).is_ok() {}
        }
    })?;
    let mut stream = TcpStream::connect(address)?;
    let mut block = vec![0; BLOCK_BYTES];
    let begin = now();
    for _ in 0..BLOCK_COUNT {
        stream.read_exact(&mut block)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    drop(stream);
    drop(sender.join());
    Ok(seconds)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let gigabytes = (BLOCK_COUNT * BLOCK_BYTES) as f64 / 1e9;
    let raw = raw().map_err(|error| Error::io(&error, "raw socket"))?;
    println!("bare socket           {:6.2} GB/s", gigabytes / raw);
    let block = Payload::from_bytes(vec![9; BLOCK_BYTES].into());
    let server = TcpTransport::new(BufferPool::new(4 * BUFFER_MAX_BYTES));
    let address = PeerAddress("127.0.0.1:0".to_owned());
    let listener = server.listen(&address, Arc::new(Service { block })).await?;
    let client = TcpTransport::new(BufferPool::new(4 * BUFFER_MAX_BYTES));
    let connection = client.connect(listener.address());
    for depth in [1, 2, 4, 8] {
        let read = bulk(&connection, depth, false).await?;
        let write = bulk(&connection, depth, true).await?;
        println!(
            "1 MiB, depth {depth}: read {:6.2} GB/s ({:.2} of bare), \
             write {:6.2} GB/s ({:.2} of bare)",
            gigabytes / read,
            raw / read,
            gigabytes / write,
            raw / write,
        );
    }
    for depth in [1, 8, 32] {
        let seconds = small(&connection, depth).await?;
        println!(
            "small, depth {depth:2}: {:8.0} calls/s, {:5.1} us each",
            SMALL_COUNT as f64 / seconds,
            seconds * 1e6 * depth as f64 / SMALL_COUNT as f64,
        );
    }
    drop(listener);
    Ok(())
}
