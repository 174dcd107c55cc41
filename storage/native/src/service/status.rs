//! The engine at a glance, as the heartbeat and the status page show it.

use crate::store::NamespaceUsage;
use firepond_core::ids::{ChainId, ChainVersion, ChangeStamp, TargetId};
use firepond_core::routing::LocalState;
use std::path::PathBuf;

/// A resync that this node drives.
#[derive(Clone, Debug)]
pub struct ResyncStatus {
    /// Who is being synced.
    pub successor: TargetId,
    /// Chunks that agree now.
    pub chunks_done: u64,
    /// Chunks that are to be looked at.
    pub chunks_total: u64,
    /// Bytes of chunks that were sent.
    pub bytes_moved: u64,
    /// When it began, in ms since 1970.
    pub started_ms: u64,
}

/// What was found of the chunks of a target, by the scrubber and by reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScrubStatus {
    /// Chunks that the scrubber read.
    pub chunks_checked: u64,
    /// Bytes of them.
    pub bytes_checked: u64,
    /// Chunks that were rotten, or different from the chain's.
    pub bad_count: u64,
    /// Of these: made good again.
    pub repaired_count: u64,
    /// Of these: bad until now.
    pub unrepairable_count: u64,
    /// When the scrubber had seen every chunk last, in seconds since 1970; 0: not yet.
    pub last_pass_unix_s: u64,
}

/// One target.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    /// Its id.
    pub target: TargetId,
    /// Its chain.
    pub chain: ChainId,
    /// The version of the chain under which the rest is true.
    pub chain_version: ChainVersion,
    /// The directory of its disk.
    pub disk: PathBuf,
    /// Random, made with the target.
    pub generation: u64,
    /// Whether it was complete once.
    pub served: bool,
    /// What its node says of it.
    pub local_state: LocalState,
    /// Bytes on disk.
    pub used_bytes: u64,
    /// Chunks.
    pub chunk_count: u64,
    /// What each KV namespace takes of it; the rest is files.
    pub namespaces: Vec<NamespaceUsage>,
    /// Chunks with a pending version.
    pub dirty_count: u64,
    /// It holds every acknowledged update up to this stamp.
    pub complete_through: ChangeStamp,
    /// The version of the chain in which it lost an update that others may have; 0: none.
    pub lost_version: ChainVersion,
    /// It stays out of its chain until its disk has room.
    pub full: bool,
    /// What was found of its chunks.
    pub scrub: ScrubStatus,
    /// The resync of its successor, while one runs.
    pub resync: Option<ResyncStatus>,
}

/// One disk.
#[derive(Clone, Debug)]
pub struct DiskStatus {
    /// Its directory.
    pub path: PathBuf,
    /// The engine: "io_uring" or "positional".
    pub engine: &'static str,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Bytes that chunks can still take.
    pub free_bytes: u64,
    /// Why it serves nothing any more.
    pub failed: Option<String>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// By id.
    pub targets: Vec<TargetStatus>,
    /// In the order of the configuration.
    pub disks: Vec<DiskStatus>,
    /// Chunks that were mended from another replica.
    pub repaired_blocks: u64,
    /// Values that were evicted.
    pub evicted_values: u64,
}
