//! One suite for every transport: what a caller and a service may rely on.
//!
//! Each case runs over TCP on loopback and over memory; TCP's own cases (bytes that are no frames)
//! are in `transport_world/tcp_faults.rs`.

mod transport_world;

use bytes::Bytes;
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::payload::Payload;
use firepond_core::sys::clock::now;
use firepond_core::transport::{Request, SinkPlan, SinkSlice};
use firepond_core::wire::MessageKind;
use firepond_core::{ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use transport_world::{World, pattern, request, wait_until, worlds};

const BIG_BYTES: usize = 5 << 20;

/// Memory that a sink fills, inspected when the call is over.
#[derive(Clone)]
struct Landing(Arc<Mutex<Vec<u8>>>);

impl Landing {
    fn new(len: usize) -> Landing {
        Landing(Arc::new(Mutex::new(vec![0; len])))
    }

    /// Slices of these lengths, one after the other.
    fn plan(&self, lens: Vec<usize>) -> Box<dyn SinkPlan> {
        Box::new(Slices { landing: self.clone(), lens })
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
}

struct Slices {
    landing: Landing,
    lens: Vec<usize>,
}

impl SinkPlan for Slices {
    fn plan(&mut self, _body: &[u8], payload_len: usize) -> Result<Vec<SinkSlice>> {
        let mut slices = Vec::new();
        let mut start = 0;
        for len in &self.lens {
            let address = self.landing.0.lock()[start..].as_mut_ptr();
            let owner = Arc::clone(&self.landing.0) as Arc<_>;
            // SAFETY: the vector is never resized, and read only when the call is over.
            slices.push(unsafe { SinkSlice::new(address, *len, owner) });
            start += len;
        }
        assert_eq!(start, payload_len);
        Ok(slices)
    }
}

async fn echo(world: &World, bytes: Vec<u8>) -> Vec<u8> {
    let mut request = request("echo", 5_000);
    request.payload = Payload::from_bytes(bytes.into());
    let reply = world.connection().call(request).await.expect("echo");
    assert_eq!(reply.body.as_ref(), b"echo");
    reply.payload.complete().await.expect("complete").to_vec()
}

/// Goal: bodies and payloads of every size come back unchanged. Oracle: the bytes sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_come_back() {
    for world in worlds().await {
        for len in [0, 1, 4095, 65_536, 65_537, 262_144, 262_145, BIG_BYTES] {
            assert_eq!(echo(&world, pattern(len)).await, pattern(len), "{} {len}", world.name);
        }
    }
}

/// Goal: a reply's payload lands in the caller's slices. Oracle: the memory afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_are_filled() {
    for world in worlds().await {
        let mut lens = vec![1, 100_000, 4096];
        lens.extend(std::iter::repeat_n(4096, 200));
        let total = lens.iter().sum();
        let landing = Landing::new(total);
        let mut request = request("echo", 5_000);
        request.payload = Payload::from_bytes(pattern(total).into());
        request.sink = Some(landing.plan(lens));
        let reply = world.connection().call(request).await.expect("echo");
        assert!(reply.payload.is_empty());
        assert!(landing.bytes() == pattern(total), "{}", world.name);
    }
}

/// Goal: cut-through. Method: the sender holds its last bytes back until the service says that it
/// saw the first ones. Oracle: this ends at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_bytes_arrive_before_the_last_are_sent() {
    for world in worlds().await {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let (payload, mut writer) =
            Payload::streaming(pool.acquire(BIG_BYTES).await.expect("room"));
        let bytes = pattern(BIG_BYTES);
        let mut call = request("stream", 10_000);
        call.payload = payload;
        let connection = world.connection();
        let call = tokio::spawn(async move { connection.call(call).await });
        writer.unfilled()[..1 << 20].copy_from_slice(&bytes[..1 << 20]);
        writer.advance(1 << 20);
        wait_until("the service saw the first bytes", || world.service.seen_bytes() > 0).await;
        writer.unfilled().copy_from_slice(&bytes[1 << 20..]);
        writer.advance(BIG_BYTES - (1 << 20));
        drop(writer);
        let reply = call.await.expect("task").expect("reply");
        assert_eq!(reply.body.as_ref(), BIG_BYTES.to_string().as_bytes(), "{}", world.name);
    }
}

/// Goal: a sender that gives up its payload ends the call, and the service learns of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_payload_aborts_the_call() {
    for world in worlds().await {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let (payload, mut writer) =
            Payload::streaming(pool.acquire(BIG_BYTES).await.expect("room"));
        let mut call = request("stream", 10_000);
        call.payload = payload;
        writer.advance(1 << 20);
        let connection = world.connection();
        let call = tokio::spawn(async move { connection.call(call).await });
        wait_until("the service began", || world.service.running() == 1).await;
        drop(writer);
        call.await.expect("task").expect_err("aborted");
        wait_until("the service ended", || world.service.running() == 0).await;
        wait_until("its memory is free", || world.server_pool.used_bytes() == 0).await;
    }
}

/// Goal: a small call passes a 32 MiB payload that stalls halfway. Oracle: the small reply comes
/// while the big call still waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_calls_pass_a_stalled_payload() {
    for world in worlds().await {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let len = 32 << 20;
        let (payload, mut writer) = Payload::streaming(pool.acquire(len).await.expect("room"));
        writer.advance(len / 2);
        let mut call = request("stream", 20_000);
        call.payload = payload;
        let connection = world.connection();
        let big = tokio::spawn(async move { connection.call(call).await });
        wait_until("half is there", || world.service.seen_bytes() >= len / 2).await;
        assert_eq!(echo(&world, pattern(100)).await, pattern(100));
        assert_eq!(echo(&world, pattern(100_000)).await, pattern(100_000));
        assert!(!big.is_finished());
        writer.advance(len / 2);
        drop(writer);
        big.await.expect("task").expect("reply");
    }
}

/// Goal: replies overtake each other. Method: the first call waits for a gate that opens after the
/// second was answered. Oracle: both end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_come_in_any_order() {
    for world in worlds().await {
        let connection = world.connection();
        let slow = tokio::spawn(async move { connection.call(request("gate", 10_000)).await });
        wait_until("the gate is watched", || world.service.running() == 1).await;
        assert_eq!(echo(&world, pattern(10)).await, pattern(10));
        assert!(!slow.is_finished());
        world.service.open_gate();
        slow.await.expect("task").expect("reply");
    }
}

/// Goal: a call ends at its deadline, its sink is let go, and the handler is dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_end_calls() {
    for world in worlds().await {
        let landing = Landing::new(8);
        let mut call = request("gate", 100);
        call.sink = Some(landing.plan(vec![8]));
        let begin = now();
        let error = world.connection().call(call).await.expect_err("late");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", world.name);
        assert!(begin.elapsed() < Duration::from_secs(2));
        assert_eq!(Arc::strong_count(&landing.0), 1, "{}: nobody holds the sink", world.name);
        wait_until("the handler is gone", || world.service.running() == 0).await;
        let past = Request::new(MessageKind::Ping, Bytes::from_static(b"echo"), begin);
        let error = world.connection().call(past).await.expect_err("too late");
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    }
}

/// Goal: dropping a call drops its handler, wherever the call was. Oracle: the count of handlers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancellation_reaches_the_handler() {
    for world in worlds().await {
        let connection = world.connection();
        let call = tokio::spawn(async move { connection.call(request("gate", 30_000)).await });
        wait_until("the handler runs", || world.service.running() == 1).await;
        call.abort();
        wait_until("the handler is gone", || world.service.running() == 0).await;
        assert_eq!(echo(&world, pattern(10)).await, pattern(10));
    }
}

/// Goal: the server's memory bound holds against a flood, and the flood ends well. Method: 64 calls
/// of 4 MiB at a pool of 192 MiB. Oracle: the highest use ever seen, and every reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_stays_within_the_bound() {
    for world in worlds().await {
        let bytes = Payload::from_bytes(vec![7; 4 << 20].into());
        let calls: Vec<_> = (0..64)
            .map(|_| {
                let mut call = request("sleep", 60_000);
                call.payload = bytes.clone();
                let connection = world.connection();
                tokio::spawn(async move { connection.call(call).await })
            })
            .collect();
        for call in calls {
            match call.await.expect("task") {
                Ok(reply) => assert_eq!(reply.body.as_ref(), b"slept"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::PeerOverloaded, "{error}"),
            }
        }
        assert!(world.service.pool_peak_bytes() <= world.server_pool.limit_bytes());
        wait_until("all memory is free", || world.server_pool.used_bytes() == 0).await;
    }
}

/// Goal: no more requests run than the server granted. Oracle: the highest number of handlers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credits_bound_the_requests() {
    for world in worlds().await {
        let Some(limit) = world.request_count_max else { continue };
        let calls: Vec<_> = (0..4 * limit)
            .map(|_| {
                let connection = world.connection();
                tokio::spawn(async move { connection.call(request("sleep", 60_000)).await })
            })
            .collect();
        for call in calls {
            call.await.expect("task").expect("reply");
        }
        assert!(world.service.running_peak() <= limit as usize);
    }
}

/// Goal: an error of the service keeps kind, message and context. Oracle: what the service made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_keep_kind_and_context() {
    for world in worlds().await {
        let error = world.connection().call(request("fail", 5_000)).await.expect_err("fails");
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert_eq!(error.message(), "no extent");
        assert!(error.context().contains(&("disk".to_owned(), "/d0".to_owned())));
    }
}

/// Goal: when the listener goes away, calls in flight and later ones fail as unreachable, at once,
/// and the handlers are dropped; when it is back, the same connection object works again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_the_peer_fails_calls() {
    for mut world in worlds().await {
        let connection = world.connection();
        let stuck = Arc::clone(&connection);
        let call = tokio::spawn(async move { stuck.call(request("gate", 30_000)).await });
        wait_until("the handler runs", || world.service.running() == 1).await;
        world.drop_listener();
        let begin = now();
        let error = call.await.expect("task").expect_err("lost");
        assert_eq!(error.kind(), ErrorKind::PeerUnreachable, "{}", world.name);
        wait_until("the handler is gone", || world.service.running() == 0).await;
        let error = connection.call(request("echo", 30_000)).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::PeerUnreachable, "{}", world.name);
        assert!(begin.elapsed() < Duration::from_secs(2));
        world.listen_again().await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        connection.call(request("echo", 5_000)).await.expect("works again");
    }
}

/// Goal: what exceeds a limit is refused before it is sent. Oracle: the kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_messages_are_refused() {
    for world in worlds().await {
        let body = Bytes::from(vec![0; (4 << 20) + 1]);
        let deadline = now() + Duration::from_secs(5);
        let call = Request::new(MessageKind::Ping, body, deadline);
        let error = world.connection().call(call).await.expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{}", world.name);
    }
}
