//! Cutting the chunks of a truncated file.
//!
//! How: the transaction that sets a smaller size raises the truncate version and leaves a
//! `PendingTruncate`. Then the chunks behind the size are removed, the one that holds its last byte
//! is cut, and the mark goes. Whoever meets the mark (open for writing, another change of the size,
//! settling, the background after a restart) finishes the cut first, so that old bytes never come
//! back when the file grows again.
//! Invariants: the mark goes only after every chunk was cut; one cut of a file at a time.

use crate::chunks::ChunkRange;
use crate::concurrent;
use crate::keys;
use crate::layouts::{chain_of, chains_of, chunk_index};
use crate::records::{InodeBody, PendingTruncate};
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::view::View;
use firepond_core::ids::{ChainId, ChunkId, ChunkIndex, InodeId};
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::layout::FileLayout;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::wire::meta::MetaReply;
use firepond_core::wire::storage::ChunkStat;
use firepond_core::{ErrorKind, Result};

/// Chunks of one page of a listing.
const PAGE_COUNT: u32 = 256;

/// Runs an operation that must not see a half-done truncation of `inode`; finishes it where needed.
pub(crate) async fn run_settled<S: KvStore, M: Mutation>(
    meta: &MetaService<S>,
    caller: &Caller,
    inode: InodeId,
    mutation: &M,
) -> Result<MetaReply> {
    loop {
        finish(meta, inode, caller.deadline).await?;
        match transact::run(meta, caller, mutation).await {
            Err(error)
                if error.kind() == ErrorKind::TransactionConflict
                    && clock::now() < caller.deadline => {}
            outcome => return outcome,
        }
    }
}

/// Finishes the truncation of a file, if one is half done.
///
/// # Errors
/// What the chains answer; the mark then stays and the background goes on.
pub(crate) async fn finish<S: KvStore>(
    meta: &MetaService<S>,
    inode: InodeId,
    deadline: Instant,
) -> Result<()> {
    let key = keys::pending_truncate(inode);
    let mut view = View::reading(meta.store().begin());
    if view.get::<PendingTruncate>(&key).await?.is_none() {
        return Ok(());
    }
    let _lock = meta.locks().lock(inode).await;
    loop {
        let mut view = View::reading(meta.store().begin());
        let Some(pending) = view.get::<PendingTruncate>(&key).await? else { return Ok(()) };
        let record = view.held_inode(inode).await?;
        if let InodeBody::File { layout, .. } = &record.body {
            cut(meta, inode, layout, pending.size_bytes, pending.extent_bytes, deadline).await?;
        }
        let clear = ClearMark { inode, pending };
        transact::run(meta, &Caller::internal(deadline), &clear).await?;
    }
}

/// Takes the mark away unless a newer truncation has replaced it.
struct ClearMark {
    inode: InodeId,
    pending: PendingTruncate,
}

impl Mutation for ClearMark {
    const RECORDED: Recorded = Recorded::Never;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        _caller: &Caller,
    ) -> Result<MetaReply> {
        let key = keys::pending_truncate(self.inode);
        if view.get::<PendingTruncate>(&key).await? == Some(self.pending) {
            view.clear(&key);
        }
        Ok(MetaReply::Done)
    }
}

/// Removes and cuts the chunks of a file behind `size_bytes`. Chunks at and behind `extent_bytes`
/// are known not to exist; without it all chains of the file are asked. The caller holds the inode
/// lock.
pub(crate) async fn cut<S: KvStore>(
    meta: &MetaService<S>,
    inode: InodeId,
    layout: &FileLayout,
    size_bytes: u64,
    extent_bytes: Option<u64>,
    deadline: Instant,
) -> Result<()> {
    let chunk_size = u64::from(layout.chunk_size_bytes);
    let first = size_bytes.div_ceil(chunk_size);
    let end = extent_bytes.map_or(u64::from(u32::MAX), |extent| extent.div_ceil(chunk_size));
    let routing = meta.routing().current();
    let kept = (size_bytes % chunk_size) as u32;
    if kept > 0 && extent_bytes.is_none_or(|extent| extent > size_bytes) {
        let index = chunk_index(first - 1);
        let chain = chain_of(&routing, layout, index)?;
        shorten(meta, chain, inode, index, kept, layout, deadline).await?;
    }
    let range = (ChunkId::file(inode, chunk_index(first)), ChunkId::file(inode, chunk_index(end)));
    let chains = chains_of(&routing, layout, first..end.max(first))?;
    let mut work: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
    for chain in chains {
        work.push(Box::pin(remove_range(meta, chain, range, deadline)));
    }
    concurrent::try_all(work).await
}

/// Cuts the chunk that holds the last byte, if it is longer.
async fn shorten<S: KvStore>(
    meta: &MetaService<S>,
    chain: ChainId,
    inode: InodeId,
    index: ChunkIndex,
    kept: u32,
    layout: &FileLayout,
    deadline: Instant,
) -> Result<()> {
    let chunk = ChunkId::file(inode, index);
    let to = ChunkId::file(inode, chunk_index(u64::from(index.0) + 1));
    let range = ChunkRange { from: chunk, to, limit: 1, reverse: false };
    let found = meta.chunks().list(chain, range, deadline).await?;
    if found.chunks.first().is_some_and(|stat| stat.len > kept) {
        meta.chunks().truncate(chain, chunk, kept, layout.chunk_size_bytes, deadline).await?;
    }
    Ok(())
}

/// Removes the chunks of a range from a chain, page by page.
async fn remove_range<S: KvStore>(
    meta: &MetaService<S>,
    chain: ChainId,
    range: (ChunkId, ChunkId),
    deadline: Instant,
) -> Result<()> {
    let (from, to) = range;
    loop {
        let query = ChunkRange { from, to, limit: PAGE_COUNT, reverse: false };
        let page = meta.chunks().list(chain, query, deadline).await?;
        let remove = |stat: &ChunkStat| meta.chunks().remove(chain, stat.chunk, deadline);
        concurrent::try_all(page.chunks.iter().map(remove).collect()).await?;
        if !page.more || page.chunks.is_empty() {
            return Ok(());
        }
    }
}
