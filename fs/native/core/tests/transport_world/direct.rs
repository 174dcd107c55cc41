//! Small calls over TCP on the caller's own thread: the same outcomes as on a runtime's.

use super::{World, pattern, request, tcp_world, wait_until};
use firepond_core::ErrorKind;
use firepond_core::sys::clock::now;
use firepond_core::transport::tcp::on_waiting_thread;
use firepond_core::transport::{Reply, Request};
use std::time::Duration;
use tokio::runtime::Runtime;

/// A world whose calls are made by this thread, and everything else by the runtime's.
fn world() -> (Runtime, World) {
    let runtime = firepond_core::sys::task::runtime("test", 2).expect("a runtime");
    let world = runtime.block_on(tcp_world());
    (runtime, world)
}

fn call(runtime: &Runtime, world: &World, request: Request) -> firepond_core::Result<Reply> {
    let connection = world.connection();
    on_waiting_thread(|| runtime.block_on(connection.call(request)))
}

/// Goal: a call on the waiting thread is answered, also many, also errors. Oracle: the replies.
#[test]
fn small_calls_are_answered() {
    let (runtime, world) = world();
    for _ in 0..100 {
        let reply = call(&runtime, &world, request("echo", 5_000)).expect("echo");
        assert_eq!(reply.body.as_ref(), b"echo");
    }
    let error = call(&runtime, &world, request("fail", 5_000)).expect_err("fails");
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert!(call(&runtime, &world, request("echo", 5_000)).is_ok(), "an error breaks nothing");
}

/// Goal: a slow answer blocks nobody. Method: a call that ends only when the gate opens, awaited
/// beside a timer. Oracle: the timer goes off first; then the answer comes after all.
#[test]
fn late_replies_are_awaited() {
    let (runtime, world) = world();
    let connection = world.connection();
    let both = async {
        let mut late = connection.call(request("gate", 5_000));
        let early = tokio::time::timeout(Duration::from_millis(50), late.as_mut()).await;
        assert!(early.is_err(), "the gate is shut");
        world.service.open_gate();
        late.await
    };
    let reply = on_waiting_thread(|| runtime.block_on(both)).expect("the gate opened");
    assert_eq!(reply.body.as_ref(), b"open");
}

/// Goal: a late call that is given up is cancelled at the service. Oracle: its handlers.
#[test]
fn late_calls_are_cancelled() {
    let (runtime, world) = world();
    let error = call(&runtime, &world, request("gate", 30)).expect_err("the gate is shut");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    runtime.block_on(wait_until("the handler ended", || world.service.running() == 0));
}

/// Goal: replies that are too large for this way arrive all the same. Method: the caller promises
/// a small reply, the service sends 100 KB. Oracle: the bytes.
#[test]
fn large_replies_arrive() {
    let (runtime, world) = world();
    let reply = call(&runtime, &world, request("large", 5_000)).expect("arrives");
    let bytes = runtime.block_on(reply.payload.complete()).expect("complete").to_vec();
    assert_eq!(bytes, pattern(100_000));
}

/// Goal: a server that came back is found again. Method: its listener ends and begins anew between
/// calls. Oracle: calls fail soon, as unreachable, and succeed soon.
#[test]
fn restarted_servers_are_found() {
    let (runtime, mut world) = world();
    call(&runtime, &world, request("echo", 5_000)).expect("echo");
    world.drop_listener();
    let deadline = now() + Duration::from_secs(5);
    // Its tasks end on other threads, so a first call may still be answered.
    let gone = loop {
        match call(&runtime, &world, request("echo", 1_000)) {
            Err(error) => break error,
            Ok(_) => assert!(now() < deadline, "nobody listens"),
        }
    };
    assert_eq!(gone.kind(), ErrorKind::PeerUnreachable);
    runtime.block_on(world.listen_again());
    let deadline = now() + Duration::from_secs(5);
    while call(&runtime, &world, request("echo", 1_000)).is_err() {
        assert!(now() < deadline, "the server is back");
    }
}

/// Goal: threads do not disturb each other. Method: eight threads, 200 calls each. Oracle: the
/// replies.
#[test]
fn threads_share_a_peer() {
    let (runtime, world) = world();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let reply = call(&runtime, &world, request("echo", 5_000)).expect("echo");
                    assert_eq!(reply.body.as_ref(), b"echo");
                }
            });
        }
    });
}
