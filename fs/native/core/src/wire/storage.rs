//! Messages of the storage service.
//!
//! Invariants: a batch's results are in the order of its I/Os, each with its own status; an
//! update's payload has the checksum that the update names; version and write id travel together.

use crate::error::WireError;
use crate::ids::{
    ChainId, ChainVersion, ChangeStamp, ChunkId, ChunkVersion, NodeId, TargetId, WriteId,
};
use crate::transport::malformed;
use crate::{Error, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Most I/Os of one batch.
pub const BATCH_MAX_COUNT: usize = 1024;

/// One read of a batch, 48 bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ReadIo {
    /// The chunk.
    pub chunk: [u8; 16],
    /// The chain.
    pub chain: U32,
    /// The version of the chain that the reader knows.
    pub chain_version: U32,
    /// First byte.
    pub offset: U32,
    /// Bytes wanted; the reply has fewer where the chunk ends.
    pub len: U32,
    /// The target that is meant.
    pub target: U64,
    /// `READ_FLAG_*`.
    pub flags: U32,
    /// Zero.
    pub reserved: U32,
}
const _: () = assert!(size_of::<ReadIo>() == 48);

/// Serve what is there, in whatever state the target is. For replicas that know which bytes they
/// want.
pub const READ_FLAG_RELAXED: u32 = 1;

/// With relaxed: the newest version, also if it is pending.
pub const READ_FLAG_NEWEST: u32 = 2;

/// The result of one read, 72 bytes. Its payload part is exactly `len` bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct ReadResult {
    /// 0, or the code of an error.
    pub status: U16,
    /// Zero.
    pub reserved: U16,
    /// Bytes in the payload for this I/O.
    pub len: U32,
    /// CRC32C of these bytes.
    pub checksum: U32,
    /// Length of the whole chunk.
    pub chunk_len: U32,
    /// The committed version that was read.
    pub version: U64,
    /// The tag that the chunk was created with; zeros for files.
    pub tag: [u8; 32],
    /// Zero.
    pub reserved_more: [u8; 16],
}
const _: () = assert!(size_of::<ReadResult>() == 72);

/// Encodes a table of fixed structs.
pub fn encode_table<T: IntoBytes + Immutable>(rows: &[T]) -> Bytes {
    Bytes::copy_from_slice(rows.as_bytes())
}

/// Decodes a table of fixed structs of at most `BATCH_MAX_COUNT` rows.
///
/// # Errors
/// `FrameInvalid` when the length is not a multiple of a row; `InvalidArgument` when it is too
/// long.
pub fn decode_table<T: FromBytes + Immutable + KnownLayout + Unaligned>(
    bytes: &[u8],
) -> Result<&[T]> {
    let rows = <[T]>::ref_from_bytes(bytes).map_err(|error| malformed("table", error))?;
    if rows.len() > BATCH_MAX_COUNT {
        return Err(Error::invalid("batch too long")
            .with("count", rows.len())
            .with("max", BATCH_MAX_COUNT));
    }
    Ok(rows)
}

/// In the context of `UpdateUnproven`: the chunk's version, to say `since` it.
pub const SINCE_CONTEXT: &str = "chunk_version";

/// What an update does to its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateKind {
    /// Puts the payload at the offset; bytes between the old end and the offset become zeros.
    Write,
    /// As `Write` at offset 0, replacing the whole chunk.
    Replace,
    /// As `Replace`, but only if the chunk does not exist (`ChunkExists` otherwise).
    Create,
    /// Cuts or extends (with zeros) the chunk to `len` bytes. No payload.
    Truncate,
    /// Removes the chunk. No payload; fine when absent.
    Remove,
    /// Makes `len` bytes from the offset zeros, as far as the chunk reaches, and frees their pages;
    /// the chunk keeps its length. No payload; fine when absent.
    PunchHole,
    /// Changes nothing, but leaves its write id: the channel's write before it, if it has not
    /// happened, never will (`UpdateStale` if it has). No payload; fine when absent.
    Fence,
}

impl UpdateKind {
    /// Whether bytes come with it.
    pub fn has_payload(self) -> bool {
        matches!(self, UpdateKind::Write | UpdateKind::Replace | UpdateKind::Create)
    }

    /// Whether it may need more room than the chunk has now.
    pub fn grows(self) -> bool {
        !matches!(self, UpdateKind::Remove | UpdateKind::PunchHole | UpdateKind::Fence)
    }
}

/// An update, as a client sends it to the head (`Update`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// Names the update for ever.
    pub write_id: WriteId,
    /// The chunk.
    pub chunk: ChunkId,
    /// The chain.
    pub chain: ChainId,
    /// The version of the chain that the sender knows.
    pub chain_version: ChainVersion,
    /// The target that is meant: the head for clients, the successor for replicas.
    pub target: TargetId,
    /// What is done.
    pub kind: UpdateKind,
    /// Where the payload goes.
    pub offset: u32,
    /// Bytes of the payload; for `Truncate` the new length, for `PunchHole` that of the hole.
    pub len: u32,
    /// CRC32C of the payload.
    pub checksum: u32,
    /// The longest the chunk may become, in bytes: its file's chunk size.
    pub chunk_len_max: u32,
    /// Kept with a chunk that this update creates: the digest of a KV key. Zeros for files.
    #[serde(with = "serde_bytes")]
    pub tag: [u8; 32],
    /// Room for a capability (design, section 14); empty now.
    #[serde(default, with = "serde_bytes")]
    pub capability: Vec<u8>,
    /// A version that the chunk had while nothing of this write could have happened; 0 is always
    /// right. A chunk that forgot writes takes an unknown one only if it is newer than all of
    /// those.
    #[serde(default, skip_serializing_if = "is_zero_version")]
    pub since: ChunkVersion,
}

/// An update on its way down the chain (`Forward`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardRequest {
    /// The update; chain version and target are those of this hop, at this try.
    pub update: UpdateRequest,
    /// The version that the head gave it.
    pub version: ChunkVersion,
    /// The whole chunk replaces whatever the receiver has: resync, or a write to a syncing
    /// successor.
    pub full_chunk: bool,
    /// Whether the chunk already is committed at the sender (resync) or pending.
    pub committed: bool,
    /// The newest write ids that the sender keeps with the chunk, so that they survive a resync.
    #[serde(default)]
    pub recent_writes: Vec<RecentWrite>,
    /// With a whole chunk: the newest version whose write id the sender forgot.
    #[serde(default, skip_serializing_if = "is_zero_version")]
    pub forgotten: ChunkVersion,
    /// When the head took the update; 0 from a release without stamps.
    #[serde(default, skip_serializing_if = "is_unstamped")]
    pub stamp: ChangeStamp,
}

fn is_zero_version(version: &ChunkVersion) -> bool {
    version.0 == 0
}

fn is_unstamped(stamp: &ChangeStamp) -> bool {
    *stamp == ChangeStamp(0)
}

/// A write id that a chunk remembers, with the version it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentWrite {
    /// The write.
    pub write_id: WriteId,
    /// What it made.
    pub version: ChunkVersion,
}

/// The answer to `Update` and `Forward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReply {
    /// The version that the update made.
    pub version: ChunkVersion,
    /// The chain version under which it was committed; a predecessor whose routing is older waits.
    pub chain_version: ChainVersion,
    /// CRC32C of the whole chunk; all replicas must agree.
    pub checksum: u32,
    /// Length of the whole chunk in bytes.
    pub len: u32,
}

/// Names chunks on one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkQuery {
    /// The chain.
    pub chain: ChainId,
    /// The version of the chain that the sender knows.
    pub chain_version: ChainVersion,
    /// The target that is meant.
    pub target: TargetId,
    /// The chunks.
    pub chunks: Vec<ChunkId>,
}

/// `BatchStat`: chunks of several chains at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchStatRequest {
    /// By chain.
    pub queries: Vec<ChunkQuery>,
    /// The asker knows of chunks that fail alone; without it a query fails with its first chunk.
    #[serde(default, skip_serializing_if = "is_false")]
    pub alone: bool,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What is committed of one chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkStat {
    /// The chunk.
    pub chunk: ChunkId,
    /// The committed version; 0 when the chunk does not exist.
    pub version: ChunkVersion,
    /// Bytes.
    pub len: u32,
    /// CRC32C of the whole chunk.
    pub checksum: u32,
    /// The tag that it was created with.
    #[serde(with = "serde_bytes")]
    pub tag: [u8; 32],
}

/// The answer to `BatchStat`: per query its chunks in order, or the error of the query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchStatReply {
    /// In the order of the queries.
    pub results: Vec<Result<Vec<ChunkStat>, WireError>>,
    /// Chunks that failed alone; their place in `results` says nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedStat>,
}

/// A chunk of a `BatchStat` that failed alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStat {
    /// Which query.
    pub query: u32,
    /// Which of its chunks.
    pub chunk: u32,
    /// Why.
    pub error: WireError,
}

/// `QueryCommitted`: what is committed of these chunks, asked of the tail.
pub type QueryCommittedRequest = ChunkQuery;

/// The answer to `QueryCommitted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryCommittedReply {
    /// In the order of the chunks; 0 where none is committed.
    pub versions: Vec<ChunkVersion>,
}

/// `ListChunks`: existing chunks from `from` up to but not including `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListChunksRequest {
    /// The chain.
    pub chain: ChainId,
    /// The version of the chain that the sender knows.
    pub chain_version: ChainVersion,
    /// The target that is meant.
    pub target: TargetId,
    /// First chunk.
    pub from: ChunkId,
    /// End.
    pub to: ChunkId,
    /// Most chunks of the answer.
    pub limit: u32,
    /// From the end backwards (the last chunk decides a file's length).
    pub reverse: bool,
}

/// The answer to `ListChunks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListChunksReply {
    /// In order.
    pub chunks: Vec<ChunkStat>,
    /// Whether the range may have more.
    pub more: bool,
}

/// From one replica of a chain to another, about the receiver's target: `ResyncBegin`,
/// `ResyncDone`, `Settled` and `Expel`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncControl {
    /// The chain.
    pub chain: ChainId,
    /// The version of the chain under which it is said; any change voids it.
    pub chain_version: ChainVersion,
    /// The target that is meant.
    pub target: TargetId,
    /// `ResyncDone` and `Settled`: the receiver holds every acknowledged update up to this stamp.
    #[serde(default, skip_serializing_if = "is_unstamped")]
    pub complete_through: ChangeStamp,
    /// `ResyncDone`: the sender may have forgotten removals up to this stamp.
    #[serde(default, skip_serializing_if = "is_unstamped")]
    pub purged_through: ChangeStamp,
    /// `Expel`: the receiver has no room for what it must take.
    #[serde(default)]
    pub full: bool,
}

/// The answer to `ResyncBegin`: what the successor has. A release without stamps answers nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncBeginReply {
    /// It holds every acknowledged update up to this stamp.
    pub complete_through: ChangeStamp,
}

/// `ResyncPage`: the successor's chunks after `after`, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncPageRequest {
    /// As in `ResyncBegin`.
    pub control: ResyncControl,
    /// Where the last page ended; none for the first page.
    pub after: Option<ChunkId>,
    /// Most chunks of the answer.
    pub limit: u32,
    /// Which chunks; all of them in the order of their ids if none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<ResyncChoice>,
}

/// Which chunks a page of a resync is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResyncChoice {
    /// These, in this order.
    Chunks(Vec<ChunkId>),
    /// Those with a pending version.
    Pending,
    /// Those that changed after a stamp, in the order of stamp and id, from behind a place.
    Changed {
        /// The stamp of the place.
        stamp: ChangeStamp,
        /// The chunk of the place; none: behind all chunks of that stamp.
        chunk: Option<ChunkId>,
    },
}

/// What a syncing successor has of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncEntry {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its newest version there, committed or pending.
    pub version: ChunkVersion,
    /// Whether that version is committed there.
    pub committed: bool,
    /// CRC32C of the whole chunk at that version.
    pub checksum: u32,
    /// The chain version under which that version was made.
    pub chain_version: ChainVersion,
    /// The chunk was removed at this version and is only remembered.
    pub removed: bool,
}

/// The answer to `ResyncPage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResyncPageReply {
    /// In order.
    pub entries: Vec<ResyncEntry>,
    /// Whether more follow.
    pub more: bool,
    /// Where a page of changed chunks ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<(ChangeStamp, ChunkId)>,
}

/// Space of one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetSpace {
    /// The target.
    pub target: TargetId,
    /// The node.
    pub node: NodeId,
    /// Which of the node's disks; targets that share a disk share its space.
    #[serde(default)]
    pub disk: u32,
    /// Bytes of the chunks of this target.
    pub used_bytes: u64,
    /// Chunks.
    pub chunk_count: u64,
    /// Bytes of its disk.
    pub disk_total_bytes: u64,
    /// Bytes that its disk still takes.
    pub disk_free_bytes: u64,
}

/// The answer to `Space`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceReply {
    /// All targets of the node.
    pub targets: Vec<TargetSpace>,
}
