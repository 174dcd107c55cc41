//! What replication needs of a chunk store, as a trait.
//!
//! Why: the machines and their runtime run in tests over a small store in memory, and in the
//! product over `ChunkStore`; the trait is generic and not boxed, so a read costs no allocation for
//! it.

use crate::store::{
    ChangePlace, ChunkState, ChunkStore, ChunkWrite, Marks, ReadImage, ReadVersion, ScrubPlace,
    TargetUsage, VersionState,
};
use firepond_core::ids::{ChainVersion, ChunkId, ChunkVersion, TargetId};
use firepond_core::{Error, Result};
use std::future::Future;

/// The chunks of one disk.
pub trait Backend: Clone + Send + Sync + 'static {
    /// What is known of a chunk.
    fn state(&self, target: TargetId, chunk: ChunkId) -> Result<Option<ChunkState>>;
    /// Stores an update; durable when it returns, unless the write says otherwise.
    fn apply(
        &self,
        target: TargetId,
        write: ChunkWrite,
    ) -> impl Future<Output = Result<VersionState>> + Send;
    /// Makes the pending version the committed one.
    fn commit(
        &self,
        target: TargetId,
        chunk: ChunkId,
        version: ChunkVersion,
        chain_version: ChainVersion,
    ) -> impl Future<Output = Result<VersionState>> + Send;
    /// Forgets the pending version, durably; nothing when it is not there.
    fn drop_pending(
        &self,
        target: TargetId,
        chunk: ChunkId,
        version: ChunkVersion,
    ) -> impl Future<Output = Result<()>> + Send;
    /// Reads a part of a version; every byte was verified.
    fn read(
        &self,
        target: TargetId,
        chunk: ChunkId,
        which: ReadVersion,
        offset: u32,
        len: u32,
    ) -> impl Future<Output = Result<ReadImage>> + Send;
    /// Chunks of a key range, tombstones and pendings included.
    fn list(
        &self,
        target: TargetId,
        from: ChunkId,
        to: ChunkId,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(ChunkId, ChunkState)>>;
    /// Chunks with a pending version.
    fn pending(&self, target: TargetId) -> Result<Vec<ChunkId>>;
    /// Chunks that changed, in the order of their stamps, behind a place.
    fn changes(
        &self,
        target: TargetId,
        after: ChangePlace,
        limit: usize,
    ) -> Result<Vec<ChangePlace>>;
    /// How far a target is complete.
    fn marks(&self, target: TargetId) -> Result<Marks>;
    /// Raises the marks of a target; durable soon after.
    fn raise_marks(&self, target: TargetId, raised: impl FnOnce(Marks) -> Marks) -> Result<()>;
    /// How far the scrubber is in a target.
    fn scrub_place(&self, target: TargetId) -> Result<ScrubPlace>;
    /// Remembers how far the scrubber is; durable soon after.
    fn set_scrub_place(&self, target: TargetId, place: &ScrubPlace) -> Result<()>;
    /// Remembers durably that a target was complete.
    fn mark_served(&self, target: TargetId) -> Result<()>;
    /// Remembers durably in which version of its chain a target lost an update.
    fn set_lost_in(&self, target: TargetId, lost_in: ChainVersion) -> Result<()>;
    /// Space of a target.
    fn usage(&self, target: TargetId) -> TargetUsage;
    /// Bytes of the disk: (total, free for us).
    fn disk_space(&self) -> (u64, u64);
    /// Why the disk serves nothing any more.
    fn disk_failed(&self) -> Option<Error>;
}

impl Backend for ChunkStore {
    fn state(&self, target: TargetId, chunk: ChunkId) -> Result<Option<ChunkState>> {
        ChunkStore::state(self, target, chunk)
    }

    async fn apply(&self, target: TargetId, write: ChunkWrite) -> Result<VersionState> {
        ChunkStore::apply(self, target, write).await
    }

    async fn commit(
        &self,
        target: TargetId,
        chunk: ChunkId,
        version: ChunkVersion,
        chain_version: ChainVersion,
    ) -> Result<VersionState> {
        ChunkStore::commit(self, target, chunk, version, chain_version).await
    }

    async fn drop_pending(
        &self,
        target: TargetId,
        chunk: ChunkId,
        version: ChunkVersion,
    ) -> Result<()> {
        ChunkStore::drop_pending(self, target, chunk, version).await
    }

    async fn read(
        &self,
        target: TargetId,
        chunk: ChunkId,
        which: ReadVersion,
        offset: u32,
        len: u32,
    ) -> Result<ReadImage> {
        ChunkStore::read(self, target, chunk, which, offset, len).await
    }

    fn list(
        &self,
        target: TargetId,
        from: ChunkId,
        to: ChunkId,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(ChunkId, ChunkState)>> {
        ChunkStore::list(self, target, from, to, limit, reverse)
    }

    fn pending(&self, target: TargetId) -> Result<Vec<ChunkId>> {
        ChunkStore::pending(self, target)
    }

    fn changes(
        &self,
        target: TargetId,
        after: ChangePlace,
        limit: usize,
    ) -> Result<Vec<ChangePlace>> {
        ChunkStore::changes(self, target, after, limit)
    }

    fn marks(&self, target: TargetId) -> Result<Marks> {
        ChunkStore::marks(self, target)
    }

    fn raise_marks(&self, target: TargetId, raised: impl FnOnce(Marks) -> Marks) -> Result<()> {
        ChunkStore::raise_marks(self, target, raised)
    }

    fn scrub_place(&self, target: TargetId) -> Result<ScrubPlace> {
        ChunkStore::scrub_place(self, target)
    }

    fn set_scrub_place(&self, target: TargetId, place: &ScrubPlace) -> Result<()> {
        ChunkStore::set_scrub_place(self, target, place)
    }

    fn mark_served(&self, target: TargetId) -> Result<()> {
        ChunkStore::mark_served(self, target)
    }

    fn set_lost_in(&self, target: TargetId, lost_in: ChainVersion) -> Result<()> {
        ChunkStore::set_lost_in(self, target, lost_in)
    }

    fn usage(&self, target: TargetId) -> TargetUsage {
        self.space(target)
    }

    fn disk_space(&self) -> (u64, u64) {
        ChunkStore::disk_space(self)
    }

    fn disk_failed(&self) -> Option<Error> {
        ChunkStore::disk_failed(self)
    }
}
