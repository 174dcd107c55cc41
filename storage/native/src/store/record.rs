//! What the store remembers of a chunk: the record of the index, decoded.
//!
//! Invariants: `committed < pending`, unless the pending one is a full chunk that replaces it; a
//! removed version has an empty image; the length of an image's checksums fits the version's
//! length; the stamp of a chunk never goes back.

use super::image::{Extent, Image, released};
use super::types::{ChunkState, RECENT_WRITES_MAX_COUNT, VersionState};
use firepond_core::ids::{ChangeStamp, ChunkId, ChunkVersion, TargetId, WriteId};
use firepond_core::wire::storage::RecentWrite;
use std::sync::Arc;

/// Names a chunk on a disk. Sorts by target, then chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ChunkKey {
    pub(super) target: TargetId,
    pub(super) chunk: ChunkId,
}

/// One version with its place on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) state: VersionState,
    pub(super) tag: [u8; 32],
    pub(super) image: Arc<Image>,
}

/// A chunk. Immutable; an update makes another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) committed: Option<Version>,
    pub(super) pending: Option<Version>,
    pub(super) recent_writes: Vec<RecentWrite>,
    /// The newest version whose write is not among the recent ones any more.
    pub(super) forgotten: ChunkVersion,
    pub(super) updated_ns: u64,
    /// At least the stamp of every update that is in it; the key of the change index.
    pub(super) stamp: ChangeStamp,
}

impl Record {
    /// The committed version, unless the chunk is removed.
    pub(super) fn existing(&self) -> Option<&Version> {
        self.committed.as_ref().filter(|version| !version.state.removed)
    }

    /// Removed, and nothing is under way.
    pub(super) fn is_tombstone(&self) -> bool {
        self.pending.is_none() && self.existing().is_none()
    }

    /// The state that the outside sees.
    pub(super) fn state(&self) -> ChunkState {
        let tagged = self.existing().or(self.pending.as_ref());
        ChunkState {
            committed: self.committed.as_ref().map(|version| version.state),
            pending: self.pending.as_ref().map(|version| version.state),
            recent_writes: self.recent_writes.clone(),
            forgotten: self.forgotten,
            tag: tagged.map_or([0; 32], |version| version.tag),
            updated_ns: self.updated_ns,
            stamp: self.stamp,
        }
    }

    /// Remembers a committed write; the oldest is forgotten, and how new it was is remembered. A
    /// channel carries one write at a time, so its last one stands for all before it, and a busy
    /// client does not push the others out.
    pub(super) fn remember(&mut self, state: &VersionState) {
        if state.write_id == WriteId::default() {
            return; // Nobody's write: a resync removed what the chain does not know.
        }
        let channel = |id: &WriteId| (id.client, id.channel);
        self.recent_writes.retain(|one| channel(&one.write_id) != channel(&state.write_id));
        let recent = RecentWrite { write_id: state.write_id, version: state.version };
        self.recent_writes.push(recent);
        let excess = self.recent_writes.len().saturating_sub(RECENT_WRITES_MAX_COUNT);
        for recent in self.recent_writes.drain(..excess) {
            self.forgotten = self.forgotten.max(recent.version);
        }
    }

    pub(super) fn images(&self) -> Vec<&Image> {
        self.committed.iter().chain(&self.pending).map(|version| &*version.image).collect()
    }

    /// Bytes that this takes in memory, about.
    pub(super) fn memory_bytes(&self) -> usize {
        let images = self.images();
        let parts = images.iter().map(|image| image.extents.len() * 16 + image.checksums.len() * 4);
        256 + self.recent_writes.len() * size_of::<RecentWrite>() + parts.sum::<usize>()
    }
}

/// How many units some extents are.
pub(super) fn unit_count(extents: &[Extent]) -> i64 {
    extents.iter().map(|extent| i64::from(extent.count)).sum()
}

/// What is no longer used when `after` replaces `before`.
pub(super) fn released_by(before: Option<&Record>, after: Option<&Record>) -> Vec<Extent> {
    let before = before.map(Record::images).unwrap_or_default();
    let after = after.map(Record::images).unwrap_or_default();
    released(&before, &after)
}
