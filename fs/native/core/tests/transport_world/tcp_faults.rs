//! Bytes that are no frames: they end their own connection and harm nothing else.

use super::{World, request, tcp_world, wait_until};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const GOOD: &[u8] = include_bytes!("../../../../../tests/golden/v1/frame_request.bin");

/// Sends bytes on a connection of its own and waits until the server ends it.
async fn expect_closed(world: &World, bytes: &[u8], what: &str) {
    let mut stream = TcpStream::connect(&world.address.0).await.expect("connects");
    // The server may close while we still write.
    drop(stream.write_all(bytes).await);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the server keeps the connection open after: {what}");
    let call = world.connection().call(request("echo", 5_000)).await;
    call.unwrap_or_else(|error| panic!("others suffer from {what}: {error}"));
}

fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = GOOD.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Goal: each kind of malformed frame closes its connection only. Oracle: end of stream there, an
/// answer elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_close_their_connection() {
    let world = tcp_world().await;
    world.connection().call(request("echo", 5_000)).await.expect("works");
    expect_closed(&world, &[b'x'; 64], "garbage").await;
    expect_closed(
        &world,
        b"GET / HTTP/1.1\r\nHost: storage.example\r\nAccept: */*\r\n\r\n          ",
        "HTTP",
    )
    .await;
    expect_closed(&world, &changed(4, &[9, 0]), "an unknown version").await;
    expect_closed(&world, &changed(60, &[0; 4]), "a bad checksum").await;
    expect_closed(&world, &changed(12, &u32::MAX.to_le_bytes()), "a body of 4 GiB").await;
    expect_closed(&world, &changed(20, &u32::MAX.to_le_bytes()), "a payload of 4 GiB").await;
    expect_closed(&world, &changed(6, &[2 | 16, 0]), "a reply from a client").await;
}

/// Goal: a client that dies within a frame frees what it held. Oracle: the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_frame_frees_its_memory() {
    let world = tcp_world().await;
    let mut stream = TcpStream::connect(&world.address.0).await.expect("connects");
    stream.write_all(&GOOD[..GOOD.len()]).await.expect("sent");
    wait_until("the payload has memory", || world.server_pool.used_bytes() > 0).await;
    drop(stream);
    wait_until("the memory is free", || world.server_pool.used_bytes() == 0).await;
    wait_until("no handler is left", || world.service.running() == 0).await;
}
