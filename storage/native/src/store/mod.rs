//! The chunk store: all chunks of all targets of one disk directory.
//!
//! One data file in pages of 4 KiB, one index that says which pages are which chunk, one worker
//! that makes updates durable in groups. Overwriting is copy-on-write by page, so a committed
//! version is never touched before the next one is durable, and readers keep the version that they
//! began with. Every page has its checksum, verified at each read. The format is
//! docs/disk-format.md.
//!
//! Read first: `core` (what is shared), `apply` (an update from lock to answer), `committer` (group
//! commit), `content` (which pages an update writes), `space` (where they go).
//!
//! Faults: a torn, lost or rotten write is found by its checksum and repaired from another replica
//! (`apply` of a full chunk); a failing write or sync takes the disk out of service; a full disk
//! refuses what needs space and still removes.

mod apply;
mod audit;
mod cache;
mod cached_writes;
mod changes;
mod codec;
mod commit;
mod committer;
mod compact;
mod content;
mod core;
mod drop_pending;
mod epochs;
mod fresh;
#[cfg(test)]
mod golden;
mod image;
mod index;
mod index_fjall;
mod index_memory;
mod job;
mod list;
mod locks;
mod log;
mod log_block;
mod log_replay;
mod maintenance;
mod open;
mod page;
mod pages;
mod queue;
mod read;
mod record;
mod rules;
mod scan;
mod scrub_place;
mod segment;
mod space;
mod targets;
mod types;

pub use changes::{ChangePlace, Marks};
pub use index::{Change, ChunkIndex, Visit};
pub use index_memory::MemoryIndex;
pub(crate) use page::PAGE_BYTES;
pub use scrub_place::ScrubPlace;
pub use types::{
    ChunkState, ChunkWrite, CompactReport, NamespaceUsage, RECENT_WRITES_MAX_COUNT, ReadImage,
    ReadVersion, StoreAudit, StoreOptions, StoreStatus, TOMBSTONE_AGE, TargetRecord, TargetUsage,
    VersionState,
};

use self::core::Core;
use self::record::ChunkKey;
use firepond_core::buffer::BufferPool;
use firepond_core::ids::{ChainId, ChainVersion, ChunkId, ChunkVersion, TargetId};
use firepond_core::sys::disk::Disk;
use firepond_core::sys::task::{Worker, spawn_worker};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The chunks of one disk directory. Cloning is cheap; the last clone that goes closes the store.
#[derive(Clone)]
pub struct ChunkStore(Arc<Handle>);

struct Handle {
    core: Arc<Core>,
    committer: Mutex<Option<Worker>>,
}

impl ChunkStore {
    /// Opens the store of a directory; an empty one is made. Blocks while it reads the index.
    ///
    /// # Errors
    /// `StoreLocked` when another process has it, `StoreCorrupt`, `Unsupported` when a newer
    /// release wrote it, `IoFailed`.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: StoreOptions,
        buffers: BufferPool,
    ) -> Result<ChunkStore> {
        ChunkStore::start(open::open_directory(disk, options, buffers)?)
    }

    /// Opens a store with an index of the caller's: for simulations.
    ///
    /// # Errors
    /// As `open`, without `StoreLocked`.
    pub fn open_with_index(
        disk: Arc<dyn Disk>,
        index: Arc<dyn ChunkIndex>,
        options: StoreOptions,
        buffers: BufferPool,
    ) -> Result<ChunkStore> {
        ChunkStore::start(open::open_parts(disk, index, options, buffers, None)?)
    }

    fn start(core: Core) -> Result<ChunkStore> {
        let core = Arc::new(core);
        let committer = spawn_worker("firepond-commit", committer::run(Arc::clone(&core)))
            .map_err(|error| Error::io(&error, "start the committer"))?;
        Ok(ChunkStore(Arc::new(Handle { core, committer: Mutex::new(Some(committer)) })))
    }

    /// The targets of this disk, by id.
    pub fn targets(&self) -> Vec<TargetRecord> {
        targets::all(&self.0.core)
    }

    /// Makes a target; one that exists for the same chain is returned as it is.
    ///
    /// # Errors
    /// `InvalidArgument` when it belongs to another chain, `ChunkBusy` while an old target of this
    /// id is being removed, `DiskFailed`.
    pub fn create_target(&self, target: TargetId, chain: ChainId) -> Result<TargetRecord> {
        targets::create(&self.0.core, target, chain)
    }

    /// Remembers durably that a target was complete and served.
    ///
    /// # Errors
    /// `NoSuchTarget`, `DiskFailed`.
    pub fn mark_served(&self, target: TargetId) -> Result<()> {
        targets::mark_served(&self.0.core, target)
    }

    /// Remembers durably in which version of its chain a target lost an update that others may
    /// have; `Marks::lost_in` says so until marks are raised without it.
    ///
    /// # Errors
    /// `NoSuchTarget`, `DiskFailed`.
    pub fn set_lost_in(&self, target: TargetId, lost_in: ChainVersion) -> Result<()> {
        targets::set_lost_in(&self.0.core, target, lost_in)
    }

    /// Forgets a target; its space comes back in the background.
    ///
    /// # Errors
    /// `DiskFailed`.
    pub fn remove_target(&self, target: TargetId) -> Result<()> {
        targets::remove(&self.0.core, target)
    }

    /// What is known of a chunk; none if it never was, or was removed long ago.
    ///
    /// # Errors
    /// `NoSuchTarget`, `StoreCorrupt`, `DiskFailed`.
    pub fn state(&self, target: TargetId, chunk: ChunkId) -> Result<Option<ChunkState>> {
        self.check(target)?;
        let record = self.0.core.lookup(&ChunkKey { target, chunk })?;
        Ok(record.map(|record| record.state()))
    }

    /// Stores an update; durable when it returns, unless its durability is `Cache`.
    ///
    /// # Errors
    /// `UpdateGap`, `UpdateStale`, `ChunkExists`, `PayloadChecksumMismatch`, `DiskFull`,
    /// `DiskFailed`, `InvalidArgument`, `NoSuchTarget`, or `ChunkChecksumMismatch` when bytes that
    /// must be kept have rotted. After an error nothing has changed.
    pub async fn apply(&self, target: TargetId, write: ChunkWrite) -> Result<VersionState> {
        let key = ChunkKey { target, chunk: write.chunk };
        apply::apply(&self.0.core, key, write).await
    }

    /// Makes the pending version visible; durable soon after.
    ///
    /// # Errors
    /// `UpdateGap` when that version never came, `NoSuchTarget`, `DiskFailed`.
    pub async fn commit(
        &self,
        target: TargetId,
        chunk: ChunkId,
        version: ChunkVersion,
        chain_version: ChainVersion,
    ) -> Result<VersionState> {
        let key = ChunkKey { target, chunk };
        commit::commit(&self.0.core, key, version, chain_version).await
    }

    /// Forgets the pending version, durably when it returns; nothing when it is not there. Needs no
    /// room.
    ///
    /// # Errors
    /// `NoSuchTarget`, `DiskFailed`.
    pub async fn drop_pending(
        &self,
        target: TargetId,
        chunk: ChunkId,
        version: ChunkVersion,
    ) -> Result<()> {
        let key = ChunkKey { target, chunk };
        drop_pending::drop_pending(&self.0.core, key, version).await
    }

    /// Reads at most `len` bytes from `offset`; fewer where the chunk ends.
    ///
    /// # Errors
    /// `ChunkNotFound`, `ChunkChecksumMismatch`, `NoSuchTarget`, `DiskFailed`, `IoFailed`.
    pub async fn read(
        &self,
        target: TargetId,
        chunk: ChunkId,
        which: ReadVersion,
        offset: u32,
        len: u32,
    ) -> Result<ReadImage> {
        self.check(target)?;
        read::read(&self.0.core, ChunkKey { target, chunk }, which, offset, len).await
    }

    /// Chunks from `from` up to but not including `to`, tombstones and pendings included.
    ///
    /// # Errors
    /// `NoSuchTarget`, `StoreCorrupt`, `DiskFailed`.
    pub fn list(
        &self,
        target: TargetId,
        from: ChunkId,
        to: ChunkId,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(ChunkId, ChunkState)>> {
        self.check(target)?;
        list::list(&self.0.core, target, from, to, limit, reverse)
    }

    /// Chunks with a pending version, in order.
    ///
    /// # Errors
    /// `NoSuchTarget`, `DiskFailed`.
    pub fn pending(&self, target: TargetId) -> Result<Vec<ChunkId>> {
        self.check(target)?;
        let pending = self.0.core.pending.lock();
        let first = ChunkKey { target, chunk: ChunkId([0; 16]) };
        let of_target = pending.range(first..).take_while(|key| key.target == target);
        Ok(of_target.map(|key| key.chunk).collect())
    }

    /// Chunks that changed, in the order of their stamps, behind a place.
    ///
    /// # Errors
    /// `NoSuchTarget`, `StoreCorrupt`, `DiskFailed`.
    pub fn changes(
        &self,
        target: TargetId,
        after: ChangePlace,
        limit: usize,
    ) -> Result<Vec<ChangePlace>> {
        self.check(target)?;
        changes::after(&self.0.core, target, after, limit)
    }

    /// How far a target is complete.
    ///
    /// # Errors
    /// `NoSuchTarget`, `DiskFailed`.
    pub fn marks(&self, target: TargetId) -> Result<Marks> {
        self.0.core.check_disk()?;
        Ok(*self.0.core.target(target)?.marks.lock())
    }

    /// Raises the marks of a target; durable soon after.
    ///
    /// # Errors
    /// As `marks`.
    pub fn raise_marks(&self, target: TargetId, raised: impl FnOnce(Marks) -> Marks) -> Result<()> {
        changes::raise(&self.0.core, target, raised)
    }

    /// How far the scrubber is in a target.
    ///
    /// # Errors
    /// `StoreCorrupt`, `DiskFailed`.
    pub fn scrub_place(&self, target: TargetId) -> Result<ScrubPlace> {
        scrub_place::get(&self.0.core, target)
    }

    /// Remembers how far the scrubber is in a target; durable soon after.
    ///
    /// # Errors
    /// `NoSuchTarget`, `DiskFailed`.
    pub fn set_scrub_place(&self, target: TargetId, place: &ScrubPlace) -> Result<()> {
        scrub_place::set(&self.0.core, target, place)
    }

    /// Runs a pass of compaction now, at its rate; it also runs by itself.
    ///
    /// # Errors
    /// `DiskFailed`, `Closed`, `StoreCorrupt`.
    pub async fn compact(&self) -> Result<CompactReport> {
        compact::pass(&self.0.core).await
    }

    /// What each KV namespace uses of a target, by id; the rest is files.
    pub fn namespaces(&self, target: TargetId) -> Vec<NamespaceUsage> {
        targets::namespaces(&self.0.core, target)
    }

    /// What a target uses; nothing if it does not exist.
    pub fn space(&self, target: TargetId) -> TargetUsage {
        targets::usage(&self.0.core, target)
    }

    /// Bytes of the file system, and bytes that chunks can still take.
    pub fn disk_space(&self) -> (u64, u64) {
        self.0.core.space.bytes().unwrap_or((0, 0))
    }

    /// The store at a glance.
    pub fn status(&self) -> StoreStatus {
        let core = &self.0.core;
        let (total_bytes, free_bytes) = self.disk_space();
        let usages: Vec<TargetUsage> =
            self.targets().iter().map(|record| self.space(record.target)).collect();
        StoreStatus {
            engine: core.disk.engine(),
            total_bytes,
            free_bytes,
            used_bytes: usages.iter().map(|usage| usage.used_bytes).sum(),
            chunk_count: usages.iter().map(|usage| usage.chunk_count).sum(),
            cached_bytes: core.cache.bytes(),
            group_count: core.group_count.load(Ordering::Relaxed),
            update_count: core.update_count.load(Ordering::Relaxed),
            failed: self.disk_failed(),
        }
    }

    /// What the records name, what is not free, and what the targets account for: equal when
    /// nothing is under way. Looks at every record.
    ///
    /// # Errors
    /// `StoreCorrupt`, `IoFailed`.
    pub fn audit(&self) -> Result<StoreAudit> {
        audit::audit(&self.0.core)
    }

    /// Why the disk serves nothing any more, if it failed.
    pub fn disk_failed(&self) -> Option<Error> {
        let failed = self.0.core.failed.load().as_deref().cloned();
        failed.filter(|cause| cause.kind() != ErrorKind::Closed)
    }

    /// Makes everything durable and refuses everything from now on. The directory is free for
    /// another process once all clones are dropped.
    pub fn close(&self) {
        self.0.close();
    }

    fn check(&self, target: TargetId) -> Result<()> {
        self.0.core.check_disk()?;
        self.0.core.target(target).map(|_| ())
    }
}

impl Handle {
    fn close(&self) {
        let Some(committer) = self.committer.lock().take() else { return };
        self.core.queue.close();
        if !committer.join() {
            tracing::error!("the committer panicked");
        }
        let closed = Error::new(ErrorKind::Closed, "the store was closed");
        if self.core.failed.load().is_none() {
            self.core.failed.store(Some(Arc::new(closed)));
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
