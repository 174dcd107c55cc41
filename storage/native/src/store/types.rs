//! What goes into the chunk store and what comes out of it.
//!
//! Invariants: a chunk has at most one pending version, and `committed < pending`; a version that
//! removes the chunk has length 0 and checksum 0.

use firepond_core::Error;
use firepond_core::ids::{
    ChainId, ChainVersion, ChangeStamp, ChunkId, ChunkVersion, NamespaceId, TargetId, WriteId,
};
use firepond_core::payload::Payload;
use firepond_core::routing::Durability;
use firepond_core::wire::storage::{RecentWrite, UpdateKind};
use std::time::Duration;

/// Most write ids that a chunk remembers.
pub const RECENT_WRITES_MAX_COUNT: usize = 64;

/// How long a removed chunk is remembered.
pub const TOMBSTONE_AGE: Duration = Duration::from_secs(3600);

/// Settings of one store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Most bytes of chunk records that are kept in memory.
    pub cache_bytes: usize,
    /// Bytes of the file system that data never takes: the log and the index live from them.
    pub reserve_bytes: u64,
    /// Most bytes of the log on disk: what is not in the index yet.
    pub log_bytes: u64,
    /// How long a removed chunk is remembered, so that late retries and resyncs find it.
    pub tombstone_age: Duration,
    /// Pieces of a chunk beyond which compaction puts it together again.
    pub pieces_max_count: usize,
    /// Most bytes a second that compaction moves.
    pub compact_bytes_per_s: u64,
    /// At most this long after it became visible a lazily written record is durable.
    pub lazy_interval: Duration,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            cache_bytes: 64 << 20,
            reserve_bytes: 256 << 20,
            log_bytes: 32 << 20,
            pieces_max_count: 64,
            compact_bytes_per_s: 16 << 20,
            tombstone_age: TOMBSTONE_AGE,
            lazy_interval: Duration::from_millis(100),
        }
    }
}

/// A target of this disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRecord {
    /// Its id.
    pub target: TargetId,
    /// The chain that it belongs to.
    pub chain: ChainId,
    /// Random, made at creation: a new disk under an old id is told apart.
    pub generation: u64,
    /// Whether it ever was complete and served.
    pub served: bool,
}

/// What the store knows of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkState {
    /// What readers see; `removed` for a tombstone.
    pub committed: Option<VersionState>,
    /// What waits for its commit.
    pub pending: Option<VersionState>,
    /// The newest committed writes, oldest first.
    pub recent_writes: Vec<RecentWrite>,
    /// The newest version whose write is not among them any more.
    pub forgotten: ChunkVersion,
    /// Given when the chunk was created; of the pending version if nothing is committed.
    pub tag: [u8; 32],
    /// Wall-clock time of the last change.
    pub updated_ns: u64,
    /// At least the stamp of every update that is in it.
    pub stamp: ChangeStamp,
}

/// One version of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionState {
    /// Counts committed updates.
    pub version: ChunkVersion,
    /// The chain version under which it was made or committed.
    pub chain_version: ChainVersion,
    /// The update that made it.
    pub write_id: WriteId,
    /// Bytes.
    pub len: u32,
    /// CRC32C of all bytes.
    pub checksum: u32,
    /// The chunk does not exist in this version.
    pub removed: bool,
}

/// One update of a chunk.
#[derive(Clone, Debug)]
pub struct ChunkWrite {
    /// The chunk.
    pub chunk: ChunkId,
    /// What is done.
    pub kind: UpdateKind,
    /// Where the payload goes.
    pub offset: u32,
    /// Bytes of the payload; for `Truncate` the new length, for `PunchHole` that of the hole.
    pub len: u32,
    /// The longest the chunk may become.
    pub chunk_len_max: u32,
    /// The bytes; they may still be arriving.
    pub payload: Payload,
    /// CRC32C of the payload.
    pub checksum: u32,
    /// The version that it makes.
    pub version: ChunkVersion,
    /// The chain version under which it is made.
    pub chain_version: ChainVersion,
    /// Names the update for ever.
    pub write_id: WriteId,
    /// Kept if the update creates the chunk.
    pub tag: [u8; 32],
    /// Replaces whatever is there, at any version; the payload is the whole chunk.
    pub full_chunk: bool,
    /// Stores it as committed at once: the tail, resync, repair.
    pub commit: bool,
    /// With `full_chunk`: the write ids that the sender remembers of the chunk.
    pub recent_writes: Vec<RecentWrite>,
    /// With `full_chunk`: the newest version whose write the sender forgot.
    pub forgotten: ChunkVersion,
    /// Whether the answer waits for stable storage.
    pub durability: Durability,
    /// When the head took it; the chunk's stamp becomes at least this.
    pub stamp: ChangeStamp,
}

/// Which version a read is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVersion {
    /// The committed one.
    Committed,
    /// This one, committed or pending.
    Exactly(ChunkVersion),
    /// The pending one, or else the committed one.
    Newest,
}

/// Bytes of a chunk, all of them verified.
#[derive(Clone, Debug)]
pub struct ReadImage {
    /// The bytes; fewer than asked for where the chunk ends.
    pub payload: Payload,
    /// CRC32C of these bytes.
    pub checksum: u32,
    /// The version that they are of.
    pub version: ChunkVersion,
    /// Bytes of the whole chunk.
    pub chunk_len: u32,
    /// The chunk's tag.
    pub tag: [u8; 32],
}

/// Space that a target takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetUsage {
    /// Bytes on disk, in whole pages.
    pub used_bytes: u64,
    /// Chunks that exist, committed or pending; tombstones are not counted.
    pub chunk_count: u64,
}

/// Space as three parts of the store see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreAudit {
    /// Bytes of the pages that records name.
    pub record_bytes: u64,
    /// Bytes of the pages that are not free.
    pub used_bytes: u64,
    /// Bytes that the targets account for.
    pub accounted_bytes: u64,
    /// Reads since the store was opened that found a page rotten.
    pub rotten_count: u64,
}

/// What a KV namespace takes of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceUsage {
    /// The namespace.
    pub namespace: NamespaceId,
    /// What it takes.
    pub usage: TargetUsage,
}

/// What one pass of compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactReport {
    /// Chunks of which something was moved.
    pub chunk_count: u64,
    /// Bytes that were moved.
    pub moved_bytes: u64,
}

/// The store at a glance.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// The engine of the disk.
    pub engine: &'static str,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Bytes that the store can still take.
    pub free_bytes: u64,
    /// Bytes of chunks on disk, in whole pages.
    pub used_bytes: u64,
    /// Chunks that exist.
    pub chunk_count: u64,
    /// Bytes of chunk records in memory; at most `cache_bytes`.
    pub cached_bytes: usize,
    /// Groups that were committed since the store was opened.
    pub group_count: u64,
    /// Updates in these groups.
    pub update_count: u64,
    /// Why the disk serves nothing any more.
    pub failed: Option<Error>,
}
