//! Which chunks of a page differ: a merge of two ordered lists.
//!
//! Invariants: a chunk is left out only if both sides have the same committed version with the same
//! checksum and nothing pending, or if both have nothing.

use crate::store::ChunkState;
use firepond_core::ids::ChunkId;
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::wire::storage::ResyncEntry;
use std::cmp::Ordering;

/// A chunk to be looked at under its lock, and what the successor had of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The chunk.
    pub chunk: ChunkId,
    /// The successor's newest version.
    pub theirs: Option<ResyncEntry>,
}

/// Compares two lists of the same key range, both in order.
pub fn differences(theirs: &[ResyncEntry], ours: &[(ChunkId, ChunkState)]) -> Vec<Difference> {
    let (mut theirs, mut ours) = (theirs.iter().peekable(), ours.iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (theirs.peek(), ours.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(entry), Some((chunk, _))) => entry.chunk.cmp(chunk),
        };
        let entry = if order.is_le() { theirs.next() } else { None };
        let own = if order.is_ge() { ours.next() } else { None };
        let chunk = match (entry, own) {
            (Some(entry), _) => entry.chunk,
            (None, Some((chunk, _))) => *chunk,
            (None, None) => return found,
        };
        if !agrees(entry, own.map(|(_, state)| state)) {
            found.push(Difference { chunk, theirs: entry.copied() });
        }
    }
}

fn agrees(theirs: Option<&ResyncEntry>, ours: Option<&ChunkState>) -> bool {
    if ours.is_some_and(|state| state.pending.is_some()) {
        return false;
    }
    let committed = ours.and_then(|state| state.committed);
    match (theirs, committed) {
        (None, None) => true,
        // A tombstone goes along too: it carries the write ids that make retries happen once.
        (None, Some(_)) => false,
        (Some(theirs), None) => theirs.removed && theirs.committed,
        (Some(theirs), Some(ours)) => {
            theirs.committed
                && theirs.version == ours.version
                && theirs.removed == ours.removed
                && (ours.removed
                    || theirs.checksum == ours.checksum
                    || planted(Mistake::PartialToSyncing))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::VersionState;
    use firepond_core::ids::{
        ChainVersion, ChangeStamp, ChunkIndex, ChunkVersion, InodeId, WriteId,
    };

    fn chunk(index: u32) -> ChunkId {
        ChunkId::file(InodeId(1), ChunkIndex(index))
    }

    fn entry(
        index: u32,
        version: u64,
        checksum: u32,
        committed: bool,
        removed: bool,
    ) -> ResyncEntry {
        ResyncEntry {
            chunk: chunk(index),
            version: ChunkVersion(version),
            committed,
            checksum,
            chain_version: ChainVersion(1),
            removed,
        }
    }

    fn own(
        index: u32,
        version: u64,
        checksum: u32,
        pending: bool,
        removed: bool,
    ) -> (ChunkId, ChunkState) {
        let made = |number| VersionState {
            version: ChunkVersion(number),
            chain_version: ChainVersion(2),
            write_id: WriteId::default(),
            len: 1,
            checksum,
            removed,
        };
        let state = ChunkState {
            committed: Some(made(version)),
            pending: pending.then(|| made(version + 1)),
            recent_writes: vec![],
            tag: [0; 32],
            updated_ns: 0,
            forgotten: ChunkVersion(0),
            stamp: ChangeStamp(0),
        };
        (chunk(index), state)
    }

    /// Goal: every way in which two sides differ is found, and nothing else. Oracle: the comments.
    #[test]
    fn all_differences_and_no_more() {
        let theirs = [
            entry(0, 1, 5, true, false),  // equal
            entry(1, 1, 5, true, false),  // older
            entry(2, 9, 5, true, false),  // unknown to us
            entry(3, 2, 6, true, false),  // other bytes
            entry(4, 2, 5, false, false), // pending there
            entry(5, 2, 5, true, false),  // pending here
            entry(6, 2, 0, true, true),   // removed there, unknown to us
            entry(8, 3, 5, true, false),  // removed here
        ];
        let ours = [
            own(0, 1, 5, false, false),
            own(1, 2, 5, false, false),
            own(3, 2, 5, false, false),
            own(4, 2, 5, false, false),
            own(5, 2, 5, true, false),
            own(7, 1, 5, false, false), // missing there
            own(8, 4, 0, false, true),
            own(9, 4, 0, false, true), // removed here, unknown there
        ];
        let found: Vec<u32> = differences(&theirs, &ours)
            .iter()
            .filter_map(|one| one.chunk.file_parts())
            .map(|(_, index)| index.0)
            .collect();
        assert_eq!(found, [1, 2, 3, 4, 5, 7, 8, 9]);
    }
}
