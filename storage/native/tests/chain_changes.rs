//! Chains whose targets step down, move, lack room or stay different, while clients write.
//!
//! Oracle of most: every acknowledged write made exactly one version, and the replicas agree.

mod harness;

use firepond_core::ids::ChainVersion;
use firepond_core::routing::{LocalState, PublicState};
use firepond_core::sys::{clock, random};
use harness::{Cluster, TestClient, chunk};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const WRITERS_COUNT: u32 = 6;
const WRITES_COUNT: u32 = 60;

/// Writers that each own a place in every chunk; all writes succeed.
fn write_on(client: &TestClient) -> Vec<JoinHandle<()>> {
    let writer = |id: u32, client: TestClient| async move {
        for round in 0..WRITES_COUNT {
            let bytes = [(round + 1) as u8; 8];
            let write = client.write(chunk(round % 4), id * 8, &bytes);
            write.await.expect("every write succeeds");
            clock::sleep(Duration::from_millis(random::below(60))).await;
        }
    };
    (0..WRITERS_COUNT).map(|id| tokio::spawn(writer(id, client.clone()))).collect()
}

async fn check_written(cluster: &Cluster, client: &TestClient, writers: Vec<JoinHandle<()>>) {
    for writer in writers {
        writer.await.expect("a writer");
    }
    cluster.wait_serving().await;
    cluster.assert_replicas_agree();
    for index in 0..4 {
        let version = client.read(chunk(index)).await.expect("read").version;
        let expected = u64::from(WRITERS_COUNT * WRITES_COUNT / 4);
        assert_eq!(version.0, expected, "each write of chunk {index} happened once");
        let last = (WRITES_COUNT - 3 + index) as u8;
        let bytes = client.bytes(chunk(index)).await.expect("there");
        assert!(bytes.iter().all(|byte| *byte == last), "chunk {index}: {bytes:?}");
    }
}

/// Goal: targets step down one after the other, come back at the tail, and no write is lost, done
/// twice or refused. Method: each place of the chain. Oracle: the head of this file.
#[tokio::test(start_paused = true)]
async fn targets_step_down_while_writes_go_on() {
    for seed in 0..12 {
        random::seed_thread(seed);
        let mut cluster = Cluster::start(3).await;
        let client = cluster.client();
        let writers = write_on(&client);
        for round in 0..3 {
            clock::sleep(Duration::from_millis(300)).await;
            let place = ((seed + round) % 3) as usize;
            let target = cluster.manager.lock().states()[place].0;
            cluster.nodes[target as usize - 1].replica.step_down();
            clock::sleep(Duration::from_millis(60)).await;
            cluster.wait_serving().await;
            let last = cluster.manager.lock().states()[2];
            assert_eq!(last, (target, PublicState::Serving), "it came back as the tail");
        }
        check_written(&cluster, &client, writers).await;
    }
}

/// Goal: an order that is turned round at once harms nothing: who now has others before it comes
/// back through a resync. Oracle: the head of this file.
#[tokio::test(start_paused = true)]
async fn moved_targets_come_back_through_a_resync() {
    for seed in 20..32 {
        random::seed_thread(seed);
        let mut cluster = Cluster::start(3).await;
        let client = cluster.client();
        let writers = write_on(&client);
        for _ in 0..2 {
            clock::sleep(Duration::from_millis(400)).await;
            cluster.wait_serving().await;
            let tail = cluster.manager.lock().states()[2].0;
            cluster.manager.lock().reverse();
            clock::sleep(Duration::from_millis(10)).await;
            let moved = cluster.nodes.iter().filter(|node| node.replica.target.0 != tail);
            for node in moved {
                assert_ne!(node.replica.local_state(), LocalState::UpToDate, "{}", node.summary());
            }
        }
        check_written(&cluster, &client, writers).await;
    }
}

/// Goal: a syncing replica without room leaves, the writers never hear of it, and with room it
/// comes back. Oracle: the writes, the states, agreement.
#[tokio::test(start_paused = true)]
async fn full_syncing_replica_leaves() {
    random::seed_thread(40);
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client();
    for index in 0..20 {
        client.write(chunk(index), 0, &[1; 1000]).await.expect("write");
    }
    cluster.kill(1);
    client.write(chunk(0), 0, &[2; 1000]).await.expect("write");
    cluster.nodes[1].store.set_full(true);
    cluster.restart(1).await;
    for round in 0..50 {
        client.write(chunk(round % 20), 10, &[3; 100]).await.expect("nobody waits for room");
        clock::sleep(Duration::from_millis(100)).await;
    }
    assert!(cluster.nodes[1].replica.is_full());
    assert_eq!(cluster.manager.lock().states()[1].1, PublicState::Offline);
    cluster.nodes[1].store.set_full(false);
    cluster.wait_serving().await;
    cluster.assert_replicas_agree();
}

/// Goal: a replica that lost an update which another one has says so, at once, over a restart, and
/// until it has been synced. Method: a head whose disk has no room after all. Oracle: what it
/// reports, the calls of its listener, agreement.
#[tokio::test(start_paused = true)]
async fn a_lost_update_is_known_until_the_resync() {
    random::seed_thread(42);
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client();
    client.write(chunk(0), 0, b"before").await.expect("write");
    let told: Arc<AtomicU64> = Arc::default();
    let count = Arc::clone(&told);
    cluster.nodes[0].replica.node.set_listener(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let chain_version = cluster.nodes[0].replica.standing().chain_version;
    assert_eq!(cluster.nodes[0].replica.report().2, ChainVersion(0));
    cluster.nodes[0].store.set_full_unseen(true);
    client.write(chunk(0), 0, b"after!").await.expect("the other one goes on");
    assert_eq!(cluster.nodes[0].replica.report().2, chain_version);
    assert!(told.load(Ordering::Relaxed) > 0);
    cluster.kill(0);
    cluster.restart(0).await;
    assert_eq!(cluster.nodes[0].replica.report().2, chain_version);
    cluster.nodes[0].store.set_full_unseen(false);
    cluster.wait_serving().await;
    assert_eq!(cluster.nodes[0].replica.report().2, ChainVersion(0));
    cluster.assert_replicas_agree();
}

/// Goal: a successor that does not become equal leaves and the update is acknowledged; it comes
/// back through a resync. Method: a replica that stores other bytes than it was sent, for a while.
/// Oracle: the write, the states, agreement.
#[tokio::test(start_paused = true)]
async fn diverging_successor_leaves() {
    random::seed_thread(41);
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    client.write(chunk(0), 0, b"before").await.expect("write");
    cluster.nodes[2].store.set_lying(true);
    client.write(chunk(0), 0, b"after!").await.expect("the others take it");
    assert_ne!(cluster.manager.lock().states()[2].1, PublicState::Serving);
    cluster.nodes[2].store.set_lying(false);
    cluster.wait_serving().await;
    cluster.assert_replicas_agree();
    assert_eq!(client.bytes(chunk(0)).await.expect("there"), b"after!");
}
