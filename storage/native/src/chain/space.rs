//! Whether a disk has room for an update, asked before anything is stored or forwarded.
//!
//! Why before: a replica that finds out while it stores has already sent the update on, and those
//! below may have committed what it cannot keep. Asked before, a refusal means that nobody at or
//! below this replica has the update, so those above may give it up together.
//! Invariants: bytes that were promised and are not stored yet count as used; on a disk that is
//! nearly full an update is stored before it is forwarded, so even a wrong guess refuses cleanly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a chunk may take on disk beyond its payload in bytes: copied blocks and records.
const OVERHEAD_BYTES: u64 = 192 << 10;
/// A disk with less than this, or less than a sixteenth of itself, is nearly full.
const TIGHT_BYTES: u64 = 512 << 20;

/// How much room there is for one update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Store and forward at the same time.
    Ample,
    /// Store first, forward then.
    Tight,
    /// None.
    Full,
}

/// Bytes of one disk that updates in flight were promised.
#[derive(Clone, Debug, Default)]
pub struct Promised(Arc<AtomicU64>);

/// A promise, taken back when dropped: by then the update is stored or given up.
#[derive(Debug)]
pub struct Promise {
    promised: Promised,
    bytes: u64,
}

impl Promised {
    /// Judges the disk for an update of `len` bytes and promises the room.
    pub fn judge(&self, disk_space: (u64, u64), len: u64) -> (Room, Promise) {
        let (total, free) = disk_space;
        let bytes = len + OVERHEAD_BYTES;
        let promised = self.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let promise = Promise { promised: self.clone(), bytes };
        let room = if free < promised {
            Room::Full
        } else if free - promised < TIGHT_BYTES.min(total / 16) {
            Room::Tight
        } else {
            Room::Ample
        };
        (room, promise)
    }

    /// Whether a target that left for lack of room finds some.
    pub fn has_room(&self, disk_space: (u64, u64)) -> bool {
        !self.is_tight(disk_space)
    }

    /// Whether the disk is so full that values of the KV tier that may be lost should yield.
    pub fn is_tight(&self, disk_space: (u64, u64)) -> bool {
        let (total, free) = disk_space;
        free < self.0.load(Ordering::Relaxed) + TIGHT_BYTES.min(total / 16)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promised.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: promises count, and end. Oracle: the verdicts by hand.
    #[test]
    fn promises_count_as_used() {
        let promised = Promised::default();
        let disk = (1 << 30, 2 << 20);
        let (room, first) = promised.judge(disk, 1 << 20);
        assert_eq!(room, Room::Tight);
        let (room, second) = promised.judge(disk, 1 << 20);
        assert_eq!(room, Room::Full);
        drop((first, second));
        assert_eq!(promised.judge(disk, 1 << 20).0, Room::Tight);
        assert_eq!(promised.judge((1 << 30, 1 << 29), 4096).0, Room::Ample);
    }
}
