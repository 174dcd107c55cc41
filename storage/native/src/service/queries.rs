//! `QueryCommitted`, `BatchStat`, `ListChunks` and `Space`.

use super::handler::StorageService;
use super::join::join_bounded;
use crate::chain::{Backend, Replica};
use crate::store::{ChunkState, VersionState};
use firepond_core::ids::{ChunkId, ChunkVersion};
use firepond_core::sys::clock::Instant;
use firepond_core::wire::storage::{
    BatchStatReply, BatchStatRequest, ChunkQuery, ChunkStat, FailedStat, ListChunksReply,
    ListChunksRequest, QueryCommittedReply, QueryCommittedRequest, SpaceReply, TargetSpace,
};
use firepond_core::{Error, Result};
use std::sync::Arc;

/// Chunks of one request.
const CHUNKS_MAX_COUNT: usize = 16_384;
/// Chunks of one query that are looked at at the same time.
const STATS_MAX_COUNT: usize = 32;
/// Chunks of one list.
const LIST_MAX_COUNT: u32 = 4096;
/// Chunks that are looked at in one go.
const SCAN_COUNT: usize = 1024;

impl<B: Backend> StorageService<B> {
    pub(super) async fn query_committed(
        &self,
        query: QueryCommittedRequest,
        deadline: Instant,
    ) -> Result<QueryCommittedReply> {
        check_count(query.chunks.len())?;
        let replica = self.targets.find(query.chain, query.target)?;
        replica.await_routing(query.chain_version).await;
        let mut versions = Vec::with_capacity(query.chunks.len());
        for chunk in query.chunks {
            versions.push(replica.committed(chunk, deadline).await?);
        }
        Ok(QueryCommittedReply { versions })
    }

    pub(super) async fn batch_stat(
        &self,
        request: BatchStatRequest,
        deadline: Instant,
    ) -> Result<BatchStatReply> {
        check_count(request.queries.iter().map(|query| query.chunks.len()).sum())?;
        let mut results = Vec::with_capacity(request.queries.len());
        let mut failed = Vec::new();
        for (index, query) in request.queries.into_iter().enumerate() {
            let result = self.stat_query(query, deadline).await.and_then(|stats| {
                let errors = stats
                    .iter()
                    .enumerate()
                    .filter_map(|(at, one)| Some((at, one.as_ref().err()?)));
                let errors: Vec<(usize, &Error)> = errors.collect();
                if let (false, Some((_, error))) = (request.alone, errors.first()) {
                    return Err(Error::clone(error));
                }
                failed.extend(errors.into_iter().map(|(at, error)| FailedStat {
                    query: index as u32,
                    chunk: at as u32,
                    error: error.to_wire(),
                }));
                let nothing = |_| absent(ChunkId([0; 16]));
                Ok(stats.into_iter().map(|one| one.unwrap_or_else(nothing)).collect())
            });
            results.push(result.map_err(|error| error.to_wire()));
        }
        Ok(BatchStatReply { results, failed })
    }

    /// Each chunk with its own outcome; several at a time, so that one that changes holds up none.
    async fn stat_query(
        &self,
        query: ChunkQuery,
        deadline: Instant,
    ) -> Result<Vec<Result<ChunkStat>>> {
        let replica = &self.targets.find(query.chain, query.target)?;
        replica.await_routing(query.chain_version).await;
        let stats = query.chunks.into_iter().map(|chunk| async move {
            let found = replica.stat(chunk, deadline).await?;
            Ok(found.map_or_else(|| absent(chunk), |(state, tag)| stat(chunk, &state, tag)))
        });
        Ok(join_bounded(stats, STATS_MAX_COUNT).await)
    }

    pub(super) async fn list_chunks(
        &self,
        request: ListChunksRequest,
        deadline: Instant,
    ) -> Result<ListChunksReply> {
        let replica = self.targets.find(request.chain, request.target)?;
        replica.await_routing(request.chain_version).await;
        replica.standing().check_read()?;
        let limit = request.limit.clamp(1, LIST_MAX_COUNT) as usize;
        let (mut from, mut to) = (request.from, request.to);
        let mut chunks = Vec::new();
        while from < to {
            let listed =
                replica.backend.list(replica.target, from, to, SCAN_COUNT, request.reverse)?;
            let Some((last, _)) = listed.last() else { break };
            if request.reverse {
                to = *last
            } else {
                from = following(*last)
            }
            let exhausted = listed.len() < SCAN_COUNT;
            for (chunk, state) in listed {
                if chunks.len() == limit {
                    return Ok(ListChunksReply { chunks, more: true });
                }
                chunks.extend(visible(&replica, chunk, &state, deadline).await?);
            }
            if exhausted {
                break;
            }
        }
        Ok(ListChunksReply { chunks, more: false })
    }

    pub(super) fn space(&self) -> SpaceReply {
        let targets = self.targets.all();
        let mut spaces: Vec<TargetSpace> = targets
            .values()
            .map(|replica| {
                let usage = replica.backend.usage(replica.target);
                let (disk_total_bytes, disk_free_bytes) = replica.backend.disk_space();
                TargetSpace {
                    target: replica.target,
                    node: self.node.id,
                    disk: replica.disk_index,
                    used_bytes: usage.used_bytes,
                    chunk_count: usage.chunk_count,
                    disk_total_bytes,
                    disk_free_bytes,
                }
            })
            .collect();
        spaces.sort_by_key(|space| space.target);
        SpaceReply { targets: spaces }
    }
}

fn following(chunk: ChunkId) -> ChunkId {
    ChunkId(u128::from_be_bytes(chunk.0).saturating_add(1).to_be_bytes())
}

fn check_count(count: usize) -> Result<()> {
    if count <= CHUNKS_MAX_COUNT {
        return Ok(());
    }
    Err(Error::invalid("too many chunks in one request")
        .with("count", count)
        .with("max", CHUNKS_MAX_COUNT))
}

/// What a client may see of a listed chunk.
async fn visible<B: Backend>(
    replica: &Arc<Replica<B>>,
    chunk: ChunkId,
    state: &ChunkState,
    deadline: Instant,
) -> Result<Option<ChunkStat>> {
    if state.pending.is_some() || replica.is_dirty(chunk) {
        let found = replica.stat(chunk, deadline).await?;
        return Ok(found.map(|(state, tag)| stat(chunk, &state, tag)));
    }
    let live = state.committed.filter(|one| !one.removed);
    Ok(live.map(|committed| stat(chunk, &committed, state.tag)))
}

fn stat(chunk: ChunkId, state: &VersionState, tag: [u8; 32]) -> ChunkStat {
    ChunkStat { chunk, version: state.version, len: state.len, checksum: state.checksum, tag }
}

fn absent(chunk: ChunkId) -> ChunkStat {
    ChunkStat { chunk, version: ChunkVersion(0), len: 0, checksum: 0, tag: [0; 32] }
}
