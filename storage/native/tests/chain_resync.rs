//! Resync by what changed: how much is moved, and what happens when somebody dies in the middle.

mod harness;

use firepond_core::ids::ChangeStamp;
use firepond_core::routing::{Durability, PublicState};
use firepond_core::sys::clock;
use firepond_core::sys::random;
use firepond_core::wire::storage::UpdateKind;
use firepond_storage::chain::Backend;
use harness::{Cluster, TestClient, bare, chunk};
use std::time::Duration;

const CHUNKS_COUNT: u32 = 400;
const CHUNK_BYTES: u64 = 4000;
/// Some epochs.
const WHILE: Duration = Duration::from_secs(7);

async fn fill(client: &TestClient, chunks: impl Iterator<Item = u32>, byte: u8) {
    for index in chunks {
        let bytes = [byte; CHUNK_BYTES as usize];
        client.write(chunk(index), 0, &bytes).await.expect("write");
    }
}

fn complete_through(cluster: &Cluster, index: usize) -> ChangeStamp {
    let node = &cluster.nodes[index];
    node.store.marks(node.replica.target).expect("a living store").complete_through
}

/// A cluster with chunks that every replica knows to be complete.
async fn filled(replicas: u64) -> (Cluster, TestClient) {
    let mut cluster = Cluster::start(replicas).await;
    let client = cluster.client();
    fill(&client, 0..CHUNKS_COUNT, 1).await;
    clock::sleep(WHILE).await;
    for index in 0..replicas as usize {
        assert!(complete_through(&cluster, index) > ChangeStamp(0), "replica {index} knows");
    }
    cluster.weather.take_traffic();
    (cluster, client)
}

/// Goal: a replica that was away while k of n chunks changed gets k chunks, and the others are not
/// even asked for, at every place in the chain. Oracle: what went over the network; agreement.
#[tokio::test(start_paused = true)]
async fn only_what_changed_is_moved() {
    for away in 0..3 {
        random::seed_thread(20 + away as u64);
        let (mut cluster, client) = filled(3).await;
        cluster.kill(away);
        let changed = (0..CHUNKS_COUNT).step_by(20);
        fill(&client, changed.clone(), 2).await;
        client.send(bare(chunk(7), UpdateKind::Remove, 0)).await.expect("remove");
        clock::sleep(WHILE).await;
        cluster.weather.take_traffic();
        cluster.restart(away).await;
        cluster.wait_serving().await;
        let traffic = cluster.weather.take_traffic();
        let count = changed.count() as u64;
        assert_eq!(traffic.whole_count, count + 1, "{traffic:?}");
        assert_eq!(traffic.whole_bytes, count * CHUNK_BYTES, "{traffic:?}");
        assert!(traffic.entry_count <= 2 * (count + 1), "{traffic:?}");
        cluster.assert_replicas_agree();
    }
}

/// Goal: nothing changed, nothing is moved or asked for. Oracle: the network.
#[tokio::test(start_paused = true)]
async fn nothing_changed_nothing_moved() {
    random::seed_thread(24);
    let (mut cluster, _client) = filled(2).await;
    cluster.kill(1);
    clock::sleep(WHILE).await;
    cluster.weather.take_traffic();
    cluster.restart(1).await;
    cluster.wait_serving().await;
    let traffic = cluster.weather.take_traffic();
    assert_eq!((traffic.whole_count, traffic.entry_count), (0, 0), "{traffic:?}");
}

/// Goal: what was moved before either side died is not moved again. Method: a slow resync; the
/// successor, or the predecessor, dies in the middle. Oracle: chunks on the network in total: those
/// that changed, and the few that were on the way at the crash.
#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_costs_only_the_rest() {
    for dies in [1, 0] {
        random::seed_thread(30 + dies as u64);
        let (mut cluster, client) = filled(3).await;
        cluster.kill(1);
        fill(&client, 0..200, 2).await;
        clock::sleep(WHILE).await;
        // The one that will be the predecessor comes back with a low rate.
        for index in [0, 2] {
            cluster.kill(index);
            cluster.weather.set_resync_bytes_per_second(20 * CHUNK_BYTES);
            cluster.restart(index).await;
            let deadline = clock::now() + Duration::from_secs(60);
            while !cluster.nodes[index].is_settled() {
                assert!(clock::now() < deadline, "node {index} does not serve again");
                clock::sleep(Duration::from_millis(20)).await;
            }
        }
        cluster.weather.take_traffic();
        cluster.restart(1).await;
        clock::sleep(Duration::from_secs(5)).await;
        assert_eq!(
            cluster.manager.lock().states().last().map(|one| one.1),
            Some(PublicState::Syncing)
        );
        let before = cluster.weather.take_traffic();
        assert!((50..150).contains(&before.whole_count), "in the middle: {before:?}");
        let dies = if dies == 0 { predecessor(&cluster) } else { dies };
        cluster.kill(dies);
        clock::sleep(Duration::from_secs(1)).await;
        cluster.restart(dies).await;
        cluster.wait_serving().await;
        let after = cluster.weather.take_traffic();
        let total = before.whole_count + after.whole_count;
        assert!((200..=216).contains(&total), "{before:?} {after:?}");
        cluster.assert_replicas_agree();
    }
}

fn predecessor(cluster: &Cluster) -> usize {
    let states = cluster.manager.lock().states();
    let serving = states.iter().rev().find(|one| one.1 == PublicState::Serving);
    serving.expect("a predecessor").0 as usize - 1
}

/// Goal: who lost the disk, was away longer than removals are remembered, or belongs to a chain
/// that acknowledges from memory is compared with everything. Oracle: the chunks asked for.
#[tokio::test(start_paused = true)]
async fn otherwise_everything_is_compared() {
    for case in ["wiped", "forgotten", "cache"] {
        random::seed_thread(40);
        let (mut cluster, client) = filled(2).await;
        cluster.kill(1);
        fill(&client, 0..10, 2).await;
        match case {
            "wiped" => cluster.nodes[1].store.wipe(),
            "forgotten" => {
                client.send(bare(chunk(20), UpdateKind::Remove, 0)).await.expect("remove");
                cluster.nodes[0].store.purge(chunk(20));
            }
            _ => {
                let mut manager = cluster.manager.lock();
                manager.durability = Durability::Cache;
                manager.publish();
            }
        }
        cluster.weather.take_traffic();
        cluster.restart(1).await;
        cluster.wait_serving().await;
        let traffic = cluster.weather.take_traffic();
        let entries = if case == "wiped" { 0 } else { u64::from(CHUNKS_COUNT) };
        let moved = if case == "wiped" { u64::from(CHUNKS_COUNT) } else { 10 };
        assert_eq!(traffic.entry_count, entries, "{case}: {traffic:?}");
        assert!((moved..=moved + 1).contains(&traffic.whole_count), "{case}: {traffic:?}");
        assert!(case != "forgotten" || client.bytes(chunk(20)).await.is_none());
    }
}

/// Goal: a mark never runs ahead. Method: writes go on while nodes die and come back. Oracle: every
/// replica that serves has, of every chunk, what the others have, after each return.
#[tokio::test(start_paused = true)]
async fn marks_never_run_ahead() {
    for seed in 50..60 {
        random::seed_thread(seed);
        let mut cluster = Cluster::start(3).await;
        let client = cluster.client();
        for round in 0..8_u8 {
            let writer = client.clone();
            let writing = tokio::spawn(async move {
                for step in 0..40_u32 {
                    let index = (u32::from(round) * 7 + step * 3) % 60;
                    writer.write(chunk(index), step * 5, &[round; 300]).await.expect("write");
                    clock::sleep(Duration::from_millis(random::below(200))).await;
                }
            });
            let away = random::below(3) as usize;
            clock::sleep(Duration::from_millis(random::below(4000))).await;
            cluster.kill(away);
            clock::sleep(Duration::from_millis(random::below(4000))).await;
            cluster.restart(away).await;
            writing.await.expect("the writer");
            cluster.wait_serving().await;
            cluster.assert_replicas_agree();
        }
    }
}
