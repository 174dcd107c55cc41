//! Mends a chunk whose blocks rotted, from other replicas (`fetch`).
//!
//! Invariants: only exactly the version that is committed here is taken, and only if its bytes have
//! the checksum that is stored here; the chunk is replaced under its lock and never under a pending
//! version; every bad chunk is one WARN line, as a disk that rots is the operator's business.

use super::backend::Backend;
use super::replica::Replica;
use super::run::to_its_end;
use crate::store::{ChunkState, ChunkWrite, ReadImage, ReadVersion, VersionState};
use bytes::Bytes;
use firepond_core::checksum::crc32c;
use firepond_core::ids::ChunkId;
use firepond_core::payload::Payload;
use firepond_core::routing::{ChainTarget, Durability};
use firepond_core::wire::storage::UpdateKind;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;

impl<B: Backend> Replica<B> {
    /// Answers a read of rotten blocks from another replica, and mends the chunk here.
    pub(super) async fn read_mended(
        self: &Arc<Self>,
        chunk: ChunkId,
        which: ReadVersion,
        offset: u32,
        len: u32,
        error: Error,
    ) -> Result<ReadImage> {
        let state = self.backend.state(self.target, chunk)?;
        let committed = state.as_ref().and_then(|state| state.committed);
        let Some(wanted) = committed.filter(|one| !one.removed && fits(which, one)) else {
            return Err(error);
        };
        let (bytes, source) = match self.fetch_noted(chunk, &wanted).await {
            Ok(found) => found,
            Err(_) => return Err(error),
        };
        let (replica, copy) = (Arc::clone(self), bytes.clone());
        let mended = to_its_end(async move {
            let guard = replica.lock(chunk).await?;
            let result = replica.mend_locked(chunk, &wanted, &copy, source).await;
            drop(guard);
            result
        });
        if let Err(error) = mended.await {
            // A full disk, perhaps: the scrubber tries again, and the reader has its bytes.
            tracing::info!(%chunk, target_id = self.target.0, %error, "not mended yet");
        }
        let start = (offset as usize).min(bytes.len());
        let end = (start + len as usize).min(bytes.len());
        let part = bytes.slice(start..end);
        Ok(ReadImage {
            checksum: crc32c(&part),
            payload: Payload::from_bytes(part),
            version: wanted.version,
            chunk_len: wanted.len,
            tag: state.map_or([0; 32], |state| state.tag),
        })
    }

    /// Mends a chunk whose committed version is rotten.
    ///
    /// # Errors
    /// `ChunkLost`, or when no replica has the version now, or the store fails.
    pub(crate) async fn repair(self: &Arc<Self>, chunk: ChunkId) -> Result<()> {
        let replica = Arc::clone(self);
        to_its_end(async move {
            let guard = replica.lock(chunk).await?;
            let result = replica.repair_locked(chunk).await;
            drop(guard);
            result
        })
        .await
    }

    /// Mends the committed version of a chunk under its lock.
    pub(super) async fn repair_locked(&self, chunk: ChunkId) -> Result<()> {
        let state = self.backend.state(self.target, chunk)?;
        let wanted = state.and_then(|state| state.committed).filter(|one| !one.removed);
        let Some(wanted) = wanted else {
            self.findings.repaired(chunk); // It was removed.
            return Ok(());
        };
        let (bytes, source) = self.fetch_noted(chunk, &wanted).await?;
        self.mend_locked(chunk, &wanted, &bytes, source).await
    }

    async fn mend_locked(
        &self,
        chunk: ChunkId,
        wanted: &VersionState,
        bytes: &Bytes,
        source: ChainTarget,
    ) -> Result<()> {
        let Some(state) = self.backend.state(self.target, chunk)? else { return Ok(()) };
        if state.pending.is_some() || state.committed != Some(*wanted) {
            return Ok(()); // It moved on; if it still is rotten, the next read mends it.
        }
        let which = ReadVersion::Committed;
        if self.backend.read(self.target, chunk, which, 0, wanted.len).await.is_ok() {
            self.findings.repaired(chunk); // Somebody else was faster.
            return Ok(());
        }
        self.backend.apply(self.target, mended(chunk, wanted, &state, bytes)).await?;
        self.node.count_repaired();
        self.findings.repaired(chunk);
        tracing::warn!(
            %chunk,
            target_id = self.target.0,
            source_target = source.target.0,
            version = wanted.version.0,
            "a rotten chunk was mended from another replica"
        );
        Ok(())
    }

    /// As `fetch`, of a chunk that was found to be rotten: the first time is noted, and told if
    /// nobody has it.
    pub(super) async fn fetch_noted(
        &self,
        chunk: ChunkId,
        wanted: &VersionState,
    ) -> Result<(Bytes, ChainTarget)> {
        let news = self.findings.bad(chunk);
        let found = self.fetch(chunk, wanted).await;
        let Err(error) = &found else { return found };
        if error.kind() == ErrorKind::ChunkLost {
            self.findings.lost(chunk);
        }
        // Values of the class `cache` may be lost at a crash: a miss, and nobody's business.
        if news && self.standing().durability == Durability::Durable {
            tracing::warn!(
                %chunk, target_id = self.target.0, %error, "a rotten chunk cannot be mended"
            );
        }
        found
    }
}

fn fits(which: ReadVersion, committed: &VersionState) -> bool {
    match which {
        ReadVersion::Committed => true,
        ReadVersion::Exactly(version) => version == committed.version,
        ReadVersion::Newest => false,
    }
}

fn mended(chunk: ChunkId, wanted: &VersionState, state: &ChunkState, bytes: &Bytes) -> ChunkWrite {
    ChunkWrite {
        chunk,
        kind: UpdateKind::Replace,
        offset: 0,
        len: wanted.len,
        chunk_len_max: wanted.len,
        payload: Payload::from_bytes(bytes.clone()),
        checksum: wanted.checksum,
        version: wanted.version,
        chain_version: wanted.chain_version,
        write_id: wanted.write_id,
        tag: state.tag,
        full_chunk: true,
        commit: true,
        recent_writes: state.recent_writes.clone(),
        durability: Durability::Durable,
        forgotten: state.forgotten,
        stamp: state.stamp,
    }
}
