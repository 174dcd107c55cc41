//! What is found when the faults have ended and the clients are done.

use crate::plan::Fault;
use bytes::Bytes;
use firepond_core::ids::{ChainId, ChunkId, NodeId, TargetId};
use firepond_core::routing::{Durability, Routing};
use firepond_storage::store::ChunkState;
use std::sync::Arc;
use std::time::Duration;

/// All that the world looks up at the end.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Every routing that a leading manager published, in order.
    pub routings: Vec<Arc<Routing>>,
    /// The chains of the file table, by slot.
    pub file_chains: Vec<ChainId>,
    /// Every replica of every chain.
    pub replicas: Vec<ReplicaAudit>,
    /// Every storage node.
    pub stores: Vec<StoreAudit>,
    /// How long after the last fault all targets served; none: they never did.
    pub settled_after: Option<Duration>,
    /// Operations of clients that never ended.
    pub clients_stuck_count: usize,
    /// The faults that were really carried out, as the rule of what may be lost forbids some.
    pub faults_done: Vec<Fault>,
}

/// One replica of one chain.
#[derive(Clone, Debug)]
pub struct ReplicaAudit {
    /// The chain.
    pub chain: ChainId,
    /// What the chain promises.
    pub durability: Durability,
    /// The replica.
    pub target: TargetId,
    /// Whether it serves.
    pub serving: bool,
    /// All chunks, with their bytes as the shipping read path gives them; none when it fails.
    pub chunks: Vec<(ChunkId, ChunkState, Option<Bytes>)>,
    /// Chunks with a pending version.
    pub pending_count: usize,
    /// Chunk locks that somebody holds.
    pub locked_count: usize,
}

/// One storage node.
#[derive(Clone, Debug)]
pub struct StoreAudit {
    /// The node.
    pub node: NodeId,
    /// Bytes of pages that the records of all chunks name.
    pub record_bytes: u64,
    /// Bytes of pages that are not free.
    pub used_bytes: u64,
    /// Bytes that the accounting of the targets says are used.
    pub accounted_bytes: u64,
    /// Bytes of buffers that are lent.
    pub buffer_bytes: u64,
    /// Pages that were found rotten since the node's first start.
    pub rotten_count: u64,
}
