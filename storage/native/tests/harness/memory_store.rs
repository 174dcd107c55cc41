//! A chunk store in memory with the failures of a real one, for deterministic tests of chains.
//!
//! Fault model: a crash forgets young commits that nothing durable followed (the version is pending
//! again), and nothing else; whoever still holds the store of an earlier life can neither read nor
//! change it. A disk may be full, and a chunk may rot: its reads fail until it is replaced.

use super::memory_chunk::{Entry, Stored, check_order, content, made, remember, state_of};
use bytes::Bytes;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{ChainVersion, ChangeStamp, ChunkId, ChunkVersion, TargetId};
use firepond_core::payload::Payload;
use firepond_core::sys::{clock, random};
use firepond_core::wire::storage::UpdateKind;
use firepond_core::{Error, ErrorKind, Result};
use firepond_storage::chain::Backend;
use firepond_storage::store::{
    ChangePlace, ChunkState, ChunkWrite, Marks, ReadImage, ReadVersion, ScrubPlace, TargetUsage,
    VersionState,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How long a commit that nothing durable followed may be forgotten at a crash.
const LAZY_INTERVAL: Duration = Duration::from_millis(200);

const DISK_BYTES: u64 = 1 << 40;
const NO_MARKS: Marks = Marks {
    complete_through: ChangeStamp(0),
    purged_through: ChangeStamp(0),
    lost_in: ChainVersion(0),
};

struct Inner {
    life: u64,
    chunks: BTreeMap<ChunkId, Entry>,
    is_full: bool,
    /// It refuses what it said that it has room for.
    is_full_unseen: bool,
    /// Chunks of which nothing can be read, not even what is known of them.
    broken: BTreeSet<ChunkId>,
    /// Changes the last byte of what it stores.
    lying: bool,
    served: bool,
    marks: Marks,
    scrub_place: ScrubPlace,
}

impl Default for Inner {
    fn default() -> Inner {
        let (chunks, is_full) = (BTreeMap::new(), false);
        let (lying, served, marks) = (false, false, NO_MARKS);
        let (scrub_place, broken) = (ScrubPlace::default(), BTreeSet::new());
        let is_full_unseen = false;
        Inner {
            life: 0,
            chunks,
            is_full,
            is_full_unseen,
            broken,
            lying,
            served,
            marks,
            scrub_place,
        }
    }
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
            if let Some((at, before)) = entry.before_commit.take()
                && clock::now() < at + LAZY_INTERVAL
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
        inner.marks = NO_MARKS;
    }

    pub fn set_full(&self, full: bool) {
        self.inner.lock().is_full = full;
    }

    /// Whether it refuses what it said that it has room for.
    pub fn set_full_unseen(&self, full: bool) {
        self.inner.lock().is_full_unseen = full;
    }

    /// Nothing is known of a chunk any more.
    pub fn break_chunk(&self, chunk: ChunkId) {
        self.inner.lock().broken.insert(chunk);
    }

    /// The disk changes what it stores from now on.
    pub fn set_lying(&self, lying: bool) {
        self.inner.lock().lying = lying;
    }

    /// The committed version of a chunk rots, if there is one.
    pub fn rot(&self, chunk: ChunkId) {
        self.rot_pages(chunk, 0..1 << 14);
    }

    /// Some pages of it rot.
    pub fn rot_pages(&self, chunk: ChunkId, pages: Range<usize>) {
        let mut inner = self.inner.lock();
        let committed = inner.chunks.get_mut(&chunk).and_then(|entry| entry.committed.as_mut());
        if let Some(committed) = committed.filter(|one| !one.state.removed) {
            committed.rotten.extend(pages);
        }
    }

    /// A removal is forgotten, as it is after its age.
    pub fn purge(&self, chunk: ChunkId) {
        let mut inner = self.inner.lock();
        let entry = inner.chunks.remove(&chunk).expect("a tombstone");
        assert!(entry.committed.is_some_and(|one| one.state.removed), "only removals are");
        inner.marks.purged_through = inner.marks.purged_through.max(entry.stamp);
    }

    /// The committed version of a chunk has other bytes, and a checksum that fits them.
    pub fn diverge(&self, chunk: ChunkId) {
        let mut inner = self.inner.lock();
        let entry = inner.chunks.get_mut(&chunk).expect("a chunk");
        let committed = entry.committed.as_mut().expect("a committed version");
        let mut bytes = committed.bytes.to_vec();
        bytes[0] ^= 1;
        committed.bytes = Bytes::from(bytes);
        committed.state.checksum = crc32c(&committed.bytes);
    }

    pub fn is_rotten(&self, chunk: ChunkId) -> bool {
        let inner = self.inner.lock();
        let committed = inner.chunks.get(&chunk).and_then(|entry| entry.committed.as_ref());
        committed.is_some_and(|one| !one.rotten.is_empty())
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

    async fn pause(&self) {
        clock::sleep(Duration::from_millis(random::below(3))).await;
    }
}

impl Backend for MemoryStore {
    fn state(&self, _target: TargetId, chunk: ChunkId) -> Result<Option<ChunkState>> {
        self.with(|inner| {
            if inner.broken.contains(&chunk) {
                return Err(Error::new(ErrorKind::IoFailed, "a bad place of the medium"));
            }
            Ok(inner.chunks.get(&chunk).map(state_of))
        })
    }

    async fn apply(&self, _target: TargetId, write: ChunkWrite) -> Result<VersionState> {
        let payload = write.payload.complete().await?.to_vec();
        let has_payload =
            matches!(write.kind, UpdateKind::Write | UpdateKind::Replace | UpdateKind::Create);
        if has_payload && crc32c(&payload) != write.checksum {
            return Err(Error::new(ErrorKind::PayloadChecksumMismatch, "bytes changed"));
        }
        self.pause().await;
        let state = self.with(|inner| {
            let lying = inner.lying;
            let is_full = inner.is_full || inner.is_full_unseen;
            let entry = inner.chunks.entry(write.chunk).or_default();
            if let Some(done) = check_order(entry, &write)? {
                return Ok(done);
            }
            let partial = matches!(
                write.kind,
                UpdateKind::Write | UpdateKind::Truncate | UpdateKind::PunchHole
            );
            let base = entry.committed.as_ref().filter(|_| partial && !write.full_chunk);
            let rotten = base.map(|base| base.rotten.clone()).unwrap_or_default();
            let touched = write.offset as usize..(write.offset + write.len) as usize;
            let whole = write.kind != UpdateKind::Write && !rotten.is_empty();
            if whole || base.is_some_and(|base| !base.is_good(touched)) {
                return Err(Error::new(ErrorKind::ChunkChecksumMismatch, "rotten"));
            }
            if is_full && write.kind != UpdateKind::Remove {
                return Err(Error::new(ErrorKind::DiskFull, "no room after all"));
            }
            let mut bytes = content(entry, &write, &payload);
            if lying && !bytes.is_empty() {
                let mut changed = bytes.to_vec();
                *changed.last_mut().expect("not empty") ^= 1;
                bytes = Bytes::from(changed);
            }
            let state = VersionState {
                version: write.version,
                chain_version: write.chain_version,
                write_id: write.write_id,
                len: bytes.len() as u32,
                checksum: crc32c(&bytes),
                removed: write.kind == UpdateKind::Remove,
            };
            entry.before_commit = None;
            entry.updated_ns = clock::unix_time_ns();
            entry.stamp = entry.stamp.max(write.stamp);
            if entry.committed.as_ref().is_none_or(|one| one.state.removed) || write.full_chunk {
                entry.tag = write.tag;
            }
            if write.full_chunk {
                entry.recent_writes.clear();
                entry.forgotten = write.forgotten;
                for recent in &write.recent_writes {
                    remember(entry, recent);
                }
            }
            if write.commit {
                entry.pending = None;
                entry.committed = Some(Stored { state, bytes, rotten });
                remember(entry, &made(&state));
            } else {
                entry.pending = Some(Stored { state, bytes, rotten });
            }
            Ok(state)
        })?;
        self.pause().await;
        Ok(state)
    }

    async fn commit(
        &self,
        _target: TargetId,
        chunk: ChunkId,
        version: ChunkVersion,
        chain_version: ChainVersion,
    ) -> Result<VersionState> {
        self.pause().await;
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
            remember(entry, &made(&state));
            entry.before_commit = Some((clock::now(), before));
            Ok(state)
        })
    }

    async fn drop_pending(
        &self,
        _target: TargetId,
        chunk: ChunkId,
        version: ChunkVersion,
    ) -> Result<()> {
        self.pause().await;
        self.with(|inner| {
            if let Some(entry) = inner.chunks.get_mut(&chunk) {
                entry.pending.take_if(|one| one.state.version == version);
            }
            Ok(())
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
        self.pause().await;
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
            let start = (offset as usize).min(found.bytes.len());
            let end = (start + len as usize).min(found.bytes.len());
            if !found.is_good(start..end) {
                return Err(Error::new(ErrorKind::ChunkChecksumMismatch, "rotten"));
            }
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

    fn changes(
        &self,
        _target: TargetId,
        after: ChangePlace,
        limit: usize,
    ) -> Result<Vec<ChangePlace>> {
        self.with(|inner| {
            let places = inner.chunks.iter().map(|(chunk, entry)| (entry.stamp, *chunk));
            let mut found: Vec<_> = places.filter(|place| *place > after).collect();
            found.sort_unstable();
            found.truncate(limit);
            Ok(found)
        })
    }

    fn marks(&self, _target: TargetId) -> Result<Marks> {
        self.with(|inner| Ok(inner.marks))
    }

    fn raise_marks(&self, _target: TargetId, raised: impl FnOnce(Marks) -> Marks) -> Result<()> {
        self.with(|inner| {
            inner.marks = raised(inner.marks);
            Ok(())
        })
    }

    fn scrub_place(&self, _target: TargetId) -> Result<ScrubPlace> {
        self.with(|inner| Ok(inner.scrub_place))
    }

    fn set_scrub_place(&self, _target: TargetId, place: &ScrubPlace) -> Result<()> {
        self.with(|inner| {
            inner.scrub_place = *place;
            Ok(())
        })
    }

    fn mark_served(&self, _target: TargetId) -> Result<()> {
        self.with(|inner| {
            inner.served = true;
            Ok(())
        })
    }

    fn set_lost_in(&self, _target: TargetId, lost_in: ChainVersion) -> Result<()> {
        self.with(|inner| {
            inner.marks.lost_in = lost_in;
            Ok(())
        })
    }

    fn usage(&self, _target: TargetId) -> TargetUsage {
        let chunk_count = self.inner.lock().chunks.len() as u64;
        TargetUsage { used_bytes: 0, chunk_count }
    }

    fn disk_space(&self) -> (u64, u64) {
        let free = if self.inner.lock().is_full { 0 } else { DISK_BYTES / 2 };
        (DISK_BYTES, free)
    }

    fn disk_failed(&self) -> Option<Error> {
        None
    }
}
