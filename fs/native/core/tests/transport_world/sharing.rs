//! Replies through shared memory: the suite's world, and what only shared memory can do wrong.

use super::{World, loopback, pattern, request, wait_until};
use firepond_core::Result;
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::tcp::TcpTransport;
use firepond_core::transport::{Connection, PeerAddress, Reply, Request, Transport};
use firepond_core::wire::MessageKind;
use std::sync::Arc;

const LARGE_BYTES: usize = 100_000;

/// Calls that announce large replies, as reads do: they go over a bulk connection and get a slot.
struct Announcing(Arc<dyn Connection>);

impl Connection for Announcing {
    fn call(&self, mut request: Request) -> BoxFuture<'_, Result<Reply>> {
        request.kind = MessageKind::BatchRead;
        request.reply_bytes_max = 2 << 20;
        self.0.call(request)
    }

    fn peer(&self) -> &PeerAddress {
        self.0.peer()
    }
}

/// TCP on loopback whose connection has its shared memory.
pub(super) async fn shm_world() -> World {
    let mut world = loopback("shm", true).await;
    world.client = Arc::new(Announcing(Arc::clone(&world.client)));
    world
}

/// The mappings of shared memory that this process has, one an end.
#[expect(clippy::disallowed_methods, reason = "product code has no use for this file")]
fn mapping_count() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("there on Linux");
    maps.lines().filter(|line| line.contains("memfd:firepond")).count()
}

async fn large(world: &World) -> Vec<u8> {
    let reply = world.connection().call(request("large", 5_000)).await.expect("large");
    reply.payload.complete().await.expect("complete").to_vec()
}

/// Goal: two ends on one host come to share memory, and replies are right before and after. Method:
/// both ends in this process. Oracle: the mappings of the process, and the bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_comes_to_be_shared() {
    let world = shm_world().await;
    assert_eq!(large(&world).await, pattern(LARGE_BYTES));
    wait_until("both ends mapped it", || mapping_count() >= 2).await;
    for _ in 0..100 {
        assert_eq!(large(&world).await, pattern(LARGE_BYTES));
    }
}

/// Goal: callers that go away neither lose slots for good nor get others' bytes. Method: 64 calls
/// that wait for a gate are dropped, which is more than there are slots; large replies meanwhile
/// and afterwards. Oracle: the bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_calls_give_their_slots_back() {
    let world = shm_world().await;
    wait_until("both ends mapped it", || mapping_count() >= 2).await;
    large(&world).await;
    for _ in 0..8 {
        let error = world.connection().call(request("gate", 20)).await.expect_err("shut");
        assert_eq!(error.kind(), firepond_core::ErrorKind::DeadlineExceeded);
        assert_eq!(large(&world).await, pattern(LARGE_BYTES));
    }
    world.service.open_gate();
    wait_until("all handlers ended", || world.service.running() == 0).await;
    for _ in 0..64 {
        assert_eq!(large(&world).await, pattern(LARGE_BYTES));
    }
}

/// Goal: a server without shared memory is talked to all the same. Method: only the client has it
/// switched on. Oracle: the bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_falls_back_to_the_socket() {
    let world = loopback("tcp", false).await;
    let client = TcpTransport::new(BufferPool::new(BUFFER_MAX_BYTES));
    let connection = Announcing(client.connect(&world.address));
    for _ in 0..10 {
        let reply = connection.call(request("large", 5_000)).await.expect("large");
        assert_eq!(reply.payload.filled(), pattern(LARGE_BYTES));
    }
}
