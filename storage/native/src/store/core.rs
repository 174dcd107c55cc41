//! What all operations of a store share.
//!
//! Locks, in order: a chunk's lock (`locks`), then any one of the short ones (`cache` shard,
//! `epochs`, `space`, `fresh`, `targets`, `pending`, the committer's queue), never two of those at
//! a time.

use super::cache::{Found, RecordCache};
use super::cached_writes::CachedWrites;
use super::changes::Marks;
use super::codec::{chunk_key, decode_record};
use super::epochs::Epochs;
use super::fresh::FreshPages;
use super::image::Extent;
use super::index::ChunkIndex;
use super::locks::ChunkLocks;
use super::log::Log;
use super::queue::Queue;
use super::record::{ChunkKey, Record, Version, released_by, unit_count};
use super::space::Space;
use super::types::{StoreOptions, TargetRecord};
use arc_swap::ArcSwapOption;
use firepond_core::buffer::BufferPool;
use firepond_core::ids::{NamespaceId, TargetId};
use firepond_core::sys::clock::Instant;
use firepond_core::sys::disk::{Disk, DiskFile};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Chunks that are noted for compaction.
const FRAGMENTED_MAX_COUNT: usize = 4096;

/// The shared parts of a store.
pub(super) struct Core {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) file: Arc<dyn DiskFile>,
    /// The same file, for values that may be lost.
    pub(super) cached_writes: CachedWrites,
    pub(super) index: Arc<dyn ChunkIndex>,
    pub(super) options: StoreOptions,
    /// Where the bytes of reads go; its bound is the caller's.
    pub(super) buffers: BufferPool,
    /// For bytes between disk and disk. Never held while waiting for a payload.
    pub(super) scratch: BufferPool,
    pub(super) space: Space,
    /// Pages that only the log has.
    pub(super) fresh: FreshPages,
    pub(super) cache: RecordCache,
    pub(super) locks: Arc<ChunkLocks>,
    pub(super) epochs: Epochs,
    pub(super) queue: Queue,
    /// The committer's.
    pub(super) log: tokio::sync::Mutex<Log>,
    pub(super) targets: RwLock<BTreeMap<TargetId, Arc<Target>>>,
    /// Held while a target is made, marked or removed.
    pub(super) target_change: Mutex<()>,
    /// Targets that are gone and whose chunks are still being removed.
    pub(super) garbage: Mutex<BTreeSet<TargetId>>,
    /// Changes of the index beside the records, which ride along with the next group.
    pub(super) lazy: Mutex<BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    /// Chunks with a pending version.
    pub(super) pending: Mutex<BTreeSet<ChunkKey>>,
    /// Chunks that lie in many pieces, for compaction.
    pub(super) fragmented: Mutex<BTreeSet<ChunkKey>>,
    /// Data was written since the last sync of the file began.
    pub(super) unsynced: AtomicBool,
    /// The file system is so full that only what frees space is accepted.
    pub(super) starved: AtomicBool,
    pub(super) failed: ArcSwapOption<Error>,
    pub(super) opened_at: Instant,
    /// Reads that found a page whose bytes are not those that were written.
    pub(super) rotten_count: AtomicU64,
    pub(super) group_count: AtomicU64,
    pub(super) update_count: AtomicU64,
    /// Held for as long as the store is open; none on a simulated disk.
    pub(super) _directory_lock: Option<firepond_core::sys::directory::DirectoryLock>,
}

/// A target and what it uses.
#[derive(Default)]
pub(super) struct Target {
    pub(super) record: Mutex<Option<TargetRecord>>,
    /// How far it is complete.
    pub(super) marks: Mutex<Marks>,
    /// What its chunks take: those of files, and those of each KV namespace.
    pub(super) usages: Mutex<BTreeMap<Option<NamespaceId>, Usage>>,
}

/// Space that some chunks take.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) units: i64,
    pub(super) chunk_count: i64,
}

impl Core {
    /// Whether changes wait that may ride along; on a disk without room they wait on, for they are
    /// not worth its health.
    pub(super) fn has_lazy(&self) -> bool {
        !self.starved.load(Ordering::Relaxed) && !self.lazy.lock().is_empty()
    }

    /// Gives pages back that nobody uses any more.
    pub(super) fn release(&self, extents: &[Extent]) {
        if !extents.is_empty() {
            self.space.free(&self.fresh.release(extents));
        }
    }

    /// Refuses everything once the disk has failed.
    pub(super) fn check_disk(&self) -> Result<()> {
        match &*self.failed.load() {
            Some(cause) => Err(disk_failed(cause, self)),
            None => Ok(()),
        }
    }

    /// The disk is not to be trusted any more. The first cause is kept.
    pub(super) fn fail_disk(&self, cause: &Error) -> Error {
        let previous = self.failed.load_full();
        if previous.is_none() {
            tracing::error!(disk = %self.disk.root().display(), %cause, "disk failed");
            self.failed.store(Some(Arc::new(cause.clone())));
        }
        disk_failed(previous.as_deref().unwrap_or(cause), self)
    }

    /// What a failed write of pages means: a full disk is no bad disk.
    pub(super) fn write_failed(&self, cause: Error) -> Error {
        match cause.kind() {
            ErrorKind::DiskFull => cause,
            _ => self.fail_disk(&cause),
        }
    }

    /// The target, if it is on this disk.
    pub(super) fn target(&self, target: TargetId) -> Result<Arc<Target>> {
        self.targets.read().get(&target).cloned().ok_or_else(|| {
            Error::new(ErrorKind::NoSuchTarget, "the disk has no such target")
                .with("target", target.0)
                .with("disk", self.disk.root().display())
        })
    }

    /// The newest visible record of a chunk.
    pub(super) fn lookup(&self, key: &ChunkKey) -> Result<Option<Arc<Record>>> {
        loop {
            let generation = match self.cache.find(key) {
                Found::Record(record) => return Ok(Some(record)),
                Found::Removed => return Ok(None),
                Found::Unknown { generation } => generation,
            };
            let Some(bytes) = self.index.get(&chunk_key(key))? else {
                // An absent record may have been published and written just now: look again then.
                match self.cache.find(key) {
                    Found::Unknown { generation: now } if now == generation => return Ok(None),
                    _ => continue,
                }
            };
            let record = Arc::new(decode_record(&bytes).map_err(|error| key.describe(error))?);
            if self.cache.offer(*key, &record, generation) {
                return Ok(Some(record));
            }
        }
    }

    /// Counts what a new record uses in place of the old one, which gave those pages back.
    pub(super) fn account(
        &self,
        key: &ChunkKey,
        old: Option<&Record>,
        new: Option<&Record>,
        freed: &[Extent],
    ) {
        let Some(target) = self.targets.read().get(&key.target).cloned() else { return };
        let units = unit_count(&released_by(new, old)) - unit_count(freed);
        let exists = |record: Option<&Record>| i64::from(record.is_some_and(|r| !r.is_tombstone()));
        let mut usages = target.usages.lock();
        let usage = usages.entry(key.chunk.namespace()).or_default();
        usage.units += units;
        usage.chunk_count += exists(new) - exists(old);
        if *usage == Usage::default() {
            usages.remove(&key.chunk.namespace());
        }
    }

    /// Notes a chunk that lies in many pieces; when there are too many of those, its next update
    /// does.
    pub(super) fn note_pieces(&self, key: ChunkKey, record: &Record) {
        let most = self.options.pieces_max_count;
        let pieces = |version: &Version| version.image.extents.len() > most;
        if record.pending.is_none() && record.existing().is_some_and(pieces) {
            let mut fragmented = self.fragmented.lock();
            if fragmented.len() < FRAGMENTED_MAX_COUNT {
                fragmented.insert(key);
            }
        }
    }

    /// Notes whether a visible record has a pending version.
    pub(super) fn note_pending(&self, key: ChunkKey, record: Option<&Record>) {
        let mut pending = self.pending.lock();
        match record.is_some_and(|record| record.pending.is_some()) {
            true => pending.insert(key),
            false => pending.remove(&key),
        };
    }
}

impl ChunkKey {
    /// The error with the chunk and target that it is about.
    pub(super) fn describe(&self, error: Error) -> Error {
        error.with("chunk", self.chunk).with("target", self.target.0)
    }
}

fn disk_failed(cause: &Error, core: &Core) -> Error {
    if cause.kind() == ErrorKind::Closed {
        return cause.clone();
    }
    Error::new(ErrorKind::DiskFailed, "the disk failed before")
        .with("disk", core.disk.root().display())
        .with("cause", cause)
}
