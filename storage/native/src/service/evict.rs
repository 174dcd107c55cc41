//! Keeps KV namespaces within their capacity, and lets `cache` values yield when a disk is full.
//!
//! Why shares and no census: a namespace's keys spread evenly over the chains of its table, so each
//! head keeps its chain to an equal share of the capacity, and nobody has to be asked.
//! Invariants: only a head evicts, through the chain, like any other removal; a put never fails for
//! capacity; eviction goes from above the share to `KEEP_PERCENT` of it, least recently used first.

use crate::chain::{Backend, Replica};
use firepond_core::ids::{ChunkId, ChunkVersion, NamespaceId};
use firepond_core::payload::Payload;
use firepond_core::routing::{Durability, NamespaceInfo, Routing};
use firepond_core::sys::clock::{Instant, now};
use firepond_core::sys::task::scoped;
use firepond_core::wire::CHUNK_MAX_BYTES;
use firepond_core::wire::storage::{UpdateKind, UpdateRequest};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

/// Eviction begins above this part of the share, so that puts find room ...
const BEGIN_PERCENT: u64 = 98;
/// ... and ends here.
const KEEP_PERCENT: u64 = 95;
/// What `cache` values of one target yield at a time while their disk is nearly full.
const YIELD_BYTES: u64 = 64 << 20;
/// Removals under way at the same time.
const CONCURRENT_COUNT: usize = 32;

/// How long routing must not know a namespace before its values go: ours may be the older routing.
const UNKNOWN_AGE: Duration = Duration::from_secs(60);

/// Namespaces that routing does not know, and since when.
#[derive(Debug, Default)]
pub(super) struct Unknown(HashMap<NamespaceId, Instant>);

impl Unknown {
    fn is_old(&mut self, id: NamespaceId) -> bool {
        now() >= *self.0.entry(id).or_insert_with(now) + UNKNOWN_AGE
    }

    fn forget(&mut self, id: NamespaceId) {
        self.0.remove(&id);
    }
}

/// The bytes of a namespace that one chain of its table may hold.
pub(super) fn share_bytes(routing: &Routing, namespace: &NamespaceInfo) -> Option<u64> {
    let table = routing.table(namespace.table, namespace.table_version).ok()?;
    Some(namespace.capacity_bytes / (table.chains.len() as u64).max(1))
}

/// How many bytes of a namespace to evict from a target.
fn excess_bytes(used: u64, share: u64, yields: bool) -> u64 {
    let over =
        if used * 100 > share * BEGIN_PERCENT { used - share * KEEP_PERCENT / 100 } else { 0 };
    over.max(if yields { YIELD_BYTES.min(used) } else { 0 })
}

/// Evicts what a target has too much of, if it is the head; says how many values went.
pub(super) async fn evict<B: Backend>(
    replica: &Arc<Replica<B>>,
    routing: &Routing,
    unknown: &mut Unknown,
) -> usize {
    let standing = replica.standing_in(routing);
    if standing.check_client_update(standing.chain_version).is_err() {
        return 0;
    }
    let mut evicted = 0;
    if standing.durability == Durability::Cache {
        // A key whose value is damaged for good would be neither found nor free to be put.
        evicted += remove_all(replica, replica.findings.all_lost()).await;
    }
    let tight = replica.promised.is_tight(replica.backend.disk_space());
    for id in replica.values.namespaces() {
        let namespace = routing.namespaces.iter().find(|one| one.id == id);
        let (share, class) = match namespace {
            Some(namespace) => match share_bytes(routing, namespace) {
                Some(share) => (share, namespace.class),
                None => continue,
            },
            // The namespace was removed: its values go too.
            None if unknown.is_old(id) => (0, Durability::Cache),
            None => continue,
        };
        if namespace.is_some() {
            unknown.forget(id);
        }
        let yields = tight && class == Durability::Cache;
        let excess = excess_bytes(replica.values.bytes(id), share, yields);
        let chunks = if excess == 0 { Vec::new() } else { replica.values.oldest(id, excess) };
        evicted += remove_all(replica, chunks).await;
    }
    evicted
}

async fn remove_all<B: Backend>(replica: &Arc<Replica<B>>, chunks: Vec<ChunkId>) -> usize {
    let (mut running, mut removed) = (JoinSet::new(), 0);
    for chunk in chunks {
        if running.len() >= CONCURRENT_COUNT {
            removed += usize::from(matches!(running.join_next().await, Some(Ok(true))));
        }
        let replica = Arc::clone(replica);
        running.spawn(scoped(async move { remove(&replica, chunk).await }));
    }
    while let Some(result) = running.join_next().await {
        removed += usize::from(matches!(result, Ok(true)));
    }
    removed
}

async fn remove<B: Backend>(replica: &Arc<Replica<B>>, chunk: ChunkId) -> bool {
    // Nothing of it was sent before.
    let state = replica.backend.state(replica.target, chunk).ok().flatten();
    let since = state.and_then(|state| state.committed).map_or(ChunkVersion(0), |one| one.version);
    let update = UpdateRequest {
        write_id: replica.node.own_write_id(),
        chunk,
        chain: replica.chain,
        chain_version: replica.standing().chain_version,
        target: replica.target,
        kind: UpdateKind::Remove,
        offset: 0,
        len: 0,
        checksum: 0,
        chunk_len_max: CHUNK_MAX_BYTES as u32,
        tag: [0; 32],
        capability: Vec::new(),
        since,
    };
    match replica.update(update, Payload::empty()).await {
        Ok(_) => {
            replica.values.committed(chunk, None);
            replica.findings.repaired(chunk);
            replica.node.evicted_count.fetch_add(1, Ordering::Relaxed);
            true
        }
        Err(error) => {
            tracing::debug!(%chunk, %error, "a value was not evicted");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing goes below the share, enough goes above it, a full disk takes more. Oracle:
    /// rows.
    #[test]
    fn excess_rows() {
        assert_eq!(excess_bytes(970, 1000, false), 0);
        assert_eq!(excess_bytes(990, 1000, false), 40);
        assert_eq!(excess_bytes(1500, 1000, false), 550);
        assert_eq!(excess_bytes(500, 1000, true), 500);
        assert_eq!(excess_bytes(YIELD_BYTES * 3, u64::MAX / 1000, true), YIELD_BYTES);
        assert_eq!(excess_bytes(10, 0, false), 10);
    }
}
