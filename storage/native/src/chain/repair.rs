//! Mends a chunk whose blocks rotted, from another replica.
//!
//! One that is being synced will do, and a version that is pending there: if all others are gone,
//! that may be the only copy, and the resync of that very replica waits for it.
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
use firepond_core::routing::{ChainTarget, Durability, PublicState};
use firepond_core::sys::clock::now;
use firepond_core::transport::Request;
use firepond_core::wire::MessageKind;
use firepond_core::wire::storage::{
    READ_FLAG_NEWEST, READ_FLAG_RELAXED, ReadIo, ReadResult, UpdateKind, decode_table, encode_table,
};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long one replica may take to send its copy.
const FETCH_PATIENCE: Duration = Duration::from_secs(5);

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
    async fn fetch_noted(
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

    /// The bytes of exactly this version from another replica, those that serve first.
    ///
    /// # Errors
    /// `ChunkLost` when it is certain that no replica has them: every other one is rotten, too, and
    /// none is away that could bring them back; a value that may be lost waits for nobody.
    async fn fetch(&self, chunk: ChunkId, wanted: &VersionState) -> Result<(Bytes, ChainTarget)> {
        use PublicState::{Serving, Syncing};
        let routing = self.node.peers.routing().current();
        let chain = routing.chain(self.chain)?;
        let others = || chain.targets.iter().rev().filter(|other| other.target != self.target);
        let mut last =
            Error::new(ErrorKind::ChunkChecksumMismatch, "no other replica to mend from");
        let mut hopeless =
            chain.durability == Durability::Cache || others().all(|other| other.state == Serving);
        for state in [Serving, Syncing] {
            for other in others().filter(|other| other.state == state) {
                match self.fetch_any(*other, chunk, wanted).await {
                    Ok(bytes) => return Ok((bytes, *other)),
                    Err(error) => {
                        hopeless &= state == Syncing || error.kind() == ErrorKind::ChunkLost;
                        last = error;
                    }
                }
            }
        }
        if hopeless {
            last = Error::new(ErrorKind::ChunkLost, "every replica of the chunk is damaged");
        }
        Err(last.with("chunk", chunk).with("chain", self.chain))
    }

    /// As `fetch`, from one replica, be it committed or pending there.
    async fn fetch_any(
        &self,
        other: ChainTarget,
        chunk: ChunkId,
        wanted: &VersionState,
    ) -> Result<Bytes> {
        use ErrorKind::{ChunkChecksumMismatch, ChunkLost};
        match self.fetch_from(other, READ_FLAG_RELAXED, chunk, wanted).await {
            Err(error) if matches!(error.kind(), ChunkChecksumMismatch | ChunkLost) => {
                let flags = READ_FLAG_RELAXED | READ_FLAG_NEWEST;
                self.fetch_from(other, flags, chunk, wanted).await
            }
            result => result,
        }
    }

    /// As `fetch_any`, one try: `ChunkLost` says that this copy is rotten, too.
    async fn fetch_from(
        &self,
        other: ChainTarget,
        flags: u32,
        chunk: ChunkId,
        wanted: &VersionState,
    ) -> Result<Bytes> {
        let io = ReadIo {
            chunk: chunk.0,
            chain: self.chain.0.into(),
            chain_version: 0.into(),
            offset: 0.into(),
            len: wanted.len.into(),
            target: other.target.0.into(),
            flags: flags.into(),
            reserved: 0.into(),
        };
        let deadline = now() + FETCH_PATIENCE;
        let request = Request::new(MessageKind::BatchRead, encode_table(&[io]), deadline);
        let reply = self.node.peers.call_node(other.node, request).await?;
        let results = decode_table::<ReadResult>(&reply.body)?;
        let found = results.first().ok_or_else(|| Error::internal("an empty batch came back"))?;
        let bytes = reply.payload.complete().await?;
        if found.status.get() == ErrorKind::ChunkChecksumMismatch as u16 {
            let why = "the other replica's copy is rotten";
            return Err(Error::new(ErrorKind::ChunkLost, why).with("target", other.target));
        }
        let equal = found.status.get() == 0
            && found.version.get() == wanted.version.0
            && bytes.len() == wanted.len as usize
            && crc32c(bytes) == wanted.checksum;
        if !equal {
            let why = "the other replica does not have this version";
            return Err(
                Error::new(ErrorKind::ChunkChecksumMismatch, why).with("target", other.target)
            );
        }
        Ok(Bytes::copy_from_slice(bytes))
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
