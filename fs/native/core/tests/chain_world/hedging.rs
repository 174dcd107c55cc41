//! Hedged reads: what a slow replica costs readers, and what hedging costs the cluster.

use super::{World, chunk, contents, deadline, read};
use firepond_core::ErrorKind;
use firepond_core::sys::clock::now;
use firepond_core::transport::SinkSlice;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

const READ_COUNT: u32 = 2000;

/// Reads chunks one after the other; how long each took, in order of length.
async fn read_times(world: &World) -> Vec<Duration> {
    let (client, mut taken) = (world.client(), Vec::new());
    for index in 0..READ_COUNT {
        let begin = now();
        let reads = vec![read(chunk(index), 16)];
        let outcomes = client.batch_read(reads, deadline(5000)).await;
        let outcome = outcomes[0].as_ref().expect("a replica answers");
        assert_eq!(outcome.bytes.filled(), contents(&chunk(index)));
        taken.push(begin.elapsed());
    }
    taken.sort();
    taken
}

fn request_count(world: &World) -> usize {
    world.replicas.iter().map(|replica| replica.batch_lens().len()).sum()
}

/// Goal: one slow replica of three is not felt. Method: it answers 200 ms late, the others after 1
/// ms; 2,000 reads. Oracle: the 99th percentile, and at most 5 % more requests than reads.
#[tokio::test(start_paused = true)]
async fn a_slow_replica_is_not_felt() {
    let world = World::new(3).await;
    world.replicas.iter().for_each(|replica| replica.set_delay_ms(1));
    world.replicas[1].set_delay_ms(200);
    let taken = read_times(&world).await;
    let p99 = taken[taken.len() * 99 / 100];
    assert!(p99 <= Duration::from_millis(10), "{p99:?}");
    let extra = request_count(&world) - READ_COUNT as usize;
    assert!(extra <= READ_COUNT as usize / 20, "{extra} requests more");
    let counts = world.client().peers().read_counts();
    assert_eq!(counts.request_count, u64::from(READ_COUNT));
    assert_eq!(counts.hedge_count, extra as u64);
    assert!(counts.hedge_won_count > 0 && counts.hedge_won_count <= counts.hedge_count);
}

/// Goal: a replica that becomes slow is left, and used again when it recovered. Method: fast, then
/// slow, then fast. Oracle: its share of the requests.
#[tokio::test(start_paused = true)]
async fn slow_replicas_are_asked_less() {
    let world = World::new(3).await;
    let slow = &world.replicas[1];
    let mut shares = Vec::new();
    for delay_ms in [1, 200, 1, 1] {
        world.replicas.iter().for_each(|replica| replica.set_delay_ms(1));
        slow.set_delay_ms(delay_ms);
        let before = slow.batch_lens().len();
        read_times(&world).await;
        shares.push((slow.batch_lens().len() - before) as f64 / f64::from(READ_COUNT));
    }
    assert!(shares[0] > 0.2 && shares[1] < 0.1 && shares[3] > 0.2, "{shares:?}");
}

/// Goal: no storm. Method: all replicas become 200 times as slow at once. Oracle: the requests.
#[tokio::test(start_paused = true)]
async fn a_slow_cluster_is_not_asked_more() {
    let world = World::new(3).await;
    for delay_ms in [1, 200] {
        world.replicas.iter().for_each(|replica| replica.set_delay_ms(delay_ms));
        let before = request_count(&world);
        read_times(&world).await;
        let extra = request_count(&world) - before - READ_COUNT as usize;
        assert!(extra <= READ_COUNT as usize / 20, "{extra} requests more at {delay_ms} ms");
    }
}

/// Goal: the second answer lands where the first would have. Method: the head is silent; reads with
/// sinks, one of a chunk that the second replica refuses. Oracle: the memory; the refused read is
/// repeated on its own at the third.
#[tokio::test(start_paused = true)]
async fn second_answers_land_in_sinks() {
    let world = World::new(3).await;
    world.replicas[0].set_silent(true);
    for replica in &world.replicas[1..2] {
        replica.refuse_chunk(chunk(7), ErrorKind::TargetNotServing);
    }
    let memory: Vec<_> = (0..40).map(|_| Arc::new(Mutex::new(vec![0; 16]))).collect();
    let reads = (0..40_u32).map(|index| {
        let mut read = read(chunk(index), 16);
        read.prefer_head = true;
        let owner = Arc::clone(&memory[index as usize]);
        let address = owner.lock().as_mut_ptr();
        // SAFETY: the vector is never resized, and read only when the call is over.
        read.sink = Some(unsafe { SinkSlice::new(address, 16, owner) });
        read
    });
    let begin = now();
    let outcomes = world.client().batch_read(reads.collect(), deadline(60_000)).await;
    assert!(begin.elapsed() < Duration::from_millis(1200), "{:?}", begin.elapsed());
    for (index, outcome) in outcomes.iter().enumerate() {
        outcome.as_ref().expect("one replica has it");
        assert_eq!(*memory[index].lock(), contents(&chunk(index as u32)));
    }
}
