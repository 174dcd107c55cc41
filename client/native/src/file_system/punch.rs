//! Punching holes: a range of a file becomes zeros; whole chunks of it give their space back.
//!
//! How: what is dirty is sent first; then only chunks that exist are touched: removed where the
//! hole covers them, else punched, so that whole pages give their space back, too. Invariants: the
//! size stays; no write of this client comes between.

use super::chunk_map::{chain_of, chunk_id};
use super::inode_state::InodeState;
use super::sessions::unexpected;
use super::{Inner, OpenFile};
use firepond_core::checksum::crc32c;
use firepond_core::ids::{ChainId, ChunkIndex};
use firepond_core::payload::Payload;
use firepond_core::peer::ChunkUpdate;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::task;
use firepond_core::wire::meta::{Credentials, MetaReply, Operation};
use firepond_core::wire::storage::{ChunkStat, UpdateKind};
use firepond_core::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Chunks of one page of a listing.
const PAGE_COUNT: u32 = 256;

impl OpenFile {
    /// Makes the bytes of a range zeros, as far as the file reaches; its size stays.
    ///
    /// # Errors
    /// As `write`.
    pub async fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.check_writable()?;
        self.inner().punch_hole(self.state(), offset, len).await
    }
}

impl Inner {
    async fn punch_hole(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        let deadline = clock::now() + self.options.operation_timeout();
        let _alone = state.changes.write().await;
        let errors_seen = state.local.lock().error_count();
        self.flush(state, errors_seen).await?;
        let end = offset.saturating_add(len).min(self.size_now(state, deadline).await?);
        if offset >= end {
            return Ok(());
        }
        for chain in self.chains_of(state, offset..end, deadline).await? {
            self.punch_chain(state, chain, offset..end, deadline).await?;
        }
        state.local.lock().wrote(end);
        state.local.lock().acknowledged(end);
        Ok(())
    }

    /// The size, with what other clients have settled.
    async fn size_now(&self, state: &InodeState, deadline: Instant) -> Result<u64> {
        let operation = Operation::GetAttributes { inode: state.inode };
        match self.sessions.call(&Credentials::default(), operation, deadline).await? {
            MetaReply::Attributes(attributes) => {
                let mut local = state.local.lock();
                local.learn(&attributes);
                Ok(local.size())
            }
            other => Err(unexpected("attributes", &other)),
        }
    }

    /// The chains that hold chunks of a range: after one stripe they repeat.
    async fn chains_of(
        &self,
        state: &InodeState,
        range: Range<u64>,
        deadline: Instant,
    ) -> Result<BTreeSet<ChainId>> {
        let first = state.layout.locate(range.start).0.0;
        let last = state.layout.locate(range.end - 1).0.0;
        let stripe = state.layout.stripe_count.max(1);
        let mut chains = BTreeSet::new();
        for index in first..=last.min(first.saturating_add(stripe - 1)) {
            let routing = self.chains.peers().routing();
            let index = ChunkIndex(index);
            chains.insert(chain_of(routing, &state.layout, index, deadline).await?);
        }
        Ok(chains)
    }

    async fn punch_chain(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        chain: ChainId,
        range: Range<u64>,
        deadline: Instant,
    ) -> Result<()> {
        let mut from = chunk_id(state.inode, state.layout.locate(range.start).0);
        let to = state.layout.locate(range.end - 1).0.0 + 1;
        let to = chunk_id(state.inode, ChunkIndex(to));
        loop {
            let listing = self.chains.list_chunks(chain, from, to, PAGE_COUNT, false, deadline);
            let page = listing.await?;
            let Some(last) = page.chunks.last().and_then(|stat| stat.chunk.file_parts()) else {
                return Ok(());
            };
            let mut running = Vec::with_capacity(page.chunks.len());
            for stat in page.chunks {
                let Some(update) = punched(state, &stat, &range) else { continue };
                let inner = Arc::clone(self);
                running.push(task::spawn(async move {
                    let closed = |_| Error::new(ErrorKind::Closed, "the client was shut down");
                    let _permit = inner.window.acquire().await.map_err(closed)?;
                    inner.chains.update(chain, update, deadline).await.map(drop)
                }));
            }
            let mut outcome = Ok(());
            for update in running {
                let ended = |_| Error::new(ErrorKind::Closed, "the client was shut down");
                outcome = outcome.and(update.await.map_err(ended).and_then(|result| result));
            }
            outcome?;
            if !page.more {
                return Ok(());
            }
            from = chunk_id(state.inode, ChunkIndex(last.1.0 + 1));
        }
    }
}

/// The update that makes the hole's part of a chunk zeros, if the chunk reaches into it.
fn punched(state: &InodeState, stat: &ChunkStat, range: &Range<u64>) -> Option<ChunkUpdate> {
    let size = u64::from(state.layout.chunk_size_bytes);
    let base = u64::from(stat.chunk.file_parts()?.1.0) * size;
    let start = range.start.saturating_sub(base).min(u64::from(stat.len)) as u32;
    let end = range.end.saturating_sub(base).min(u64::from(stat.len)) as u32;
    if start >= end {
        return None;
    }
    // A chunk that is not whole may be the file's last: its length stays to be found.
    let remove = start == 0 && end == state.layout.chunk_size_bytes;
    Some(ChunkUpdate {
        chunk: stat.chunk,
        kind: if remove { UpdateKind::Remove } else { UpdateKind::PunchHole },
        offset: start,
        len: if remove { 0 } else { end - start },
        checksum: crc32c(&[]),
        payload: Payload::empty(),
        chunk_len_max: state.layout.chunk_size_bytes,
        tag: [0; 32],
    })
}
