//! What `ChainClient` promises, over memory, against replicas that do as they are told.

mod chain_world;

use chain_world::{CHAIN, World, chunk, deadline, read, update};
use firepond_core::ErrorKind;
use firepond_core::routing::Durability;
use firepond_core::sys::clock::now;
use firepond_core::transport::SinkSlice;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Goal: a dead head costs time, not the update. Method: the head's listener is gone; routing moves
/// on after 200 ms. Oracle: the reply, the suspicion, and one write id at every replica.
#[tokio::test(start_paused = true)]
async fn update_follows_the_chain_to_its_new_head() {
    let mut world = World::new(3).await;
    world.stop(0);
    let client = world.client();
    let call =
        tokio::spawn(async move { client.update(CHAIN, update(b"data"), deadline(5000)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.publish(&[1, 2]);
    call.await.expect("task").expect("the new head answers");
    assert_eq!(world.replicas[1].write_ids().len(), 1);
    let suspicion = world.suspicions.recv().await.expect("reported");
    assert_eq!(suspicion.node.0, 1);
}

/// Goal: exactly-once. Method: the head fails three times in ways that may be retried. Oracle: the
/// same write id at each of the four tries; the next update has the next sequence.
#[tokio::test(start_paused = true)]
async fn tries_share_one_write_id() {
    let world = World::new(1).await;
    let kinds = [ErrorKind::ChunkBusy, ErrorKind::PeerOverloaded, ErrorKind::ChainVersionMismatch];
    kinds.into_iter().for_each(|kind| world.replicas[0].fail_next(kind));
    let client = world.client();
    client.update(CHAIN, update(b"data"), deadline(5000)).await.expect("settles");
    client.update(CHAIN, update(b"more"), deadline(5000)).await.expect("settles");
    let ids = world.replicas[0].write_ids();
    assert_eq!(ids.len(), 5);
    assert!(ids[..4].iter().all(|id| *id == ids[0]));
    assert_eq!((ids[4].channel, ids[4].sequence), (ids[0].channel, ids[0].sequence + 1));
}

/// Goal: each try carries the chain version of that moment. Method: a mismatch, then newer routing.
#[tokio::test(start_paused = true)]
async fn tries_carry_the_current_chain_version() {
    let mut world = World::new(2).await;
    world.replicas[0].fail_next(ErrorKind::ChainVersionMismatch);
    let client = world.client();
    let call =
        tokio::spawn(async move { client.update(CHAIN, update(b"data"), deadline(5000)).await });
    tokio::time::sleep(Duration::from_micros(100)).await;
    world.publish(&[0, 1]);
    call.await.expect("task").expect("settles");
    let versions = world.replicas[0].chain_versions();
    assert_eq!(versions.first(), Some(&1));
    assert_eq!(versions.last(), Some(&2));
}

/// Goal: an outcome that is not known retires its channel. Oracle: the next update's channel.
#[tokio::test(start_paused = true)]
async fn unknown_outcome_retires_the_channel() {
    let world = World::new(1).await;
    world.replicas[0].set_silent(true);
    let client = world.client();
    let begin = now();
    let error = client.update(CHAIN, update(b"data"), deadline(300)).await.expect_err("silence");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert!(begin.elapsed() <= Duration::from_millis(301));
    world.replicas[0].set_silent(false);
    client.update(CHAIN, update(b"data"), deadline(300)).await.expect("settles");
    let ids = world.replicas[0].write_ids();
    assert_ne!(ids.first().map(|id| id.channel), ids.last().map(|id| id.channel));
}

/// Goal: what the chain refuses for good comes back at once and keeps its channel.
#[tokio::test(start_paused = true)]
async fn refusals_are_final() {
    let world = World::new(1).await;
    world.replicas[0].fail_next(ErrorKind::ChunkExists);
    let client = world.client();
    let error = client.update(CHAIN, update(b"data"), deadline(5000)).await.expect_err("exists");
    assert_eq!(error.kind(), ErrorKind::ChunkExists);
    client.update(CHAIN, update(b"data"), deadline(5000)).await.expect("settles");
    let ids = world.replicas[0].write_ids();
    assert_eq!((ids[1].channel, ids[1].sequence), (ids[0].channel, 2));
}

/// Goal: "exists" after several tries is certain: a fence goes first, with the next sequence, and a
/// try that came in between counts. Method: a try fails, the next is told that the chunk exists,
/// the fence is taken, or is told that the write happened. Oracle: the outcome, and what was sent.
#[tokio::test(start_paused = true)]
async fn refusals_after_several_tries_are_fenced() {
    for happened in [false, true] {
        let world = World::new(1).await;
        let head = &world.replicas[0];
        head.fail_next(ErrorKind::ChunkBusy);
        head.fail_next(ErrorKind::ChunkExists);
        if happened {
            head.fail_next(ErrorKind::UpdateStale);
        }
        let client = world.client();
        let outcome = client.update(CHAIN, update(b"data"), deadline(5000)).await;
        assert_eq!(
            outcome.err().map(|error| error.kind() == ErrorKind::ChunkExists),
            (!happened).then_some(true)
        );
        client.update(CHAIN, update(b"more"), deadline(5000)).await.expect("settles");
        let sequences: Vec<u64> = head.write_ids().iter().map(|id| id.sequence).collect();
        let expected: &[u64] = if happened { &[1, 1, 2, 1, 3] } else { &[1, 1, 2, 3] };
        assert_eq!(sequences, expected);
        assert!(head.write_ids().iter().all(|id| id.channel == 0), "the channel is settled");
    }
}

/// Goal: a head that stopped without closing its sockets is left as soon as routing says so.
#[tokio::test(start_paused = true)]
async fn silent_head_is_left_when_routing_moves_on() {
    let mut world = World::new(2).await;
    world.replicas[0].set_silent(true);
    let client = world.client();
    let begin = now();
    let call =
        tokio::spawn(async move { client.update(CHAIN, update(b"data"), deadline(60_000)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.publish(&[1]);
    call.await.expect("task").expect("the new head answers");
    assert!(begin.elapsed() < Duration::from_millis(300));
}

/// Goal: reads fail over by themselves, one by one. Method: one replica dead, one refuses one
/// chunk, 300 chunks, half with sinks. Oracle: the bytes of each chunk; a missing chunk is its own
/// error.
#[tokio::test(start_paused = true)]
async fn reads_fail_over_one_by_one() {
    let mut world = World::new(3).await;
    world.stop(1);
    world.replicas[0].refuse_chunk(chunk(7), ErrorKind::ChunkChecksumMismatch);
    let memory: Vec<_> = (0..300).map(|_| Arc::new(Mutex::new(vec![0; 16]))).collect();
    let reads = (0..300_u32).map(|index| {
        let mut read = read(chunk(index), 16);
        if index % 2 == 1 {
            let owner = Arc::clone(&memory[index as usize]);
            let address = owner.lock().as_mut_ptr();
            // SAFETY: the vector is never resized, and read only when the call is over.
            read.sink = Some(unsafe { SinkSlice::new(address, 16, owner) });
        }
        read
    });
    let mut reads: Vec<_> = reads.collect();
    reads.push(read(chunk(chain_world::MISSING), 16));
    let outcomes = world.client().batch_read(reads, deadline(5000)).await;
    for (index, outcome) in outcomes[..300].iter().enumerate() {
        let outcome = outcome.as_ref().expect("one replica has it");
        let expected = chain_world::contents(&chunk(index as u32));
        assert_eq!(outcome.len, 16);
        match index % 2 {
            1 => assert_eq!(*memory[index].lock(), expected),
            _ => assert_eq!(outcome.bytes.filled(), expected),
        }
    }
    let missing = outcomes[300].as_ref().expect_err("missing");
    assert_eq!(missing.kind(), ErrorKind::ChunkNotFound);
}

/// Goal: a chunk that is damaged everywhere is an error at once, of that read alone; a replica that
/// is away may have it, and is waited for, unless the chain may lose values. Oracle: kinds and
/// times.
#[tokio::test(start_paused = true)]
async fn lost_chunks_fail_at_once() {
    let mut world = World::new(3).await;
    for replica in &world.replicas {
        replica.refuse_chunk(chunk(7), ErrorKind::ChunkChecksumMismatch);
    }
    let client = world.client();
    let read_both = async |patience_ms| {
        let begin = now();
        let reads = vec![read(chunk(7), 16), read(chunk(8), 16)];
        let mut outcomes = client.batch_read(reads, deadline(patience_ms)).await;
        outcomes.pop().expect("two").expect("the neighbour is whole");
        let error = outcomes.pop().expect("one").expect_err("no good copy");
        (error.kind(), begin.elapsed())
    };
    let (kind, taken) = read_both(60_000).await;
    assert_eq!(kind, ErrorKind::ChunkLost);
    assert!(taken < Duration::from_millis(10), "{taken:?}");
    world.publish_with(&[0, 1], &[2], Durability::Durable);
    let (kind, taken) = read_both(2000).await;
    assert_eq!(kind, ErrorKind::DeadlineExceeded);
    assert!(taken > Duration::from_millis(1000), "{taken:?}");
    world.publish_with(&[0, 1], &[2], Durability::Cache);
    let (kind, taken) = read_both(60_000).await;
    assert_eq!(kind, ErrorKind::ChunkLost);
    assert!(taken < Duration::from_millis(10), "{taken:?}");
}

/// Goal: bytes that changed on the way are never handed out. Oracle: another replica's bytes.
#[tokio::test(start_paused = true)]
async fn corrupt_bytes_are_read_elsewhere() {
    let world = World::new(2).await;
    world.replicas[0].set_corrupting(true);
    let mut read = read(chunk(3), 16);
    read.prefer_head = true;
    let outcomes = world.client().batch_read(vec![read], deadline(5000)).await;
    let outcome = outcomes[0].as_ref().expect("the other replica answers");
    assert_eq!(outcome.bytes.filled(), chain_world::contents(&chunk(3)));
}

/// Goal: a silent replica delays a read by one try, not until the deadline.
#[tokio::test(start_paused = true)]
async fn silent_replica_is_passed_over() {
    let world = World::new(2).await;
    world.replicas[0].set_silent(true);
    let begin = now();
    let mut read = read(chunk(3), 16);
    read.prefer_head = true;
    let outcomes = world.client().batch_read(vec![read], deadline(60_000)).await;
    outcomes[0].as_ref().expect("the other replica answers");
    assert!(begin.elapsed() < Duration::from_millis(1500), "{:?}", begin.elapsed());
}

/// Goal: reads end at their deadline when nobody serves. Oracle: kind and time.
#[tokio::test(start_paused = true)]
async fn reads_end_at_the_deadline() {
    let mut world = World::new(2).await;
    world.stop(0);
    world.stop(1);
    let begin = now();
    let outcomes = world.client().batch_read(vec![read(chunk(3), 16)], deadline(500)).await;
    let error = outcomes[0].as_ref().expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    assert!(begin.elapsed() <= Duration::from_millis(501));
}

/// Goal: no request has more than 1024 reads or 2 MiB. Oracle: what the replicas saw.
#[tokio::test(start_paused = true)]
async fn batches_are_split() {
    let world = World::new(1).await;
    let reads = (0..3000).map(|index| read(chunk(index), 16)).collect();
    let outcomes = world.client().batch_read(reads, deadline(5000)).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(world.replicas[0].batch_lens(), [1024, 1024, 952]);
    let large = (0..3).map(|index| read(chunk(index), 1 << 20)).collect();
    world.client().batch_read(large, deadline(5000)).await;
    assert_eq!(world.replicas[0].batch_lens()[3..], [2, 1]);
}

/// Goal: stats come in the order asked, from a replica that lives.
#[tokio::test(start_paused = true)]
async fn stats_fail_over() {
    let mut world = World::new(2).await;
    world.stop(1);
    let asked = [(CHAIN, chunk(5)), (CHAIN, chunk(2))];
    let stats = world.client().batch_stat(&asked, deadline(5000)).await;
    let found: Vec<_> = stats.into_iter().map(|stat| stat.expect("answered").chunk).collect();
    assert_eq!(found, [chunk(5), chunk(2)]);
}
