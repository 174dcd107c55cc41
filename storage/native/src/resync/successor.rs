//! The syncing successor's side of a resync.

use crate::chain::{Backend, Replica};
use firepond_core::ids::{ChunkId, ChunkVersion};
use firepond_core::routing::PublicState;
use firepond_core::wire::storage::{
    ResyncControl, ResyncEntry, ResyncPageReply, ResyncPageRequest,
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
    /// `ResyncBegin`: whether this target is the syncing one, under this chain version.
    ///
    /// # Errors
    /// `ChainVersionMismatch`, `TargetNotServing`, `LeaseExpired`.
    pub async fn resync_begin(&self, control: &ResyncControl) -> Result<()> {
        self.await_routing(control.chain_version).await;
        let standing = self.standing();
        standing.check_forward(control.chain_version)?;
        if standing.state != Some(PublicState::Syncing) {
            return Err(Error::new(ErrorKind::TargetNotServing, "the target is not syncing")
                .with("target", self.target));
        }
        Ok(())
    }

    /// `ResyncPage`: what is here after a chunk, in order.
    ///
    /// # Errors
    /// As `resync_begin`, or the store's.
    pub async fn resync_page(&self, request: &ResyncPageRequest) -> Result<ResyncPageReply> {
        self.resync_begin(&request.control).await?;
        let limit = request.limit.clamp(1, PAGE_MAX_COUNT) as usize;
        let from = request.after.map_or(ChunkId([0; 16]), following);
        let listed = self.backend.list(self.target, from, LAST, limit, false)?;
        let more = listed.len() == limit;
        let entries = listed.into_iter().filter_map(|(chunk, state)| {
            let newest = state.pending.or(state.committed)?;
            Some(ResyncEntry {
                chunk,
                version: newest.version.max(ChunkVersion(1)),
                committed: state.pending.is_none(),
                checksum: newest.checksum,
                chain_version: newest.chain_version,
                removed: newest.removed,
            })
        });
        Ok(ResyncPageReply { entries: entries.collect(), more })
    }

    /// `ResyncDone`: nothing is missing here any more.
    ///
    /// # Errors
    /// As `resync_begin`.
    pub async fn resync_done(&self, control: &ResyncControl) -> Result<()> {
        self.resync_begin(control).await?;
        self.complete(control.chain_version);
        tracing::info!(target_id = self.target.0, chain_id = self.chain.0, "resync is done");
        Ok(())
    }
}
