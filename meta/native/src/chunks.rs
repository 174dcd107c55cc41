//! What metadata asks of the storage service, behind a trait, so that tests can fake it.
//!
//! Invariants: every call ends at its deadline; removing or cutting what is not there is fine.

use firepond_core::ids::{ChainId, ChunkId};
use firepond_core::payload::Payload;
use firepond_core::peer::{ChainClient, ChunkUpdate};
use firepond_core::sys::clock::Instant;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::wire::storage::{ChunkStat, ListChunksReply, TargetSpace, UpdateKind};
use firepond_core::{Error, ErrorKind, Result};

/// Which chunks to list.
#[derive(Clone, Copy, Debug)]
pub struct ChunkRange {
    /// The first chunk.
    pub from: ChunkId,
    /// The end.
    pub to: ChunkId,
    /// At most this many.
    pub limit: u32,
    /// From the end backwards.
    pub reverse: bool,
}

/// The chunks of files.
pub trait Chunks: Send + Sync + 'static {
    /// Existing chunks of a chain, in order.
    fn list(
        &self,
        chain: ChainId,
        range: ChunkRange,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<ListChunksReply>>;
    /// Cuts a chunk to `len` bytes.
    fn truncate(
        &self,
        chain: ChainId,
        chunk: ChunkId,
        len: u32,
        chunk_len_max: u32,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<()>>;
    /// Removes a chunk.
    fn remove(
        &self,
        chain: ChainId,
        chunk: ChunkId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<()>>;
    /// Space of all targets that answer.
    fn space(&self, deadline: Instant) -> BoxFuture<'_, Result<Vec<TargetSpace>>>;
}

impl Chunks for ChainClient {
    fn list(
        &self,
        chain: ChainId,
        range: ChunkRange,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<ListChunksReply>> {
        let ChunkRange { from, to, limit, reverse } = range;
        Box::pin(self.list_chunks(chain, from, to, limit, reverse, deadline))
    }

    fn truncate(
        &self,
        chain: ChainId,
        chunk: ChunkId,
        len: u32,
        chunk_len_max: u32,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<()>> {
        let change = update(chunk, UpdateKind::Truncate, len, chunk_len_max);
        Box::pin(async move { absent_is_fine(self.update(chain, change, deadline).await) })
    }

    fn remove(
        &self,
        chain: ChainId,
        chunk: ChunkId,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<()>> {
        let change = update(chunk, UpdateKind::Remove, 0, 0);
        Box::pin(async move { absent_is_fine(self.update(chain, change, deadline).await) })
    }

    fn space(&self, deadline: Instant) -> BoxFuture<'_, Result<Vec<TargetSpace>>> {
        Box::pin(ChainClient::space(self, deadline))
    }
}

fn update(chunk: ChunkId, kind: UpdateKind, len: u32, chunk_len_max: u32) -> ChunkUpdate {
    ChunkUpdate {
        chunk,
        kind,
        offset: 0,
        len,
        payload: Payload::empty(),
        checksum: 0,
        chunk_len_max,
        tag: [0; 32],
    }
}

fn absent_is_fine<T>(result: Result<T, Error>) -> Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::ChunkNotFound => Err(error),
        _ => Ok(()),
    }
}

/// The end of a chunk in its file, in bytes.
pub(crate) fn end_bytes(stat: &ChunkStat, chunk_size_bytes: u32) -> u64 {
    let index = stat.chunk.file_parts().map_or(0, |(_, index)| index.0);
    u64::from(index) * u64::from(chunk_size_bytes) + u64::from(stat.len)
}
