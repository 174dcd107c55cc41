//! The client side of chains: exactly-once updates, reads and queries with fail-over.
//!
//! Why one type for clients and the metadata service: the rules by which a try may be repeated
//! decide whether an update happens once, and there is one place for them.
//! Invariants: see `peer`; a reply's bytes are handed out only after their checksum was verified.

use super::Peers;
use super::channels::Channels;
use crate::ids::{ChainId, ChunkId, ChunkVersion, ClientId};
use crate::payload::Payload;
use crate::transport::SinkSlice;
use crate::wire::storage::UpdateKind;
use std::sync::Arc;

/// Updates and queries of chains. Cloning is cheap; clones share their write channels.
#[derive(Clone)]
pub struct ChainClient {
    pub(super) peers: Peers,
    pub(super) channels: Arc<Channels>,
}

/// One update of one chunk.
#[derive(Clone, Debug)]
pub struct ChunkUpdate {
    /// The chunk.
    pub chunk: ChunkId,
    /// What is done.
    pub kind: UpdateKind,
    /// Where the payload goes.
    pub offset: u32,
    /// Bytes of the payload; for `Truncate` the new length.
    pub len: u32,
    /// The bytes.
    pub payload: Payload,
    /// CRC32C of the payload.
    pub checksum: u32,
    /// The longest the chunk may become.
    pub chunk_len_max: u32,
    /// Kept with a chunk that this update creates; zeros for files.
    pub tag: [u8; 32],
}

impl ChunkUpdate {
    /// The fence of an update.
    pub(super) fn fence(of: &ChunkUpdate) -> ChunkUpdate {
        ChunkUpdate {
            chunk: of.chunk,
            kind: UpdateKind::Fence,
            offset: 0,
            len: 0,
            payload: Payload::empty(),
            checksum: 0,
            chunk_len_max: of.chunk_len_max,
            tag: of.tag,
        }
    }
}

/// One read of a part of a chunk.
pub struct ChunkRead {
    /// The chain.
    pub chain: ChainId,
    /// The chunk.
    pub chunk: ChunkId,
    /// First byte.
    pub offset: u32,
    /// Bytes wanted.
    pub len: u32,
    /// Where the bytes go, at least `len` long; without it they come in the outcome.
    pub sink: Option<SinkSlice>,
    /// Asks the head first, for callers that just wrote there; else replicas share the reads.
    pub prefer_head: bool,
}

/// What a read found. A chunk that does not exist is the error `ChunkNotFound`.
#[derive(Clone, Debug)]
pub struct ReadOutcome {
    /// Bytes read; fewer than wanted where the chunk ends.
    pub len: u32,
    /// Length of the whole chunk.
    pub chunk_len: u32,
    /// The version that was read.
    pub version: ChunkVersion,
    /// The tag of the chunk.
    pub tag: [u8; 32],
    /// The bytes; empty when the read had a sink.
    pub bytes: Payload,
}

impl ChainClient {
    /// A client that names its writes by `client`, which no other process may use.
    pub fn new(peers: Peers, client: ClientId) -> ChainClient {
        ChainClient { peers, channels: Arc::new(Channels::new(client)) }
    }

    /// Whom it talks to.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }
}
