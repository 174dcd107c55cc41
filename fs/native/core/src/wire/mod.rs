//! What travels: message kinds and the structs behind them.
//!
//! Why MessagePack maps: both languages read them, unknown fields are ignored, absent ones default,
//! so neighbouring releases talk to each other. The batch read, the hottest message, is a table of
//! fixed little-endian structs instead. Docs: docs/wire.md; golden bytes: tests/golden.
//! Invariants: a kind's number is never used again; a decoder checks lengths before it allocates.

pub mod meta;
pub mod storage;

use crate::Result;
use crate::transport::malformed;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// The largest body of a message in bytes.
pub const BODY_MAX_BYTES: usize = 4 << 20;
/// The largest payload of a message in bytes.
pub const PAYLOAD_MAX_BYTES: usize = 64 << 20;
/// The largest chunk in bytes.
pub const CHUNK_MAX_BYTES: usize = 32 << 20;

/// What a request asks. Blocks: 0x00 all services, 0x01 storage, 0x02 metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum MessageKind {
    /// Are you there, and which life of you? Answered by every service.
    Ping = 0x0001,
    /// Reads of parts of chunks.
    BatchRead = 0x0101,
    /// An update from a client, for the head.
    Update = 0x0102,
    /// An update from a predecessor.
    Forward = 0x0103,
    /// Which version of a chunk is committed? For the tail.
    QueryCommitted = 0x0104,
    /// Versions, lengths and existence of chunks by id.
    BatchStat = 0x0105,
    /// The chunks of a key range, in order, in pages.
    ListChunks = 0x0106,
    /// Begins the resync of a syncing successor.
    ResyncBegin = 0x0107,
    /// One page of a syncing successor's chunk metadata.
    ResyncPage = 0x0108,
    /// The successor has everything.
    ResyncDone = 0x0109,
    /// Space of a node's targets.
    Space = 0x010a,
    /// From the head: every update up to a stamp has ended, on all replicas.
    Settled = 0x010b,
    /// From the predecessor: the receiver's target cannot follow and must leave its chain.
    Expel = 0x010c,
    /// One metadata operation (`wire::meta::MetaRequest`).
    Meta = 0x0201,
}

impl MessageKind {
    /// All kinds.
    pub const ALL: [MessageKind; 14] = [
        MessageKind::Ping,
        MessageKind::BatchRead,
        MessageKind::Update,
        MessageKind::Forward,
        MessageKind::QueryCommitted,
        MessageKind::BatchStat,
        MessageKind::ListChunks,
        MessageKind::ResyncBegin,
        MessageKind::ResyncPage,
        MessageKind::ResyncDone,
        MessageKind::Space,
        MessageKind::Settled,
        MessageKind::Expel,
        MessageKind::Meta,
    ];

    /// The kind of a number, if this release knows it.
    pub fn from_code(code: u16) -> Option<MessageKind> {
        MessageKind::ALL.into_iter().find(|kind| *kind as u16 == code)
    }
}

/// Encodes a message as a MessagePack map.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    let bytes = rmp_serde::to_vec_named(message);
    Bytes::from(bytes.unwrap_or_else(|error| unreachable!("plain data encodes: {error}")))
}

/// Decodes a message.
///
/// # Errors
/// `FrameInvalid` when the bytes are not such a message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    rmp_serde::from_slice(bytes).map_err(|error| malformed(std::any::type_name::<T>(), error))
}

/// The answer to `Ping`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pong {
    /// Who answers.
    pub node: crate::ids::NodeId,
    /// Which life of it.
    pub incarnation: crate::ids::Incarnation,
}
