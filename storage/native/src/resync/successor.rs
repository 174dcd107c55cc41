//! The syncing successor's side of a resync.
//!
//! Invariant: a target takes `complete_through` from a resync only when that is done, and from the
//! head only while it is complete; so the mark never runs ahead of what is here.

use super::mark::raised;
use crate::chain::{Backend, Replica};
use crate::store::{ChangePlace, ChunkState};
use firepond_core::ids::{ChangeStamp, ChunkId, ChunkVersion};
use firepond_core::routing::PublicState;
use firepond_core::wire::storage::{
    ResyncBeginReply, ResyncChoice, ResyncControl, ResyncEntry, ResyncPageReply, ResyncPageRequest,
};
use firepond_core::{Error, ErrorKind, Result};

/// Most entries of one page.
pub const PAGE_MAX_COUNT: u32 = 2048;

/// The end of all chunk ids.
pub(super) const LAST: ChunkId = ChunkId([0xff; 16]);

/// The chunk id that follows.
pub(super) fn following(chunk: ChunkId) -> ChunkId {
    ChunkId(u128::from_be_bytes(chunk.0).saturating_add(1).to_be_bytes())
}

impl<B: Backend> Replica<B> {
    /// `ResyncBegin`: whether this target is the syncing one, under this chain version, and what it
    /// has.
    ///
    /// # Errors
    /// `ChainVersionMismatch`, `TargetNotServing`, `LeaseExpired`.
    pub async fn resync_begin(&self, control: &ResyncControl) -> Result<ResyncBeginReply> {
        self.check_syncing(control).await?;
        let complete_through = self.backend.marks(self.target)?.complete_through;
        Ok(ResyncBeginReply { complete_through })
    }

    async fn check_syncing(&self, control: &ResyncControl) -> Result<()> {
        self.await_routing(control.chain_version).await;
        let standing = self.standing();
        standing.check_forward(control.chain_version)?;
        if standing.state != Some(PublicState::Syncing) {
            return Err(Error::new(ErrorKind::TargetNotServing, "the target is not syncing")
                .with("target", self.target));
        }
        Ok(())
    }

    /// `ResyncPage`: what is here of some chunks.
    ///
    /// # Errors
    /// As `resync_begin`, or the store's.
    pub async fn resync_page(&self, request: &ResyncPageRequest) -> Result<ResyncPageReply> {
        self.check_syncing(&request.control).await?;
        let limit = request.limit.clamp(1, PAGE_MAX_COUNT) as usize;
        let after = request.after;
        match &request.choice {
            None => self.page_of_all(after, limit),
            Some(ResyncChoice::Chunks(chunks)) => {
                self.page_of(chunks.iter().take(limit).copied(), false)
            }
            Some(ResyncChoice::Pending) => {
                let pending = self.backend.pending(self.target)?;
                let behind = pending.into_iter().filter(|chunk| Some(*chunk) > after);
                let mut page: Vec<ChunkId> = behind.take(limit + 1).collect();
                let more = page.len() > limit;
                page.truncate(limit);
                self.page_of(page.into_iter(), more)
            }
            Some(ResyncChoice::Changed { stamp, chunk }) => {
                self.page_of_changes((*stamp, chunk.unwrap_or(LAST)), limit)
            }
        }
    }

    fn page_of_all(&self, after: Option<ChunkId>, limit: usize) -> Result<ResyncPageReply> {
        let from = after.map_or(ChunkId([0; 16]), following);
        let listed = self.backend.list(self.target, from, LAST, limit, false)?;
        let more = listed.len() == limit;
        let entries = listed.iter().filter_map(|(chunk, state)| entry(*chunk, state)).collect();
        Ok(ResyncPageReply { entries, more, end: None })
    }

    fn page_of(
        &self,
        chunks: impl Iterator<Item = ChunkId>,
        more: bool,
    ) -> Result<ResyncPageReply> {
        let mut entries = Vec::new();
        for chunk in chunks {
            let state = self.backend.state(self.target, chunk)?;
            entries.extend(state.and_then(|state| entry(chunk, &state)));
        }
        Ok(ResyncPageReply { entries, more, end: None })
    }

    fn page_of_changes(&self, after: ChangePlace, limit: usize) -> Result<ResyncPageReply> {
        let places = self.backend.changes(self.target, after, limit)?;
        let more = places.len() == limit;
        let page = self.page_of(places.iter().map(|(_, chunk)| *chunk), more)?;
        Ok(ResyncPageReply { end: places.last().copied(), ..page })
    }

    /// `ResyncDone`: nothing is missing here any more.
    ///
    /// # Errors
    /// As `resync_begin`.
    pub async fn resync_done(&self, control: &ResyncControl) -> Result<()> {
        self.check_syncing(control).await?;
        self.backend.raise_marks(self.target, |marks| raised(marks, control))?;
        self.complete(control.chain_version);
        tracing::info!(target_id = self.target.0, chain_id = self.chain.0, "resync is done");
        Ok(())
    }

    /// `Settled`: the head says that everything up to a stamp has ended, on all replicas.
    ///
    /// # Errors
    /// `ChainVersionMismatch`, `TargetNotServing`, `LeaseExpired`, or the store's.
    pub async fn settled(&self, control: &ResyncControl) -> Result<()> {
        self.await_routing(control.chain_version).await;
        let standing = self.standing();
        standing.check_version(control.chain_version)?;
        standing.check_read()?;
        self.mark_complete(control.complete_through)
    }

    /// Everything up to a stamp is here. A target that is complete says so.
    pub(super) fn mark_complete(&self, stamp: ChangeStamp) -> Result<()> {
        self.backend.raise_marks(self.target, |marks| {
            let complete_through = marks.complete_through.max(stamp);
            crate::store::Marks { complete_through, ..marks }
        })
    }
}

fn entry(chunk: ChunkId, state: &ChunkState) -> Option<ResyncEntry> {
    let newest = state.pending.or(state.committed)?;
    Some(ResyncEntry {
        chunk,
        version: newest.version.max(ChunkVersion(1)),
        committed: state.pending.is_none(),
        checksum: newest.checksum,
        chain_version: newest.chain_version,
        removed: newest.removed,
    })
}
