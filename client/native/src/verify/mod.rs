//! Compares the replicas of every chain: the operator's proof that they agree.
//!
//! Why from outside: it asks each serving replica for what it has committed, as any client may, so
//! it trusts no server's own opinion. Writes may go on: what differs is looked at again before it
//! counts.
//! Invariants: changes nothing; memory is one page of each replica.

use firepond_core::ids::{ChainId, ChunkId, NodeId, TargetId};
use firepond_core::peer::Peers;
use firepond_core::routing::ChainTarget;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::transport::Request;
use firepond_core::wire::storage::{ChunkStat, ListChunksReply, ListChunksRequest};
use firepond_core::wire::{MessageKind, decode, encode};
use firepond_core::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::time::Duration;

const PAGE_COUNT: u32 = 1000;
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const RECHECK_PAUSE: Duration = Duration::from_millis(200);
const RECHECK_COUNT: usize = 10;

/// One chunk on which replicas do not agree.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The chain.
    pub chain: ChainId,
    /// The chunk.
    pub chunk: ChunkId,
    /// Per serving target what it has; none when the chunk is absent there.
    pub found: Vec<(TargetId, Option<ChunkStat>)>,
}

/// What was compared, and where replicas differ.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Chains looked at.
    pub chain_count: usize,
    /// Chunks compared, counted once per chain.
    pub chunk_count: u64,
    /// Replicas looked at.
    pub replica_count: usize,
    /// Where they differ.
    pub differences: Vec<Difference>,
}

/// Compares all serving replicas of all chains.
///
/// # Errors
/// What the first replica that cannot be asked answered; `ClusterNotReady` before routing arrived.
pub async fn compare_replicas(peers: &Peers, deadline: Instant) -> Result<Report> {
    let mut report = Report::default();
    let chains: Vec<ChainId> =
        peers.routing().current().chains.iter().map(|chain| chain.id).collect();
    for chain in chains {
        report.chain_count += 1;
        compare_chain(peers, chain, deadline, &mut report).await?;
    }
    Ok(report)
}

/// One chain: whole listings are compared page by page; what differs is looked at again.
async fn compare_chain(
    peers: &Peers,
    chain: ChainId,
    deadline: Instant,
    report: &mut Report,
) -> Result<()> {
    let serving = serving_targets(peers, chain)?;
    report.replica_count += serving.len();
    let mut from = ChunkId([0; 16]);
    loop {
        let page = merged_page(peers, chain, from, deadline).await?;
        report.chunk_count += page.chunks.len() as u64;
        for (chunk, found) in page.chunks {
            if agrees(&found) {
                continue;
            }
            if let Some(found) = still_differs(peers, chain, chunk, deadline).await? {
                report.differences.push(Difference { chain, chunk, found });
            }
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

type Found = Vec<(TargetId, Option<ChunkStat>)>;

struct MergedPage {
    chunks: BTreeMap<ChunkId, Found>,
    next: Option<ChunkId>,
}

/// The chunks of all replicas up to the end of the shortest page.
async fn merged_page(
    peers: &Peers,
    chain: ChainId,
    from: ChunkId,
    deadline: Instant,
) -> Result<MergedPage> {
    let serving = serving_targets(peers, chain)?;
    let mut pages = Vec::new();
    for target in &serving {
        pages.push(list(peers, chain, target, from, ChunkId([0xff; 16]), deadline).await?);
    }
    let unfinished = pages.iter().filter(|page| page.more);
    let end = unfinished.filter_map(|page| page.chunks.last().map(|stat| stat.chunk)).min();
    let mut chunks: BTreeMap<ChunkId, Found> = BTreeMap::new();
    let absent = || serving.iter().map(|target| (target.target, None)).collect::<Found>();
    for (position, page) in pages.into_iter().enumerate() {
        for stat in page.chunks {
            if end.is_none_or(|end| stat.chunk <= end) {
                let row = chunks.entry(stat.chunk).or_insert_with(&absent);
                row[position].1 = Some(stat);
            }
        }
    }
    Ok(MergedPage { chunks, next: end.and_then(successor) })
}

/// The next possible id.
fn successor(chunk: ChunkId) -> Option<ChunkId> {
    u128::from_be_bytes(chunk.0).checked_add(1).map(|next| ChunkId(next.to_be_bytes()))
}

fn agrees(found: &Found) -> bool {
    found.windows(2).all(|pair| pair[0].1 == pair[1].1)
}

/// Looks at one chunk until its replicas agree; what they have if they never do.
async fn still_differs(
    peers: &Peers,
    chain: ChainId,
    chunk: ChunkId,
    deadline: Instant,
) -> Result<Option<Found>> {
    let end = successor(chunk).unwrap_or(ChunkId([0xff; 16]));
    let mut found = Found::new();
    for _ in 0..RECHECK_COUNT {
        found.clear();
        for target in serving_targets(peers, chain)? {
            let page = list(peers, chain, &target, chunk, end, deadline).await?;
            found.push((target.target, page.chunks.into_iter().next()));
        }
        if agrees(&found) {
            return Ok(None);
        }
        clock::sleep(RECHECK_PAUSE).await;
    }
    Ok(Some(found))
}

fn serving_targets(peers: &Peers, chain: ChainId) -> Result<Vec<ChainTarget>> {
    Ok(peers.routing().current().chain(chain)?.serving().copied().collect())
}

/// One page of one replica; waits for newer routing when the chain has just changed.
async fn list(
    peers: &Peers,
    chain: ChainId,
    target: &ChainTarget,
    from: ChunkId,
    to: ChunkId,
    deadline: Instant,
) -> Result<ListChunksReply> {
    loop {
        let routing = peers.routing().current();
        let request = ListChunksRequest {
            chain,
            chain_version: routing.chain(chain)?.version,
            target: target.target,
            from,
            to,
            limit: PAGE_COUNT,
            reverse: false,
        };
        let until = deadline.min(clock::now() + CALL_TIMEOUT);
        let call = Request::new(MessageKind::ListChunks, encode(&request), until);
        match peers.call_node(NodeId(target.node.0), call).await {
            Ok(reply) => return decode(&reply.body),
            Err(error) if error.kind() == ErrorKind::ChainVersionMismatch => {
                peers.routing().wait_newer(routing.version, deadline).await?;
            }
            Err(error) => return Err(error.with("chain", chain)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: ids have a successor except the last. Oracle: byte order.
    #[test]
    fn successor_is_the_next_id() {
        let mut id = [0_u8; 16];
        id[15] = 0xff;
        let next = successor(ChunkId(id)).expect("not the last");
        assert!(next > ChunkId(id));
        assert_eq!(next.0[14], 1);
        assert_eq!(successor(ChunkId([0xff; 16])), None);
    }
}
