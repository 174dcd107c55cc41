//! A chunk store in memory with the failures of a real one, for deterministic tests of chains.
//!
//! Fault model: a crash forgets commits that nothing durable followed (the version is pending
//! again), and nothing else; whoever still holds the store of an earlier life can neither read nor
//! change it. A disk may be full, and a chunk may rot: its reads fail until it is replaced.

use bytes::Bytes;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{ChainVersion, ChunkId, ChunkVersion, TargetId};
use firepond_core::payload::Payload;
use firepond_core::sys::{clock, random};
use firepond_core::wire::storage::{RecentWrite, UpdateKind};
use firepond_core::{Error, ErrorKind, Result};
use firepond_storage::chain::Backend;
use firepond_storage::store::{
    ChunkState, ChunkWrite, RECENT_WRITES_MAX_COUNT, ReadImage, ReadVersion, TargetUsage,
    VersionState,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const DISK_BYTES: u64 = 1 << 40;

#[derive(Clone)]
struct Stored {
    state: VersionState,
    bytes: Bytes,
}

#[derive(Clone, Default)]
struct Entry {
    committed: Option<Stored>,
    pending: Option<Stored>,
    recent_writes: Vec<RecentWrite>,
    tag: [u8; 32],
    /// The entry before a commit that is not durable yet.
    before_commit: Option<Box<Entry>>,
}

#[derive(Default)]
struct Inner {
    life: u64,
    chunks: BTreeMap<ChunkId, Entry>,
    rotten: HashSet<ChunkId>,
    full: bool,
    served: bool,
}

/// One disk; the handle belongs to one life of its node.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
    life: u64,
}

impl MemoryStore {
    /// An empty disk.
    pub fn new() -> MemoryStore {
        MemoryStore { inner: Arc::default(), life: 0 }
    }

    /// The node dies: handles of this life are dead, some commits are forgotten.
    pub fn crash(&self) -> MemoryStore {
        let mut inner = self.inner.lock();
        inner.life += 1;
        for entry in inner.chunks.values_mut() {
            if let Some(before) = entry.before_commit.take()
                && random::below(2) == 0
            {
                *entry = *before;
            }
        }
        MemoryStore { inner: Arc::clone(&self.inner), life: inner.life }
    }

    /// Everything is gone: a new disk under the old name.
    pub fn wipe(&self) {
        let mut inner = self.inner.lock();
        inner.chunks.clear();
        inner.served = false;
    }

    pub fn set_full(&self, full: bool) {
        self.inner.lock().full = full;
    }

    pub fn rot(&self, chunk: ChunkId) {
        self.inner.lock().rotten.insert(chunk);
    }

    pub fn served(&self) -> bool {
        self.inner.lock().served
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> Result<T>) -> Result<T> {
        let mut inner = self.inner.lock();
        if inner.life != self.life {
            return Err(Error::new(ErrorKind::Closed, "a store of an earlier life"));
        }
        work(&mut inner)
    }
}

async fn pause() {
    clock::sleep(Duration::from_micros(random::below(400))).await;
}

fn content(entry: &Entry, write: &ChunkWrite, payload: &[u8]) -> Bytes {
    let base = entry.committed.as_ref().filter(|one| !one.state.removed && !write.full_chunk);
    let mut bytes = base.map(|one| one.bytes.to_vec()).unwrap_or_default();
    let (offset, len) = (write.offset as usize, write.len as usize);
    match write.kind {
        UpdateKind::Remove => bytes.clear(),
        UpdateKind::Truncate => bytes.resize(len, 0),
        UpdateKind::Replace | UpdateKind::Create => bytes = payload.to_vec(),
        UpdateKind::Write => {
            bytes.resize(bytes.len().max(offset + len), 0);
            bytes[offset..offset + len].copy_from_slice(payload);
        }
    }
    Bytes::from(bytes)
}

fn check_order(entry: &Entry, write: &ChunkWrite) -> Result<Option<VersionState>> {
    if write.full_chunk {
        return Ok(None);
    }
    if let Some(pending) = &entry.pending {
        let same =
            pending.state.version == write.version && pending.state.write_id == write.write_id;
        let error = Error::new(ErrorKind::UpdateStale, "another update is pending");
        return if same { Ok(Some(pending.state)) } else { Err(error) };
    }
    let current = entry.committed.as_ref().map_or(0, |one| one.state.version.0);
    match write.version.0 {
        next if next == current + 1 => Ok(None),
        next if next > current => Err(Error::new(ErrorKind::UpdateGap, "gap")),
        _ => Err(Error::new(ErrorKind::UpdateStale, "stale")),
    }
}

fn remember(entry: &mut Entry, state: &VersionState) {
    if entry.recent_writes.iter().all(|one| one.write_id != state.write_id) {
        entry.recent_writes.push(RecentWrite { write_id: state.write_id, version: state.version });
    }
    let excess = entry.recent_writes.len().saturating_sub(RECENT_WRITES_MAX_COUNT);
    entry.recent_writes.drain(..excess);
}

impl Backend for MemoryStore {
    fn state(&self, _target: TargetId, chunk: ChunkId) -> Result<Option<ChunkState>> {
        self.with(|inner| Ok(inner.chunks.get(&chunk).map(state_of)))
    }

    async fn apply(&self, _target: TargetId, write: ChunkWrite) -> Result<VersionState> {
        let payload = write.payload.complete().await?.to_vec();
        let has_payload = !matches!(write.kind, UpdateKind::Truncate | UpdateKind::Remove);
        if has_payload && crc32c(&payload) != write.checksum {
            return Err(Error::new(ErrorKind::PayloadChecksumMismatch, "bytes changed"));
        }
        pause().await;
        let state = self.with(|inner| {
            if !write.full_chunk
                && write.kind == UpdateKind::Write
                && inner.rotten.contains(&write.chunk)
            {
                return Err(Error::new(ErrorKind::ChunkChecksumMismatch, "rotten"));
            }
            let rotten = write.full_chunk.then_some(write.chunk);
            let entry = inner.chunks.entry(write.chunk).or_default();
            if let Some(done) = check_order(entry, &write)? {
                return Ok(done);
            }
            let bytes = content(entry, &write, &payload);
            let state = VersionState {
                version: write.version,
                chain_version: write.chain_version,
                write_id: write.write_id,
                len: bytes.len() as u32,
                checksum: crc32c(&bytes),
                removed: write.kind == UpdateKind::Remove,
            };
            entry.before_commit = None;
            if entry.committed.as_ref().is_none_or(|one| one.state.removed) || write.full_chunk {
                entry.tag = write.tag;
            }
            if write.full_chunk {
                entry.recent_writes = write.recent_writes.clone();
            }
            if write.commit {
                entry.pending = None;
                entry.committed = Some(Stored { state, bytes });
                remember(entry, &state);
            } else {
                entry.pending = Some(Stored { state, bytes });
            }
            rotten.map(|chunk| inner.rotten.remove(&chunk));
            Ok(state)
        })?;
        pause().await;
        Ok(state)
    }

    async fn commit(
        &self,
        _target: TargetId,
        chunk: ChunkId,
        version: ChunkVersion,
        chain_version: ChainVersion,
    ) -> Result<VersionState> {
        pause().await;
        self.with(|inner| {
            let entry = inner.chunks.entry(chunk).or_default();
            let before = Box::new(entry.clone());
            let pending = entry.pending.take().filter(|one| one.state.version == version);
            let Some(mut pending) = pending else {
                return Err(Error::new(ErrorKind::UpdateGap, "nothing pending"));
            };
            pending.state.chain_version = chain_version;
            let state = pending.state;
            entry.committed = Some(pending);
            remember(entry, &state);
            entry.before_commit = Some(before);
            Ok(state)
        })
    }

    async fn read(
        &self,
        _target: TargetId,
        chunk: ChunkId,
        which: ReadVersion,
        offset: u32,
        len: u32,
    ) -> Result<ReadImage> {
        pause().await;
        self.with(|inner| {
            let missing = || Error::new(ErrorKind::ChunkNotFound, "");
            let entry = inner.chunks.get(&chunk).ok_or_else(missing)?;
            let versions = [entry.committed.as_ref(), entry.pending.as_ref()];
            let found = match which {
                ReadVersion::Committed => versions[0],
                ReadVersion::Newest => versions[1].or(versions[0]),
                ReadVersion::Exactly(version) => {
                    versions.into_iter().flatten().find(|one| one.state.version == version)
                }
            };
            let found = found.filter(|one| !one.state.removed).ok_or_else(missing)?;
            if inner.rotten.contains(&chunk) {
                return Err(Error::new(ErrorKind::ChunkChecksumMismatch, "rotten"));
            }
            let start = (offset as usize).min(found.bytes.len());
            let end = (start + len as usize).min(found.bytes.len());
            let part = found.bytes.slice(start..end);
            Ok(ReadImage {
                checksum: crc32c(&part),
                payload: Payload::from_bytes(part),
                version: found.state.version,
                chunk_len: found.state.len,
                tag: entry.tag,
            })
        })
    }

    fn list(
        &self,
        _target: TargetId,
        from: ChunkId,
        to: ChunkId,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(ChunkId, ChunkState)>> {
        self.with(|inner| {
            let row = |(chunk, entry): (&ChunkId, &Entry)| (*chunk, state_of(entry));
            let range = inner.chunks.range(from..to);
            Ok(match reverse {
                true => range.rev().take(limit).map(row).collect(),
                false => range.take(limit).map(row).collect(),
            })
        })
    }

    fn pending(&self, _target: TargetId) -> Result<Vec<ChunkId>> {
        self.with(|inner| {
            let pending = inner.chunks.iter().filter(|(_, entry)| entry.pending.is_some());
            Ok(pending.map(|(chunk, _)| *chunk).collect())
        })
    }

    fn mark_served(&self, _target: TargetId) -> Result<()> {
        self.with(|inner| {
            inner.served = true;
            Ok(())
        })
    }

    fn usage(&self, _target: TargetId) -> TargetUsage {
        let chunk_count = self.inner.lock().chunks.len() as u64;
        TargetUsage { used_bytes: 0, chunk_count }
    }

    fn disk_space(&self) -> (u64, u64) {
        let full = self.inner.lock().full;
        (DISK_BYTES, if full { 0 } else { DISK_BYTES / 2 })
    }

    fn disk_failed(&self) -> Option<Error> {
        None
    }
}

fn state_of(entry: &Entry) -> ChunkState {
    ChunkState {
        committed: entry.committed.as_ref().map(|one| one.state),
        pending: entry.pending.as_ref().map(|one| one.state),
        recent_writes: entry.recent_writes.clone(),
        tag: entry.tag,
        updated_ns: 0,
    }
}
