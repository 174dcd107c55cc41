//! When the faults have ended: everything serves again, replicas are equal, nothing is left over.

use super::CHUNK_COUNT;
use super::history::{Change, Deed, History};
use crate::harness::memory_store::MemoryStore;
use crate::harness::{Cluster, TestClient, chunk, update};
use bytes::Bytes;
use firepond_core::ids::ChunkId;
use firepond_core::sys::clock::{self, now};
use firepond_core::wire::storage::UpdateKind;
use firepond_storage::chain::{Backend, Replica};
use firepond_storage::store::ChunkState;
use std::time::Duration;

/// How long a healthy chain may take to serve all replicas and to take an update.
const RECOVERY: Duration = Duration::from_secs(90);

/// Waits until all is well; what is wrong otherwise.
pub async fn check(
    cluster: &Cluster,
    client: &TestClient,
    history: &History,
) -> Result<(), String> {
    await_settled(cluster).await?;
    let start = now();
    for number in 0..CHUNK_COUNT {
        let begun = history.tick();
        let bytes = Bytes::from_static(b"the end");
        let write = client.send(update(chunk(number), UpdateKind::Write, 1, &bytes)).await;
        let reply = write.map_err(|error| format!("the last write failed: {error}"))?;
        let change = Change::Write { offset: 1, bytes };
        let deed = Deed::Update { change, version: Some(reply.version.0) };
        history.ended(number, begun, deed, "last".to_owned());
    }
    if now() - start > Duration::from_secs(5) {
        return Err(format!("a healthy chain took {:?} for a few writes", now() - start));
    }
    await_settled(cluster).await?;
    compare(cluster)
}

async fn await_settled(cluster: &Cluster) -> Result<(), String> {
    let deadline = now() + RECOVERY;
    while !cluster.nodes.iter().all(|node| node.is_alive() && node.is_settled()) {
        if now() >= deadline {
            let states: Vec<_> = cluster.nodes.iter().map(|node| node.summary()).collect();
            return Err(format!("not serving in time: {states:?}"));
        }
        clock::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn list(replica: &Replica<MemoryStore>) -> Result<Vec<(ChunkId, ChunkState)>, String> {
    let (from, to) = (ChunkId([0; 16]), ChunkId([0xff; 16]));
    let rows = replica.backend.list(replica.target, from, to, 1000, false);
    rows.map_err(|error| error.to_string())
}

fn compare(cluster: &Cluster) -> Result<(), String> {
    let first = list(&cluster.nodes[0].replica)?;
    for node in &cluster.nodes {
        let pending = node.store.pending(node.replica.target).map_err(|error| error.to_string())?;
        let held = node.replica.held_count();
        if !pending.is_empty() || held > 0 {
            return Err(format!("{}: left over: {pending:?}, {held} locks", node.id));
        }
        for (ours, theirs) in first.iter().zip(list(&node.replica)?) {
            let comparable = |(chunk, state): &(ChunkId, ChunkState)| {
                let one = state.committed.map(|one| (one.version, one.write_id, one.checksum));
                (*chunk, one, state.recent_writes.clone(), state.tag)
            };
            if comparable(ours) != comparable(&theirs) {
                return Err(format!("{} differs: {theirs:?}\nfrom node 1 {ours:?}", node.id));
            }
        }
    }
    Ok(())
}
