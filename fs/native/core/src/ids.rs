//! Ids as newtypes, so that a chain is never taken for a target.
//!
//! Invariants: an id is never used again after its object is gone; `ChunkId` is 16 bytes
//! big-endian, kind first, so that all chunks of a file are one key range in chunk order.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }
    };
}

newtype!(/// A file, directory or symbolic link. 1 is the root; 0 is never used.
    InodeId(u64), "inode:");
newtype!(/// The position of a chunk in its file.
    ChunkIndex(u32), "index:");
newtype!(/// An ordered list of targets that hold the same chunks.
    ChainId(u32), "chain:");
newtype!(/// Grows by one with every change of a chain's members, order or states.
    ChainVersion(u32), "chain-version:");
newtype!(/// A list of chains that file layouts and KV namespaces index.
    ChainTableId(u32), "table:");
newtype!(/// Which edition of a chain table a layout was made with.
    ChainTableVersion(u32), "table-version:");
newtype!(/// One replica of one chain: a share of one disk.
    TargetId(u64), "target:");
newtype!(/// One process that registered with the manager.
    NodeId(u32), "node:");
newtype!(/// One life of a node: a new number at each start.
    Incarnation(u64), "incarnation:");
newtype!(/// A client process: SDK or mount.
    ClientId(u64), "client:");
newtype!(/// Counts the committed updates of one chunk.
    ChunkVersion(u64), "chunk-version:");
newtype!(/// When a chunk changed: the chain version in the upper half, below it an epoch.
    ChangeStamp(u64), "stamp:");
newtype!(/// Grows with every change of the routing information.
    RoutingVersion(u64), "routing:");
newtype!(/// A KV namespace; 24 bits are used.
    NamespaceId(u32), "namespace:");

impl ChangeStamp {
    /// The stamp of an epoch under a chain version.
    pub fn new(chain_version: ChainVersion, epoch: u32) -> ChangeStamp {
        ChangeStamp(u64::from(chain_version.0) << 32 | u64::from(epoch))
    }

    /// The chain version under which it was given.
    pub fn chain_version(self) -> ChainVersion {
        ChainVersion((self.0 >> 32) as u32)
    }

    /// The epoch within the chain version.
    pub fn epoch(self) -> u32 {
        self.0 as u32
    }
}

impl InodeId {
    /// The root directory.
    pub const ROOT: InodeId = InodeId(1);
}

/// What a chunk belongs to; the first byte of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChunkKind {
    /// A chunk of a file.
    File = 1,
    /// A whole value of the KV tier.
    Kv = 2,
}

/// The name of a chunk within a chain, 16 bytes.
///
/// File: kind 1, three zero bytes, inode (8, big-endian), index (4, big-endian).
/// KV: kind 2, namespace (3, big-endian), the first 12 bytes of the key's digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkId(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl ChunkId {
    /// The chunk of a file at an index.
    pub fn file(inode: InodeId, index: ChunkIndex) -> ChunkId {
        let mut bytes = [0; 16];
        bytes[0] = ChunkKind::File as u8;
        bytes[4..12].copy_from_slice(&inode.0.to_be_bytes());
        bytes[12..].copy_from_slice(&index.0.to_be_bytes());
        ChunkId(bytes)
    }

    /// The chunk of a KV value. `digest` is the 32-byte digest of the key.
    pub fn kv(namespace: NamespaceId, digest: &[u8; 32]) -> ChunkId {
        assert!(namespace.0 < 1 << 24, "namespace ids have 24 bits");
        let mut bytes = [0; 16];
        bytes[0] = ChunkKind::Kv as u8;
        bytes[1..4].copy_from_slice(&namespace.0.to_be_bytes()[1..]);
        bytes[4..].copy_from_slice(&digest[..12]);
        ChunkId(bytes)
    }

    /// What the chunk belongs to, if this release knows the kind.
    pub fn kind(&self) -> Option<ChunkKind> {
        match self.0[0] {
            1 => Some(ChunkKind::File),
            2 => Some(ChunkKind::Kv),
            _ => None,
        }
    }

    /// Inode and index of a file chunk.
    pub fn file_parts(&self) -> Option<(InodeId, ChunkIndex)> {
        if self.kind() != Some(ChunkKind::File) {
            return None;
        }
        let inode = u64::from_be_bytes(self.0[4..12].try_into().ok()?);
        let index = u32::from_be_bytes(self.0[12..].try_into().ok()?);
        Some((InodeId(inode), ChunkIndex(index)))
    }

    /// The namespace of a KV chunk.
    pub fn namespace(&self) -> Option<NamespaceId> {
        if self.kind() != Some(ChunkKind::Kv) {
            return None;
        }
        Some(NamespaceId(u32::from_be_bytes([0, self.0[1], self.0[2], self.0[3]])))
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((inode, index)) = self.file_parts() {
            return write!(formatter, "file:{}/{}", inode.0, index.0);
        }
        let prefix = self.namespace().map_or("unknown".into(), |id| format!("kv:{}", id.0));
        write!(formatter, "{prefix}/")?;
        self.0[4..].iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Names one update for ever: the same id is the same update, on every replica and every retry.
///
/// A channel carries one update at a time; its sequence grows by one with each new update.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WriteId {
    /// Who writes.
    pub client: ClientId,
    /// Which of the client's channels.
    pub channel: u32,
    /// Position in the channel, from 1.
    pub sequence: u64,
}

impl fmt::Display for WriteId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "write:{:x}/{}/{}", self.client.0, self.channel, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a file's chunks are one key range in order. Oracle: byte order of the ids.
    #[test]
    fn file_chunks_sort_by_inode_then_index() {
        let low = ChunkId::file(InodeId(7), ChunkIndex(255));
        let high = ChunkId::file(InodeId(7), ChunkIndex(256));
        let next = ChunkId::file(InodeId(8), ChunkIndex(0));
        assert!(low < high && high < next);
        assert_eq!(high.file_parts(), Some((InodeId(7), ChunkIndex(256))));
    }

    /// Goal: stamps sort by chain version, then epoch, and come apart again. Oracle: the parts.
    #[test]
    fn stamps_sort_by_chain_version_first() {
        let early = ChangeStamp::new(ChainVersion(3), u32::MAX);
        let late = ChangeStamp::new(ChainVersion(4), 0);
        assert!(early < late);
        assert_eq!((early.chain_version(), early.epoch()), (ChainVersion(3), u32::MAX));
    }

    /// Goal: the namespace survives the round trip. Oracle: the value put in.
    #[test]
    fn kv_chunk_keeps_its_namespace() {
        let id = ChunkId::kv(NamespaceId(0x01_02_03), &[9; 32]);
        assert_eq!(id.namespace(), Some(NamespaceId(0x01_02_03)));
        assert_eq!(id.file_parts(), None);
    }
}
