//! What the kernel knows of each inode: how often it was told of it, and which contents it may have
//! cached.
//!
//! Why: at open, cached pages may stay only if the file is what it was when they were read; the
//! attributes that the kernel was last told are the proof.
//! Invariants: an inode is here while the kernel has it; a forgotten inode leaves nothing behind.
//! Locks: one, never held across I/O.

use firepond_core::ids::InodeId;
use firepond_core::wire::meta::Attributes;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Enough of the attributes to notice that contents changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contents {
    size_bytes: u64,
    modified_ns: u64,
    truncate_version: u64,
}

struct Known {
    lookup_count: u64,
    contents: Contents,
}

/// The inodes that the kernel holds.
#[derive(Default)]
pub(super) struct InodeTable {
    known: Mutex<HashMap<InodeId, Known>>,
}

impl InodeTable {
    /// The kernel gets a reference: lookup, create, mkdir, link, readdirplus.
    pub(super) fn looked_up(&self, attributes: &Attributes) {
        let contents = Contents::of(attributes);
        let mut known = self.known.lock();
        let entry = known.entry(attributes.inode).or_insert(Known { lookup_count: 0, contents });
        entry.lookup_count += 1;
        entry.contents = contents;
    }

    /// The kernel gets attributes of an inode that it has.
    pub(super) fn told(&self, attributes: &Attributes) {
        if let Some(entry) = self.known.lock().get_mut(&attributes.inode) {
            entry.contents = Contents::of(attributes);
        }
    }

    /// The file is being opened and has these attributes: whether the kernel's pages are still
    /// right. If not, the caller makes the kernel drop them.
    pub(super) fn is_unchanged_at_open(&self, attributes: &Attributes) -> bool {
        let contents = Contents::of(attributes);
        match self.known.lock().get_mut(&attributes.inode) {
            Some(entry) if entry.contents == contents => true,
            Some(entry) => {
                entry.contents = contents;
                false
            }
            None => false,
        }
    }

    /// The kernel gives references back.
    pub(super) fn forget(&self, inode: InodeId, count: u64) {
        let mut known = self.known.lock();
        if let Some(entry) = known.get_mut(&inode) {
            entry.lookup_count = entry.lookup_count.saturating_sub(count);
            if entry.lookup_count == 0 {
                known.remove(&inode);
            }
        }
    }

    /// How many inodes the kernel holds.
    pub(super) fn count(&self) -> usize {
        self.known.lock().len()
    }
}

impl Contents {
    fn of(attributes: &Attributes) -> Contents {
        Contents {
            size_bytes: attributes.size_bytes,
            modified_ns: attributes.modified_ns,
            truncate_version: attributes.truncate_version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::wire::meta::InodeKind;

    fn file(modified_ns: u64) -> Attributes {
        Attributes {
            inode: InodeId(5),
            kind: InodeKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            link_count: 1,
            size_bytes: 1,
            accessed_ns: 0,
            modified_ns,
            changed_ns: 0,
            truncate_version: 0,
            layout: None,
        }
    }

    /// Goal: the page cache stays exactly while the contents do. Oracle: the answer at each open.
    #[test]
    fn changed_files_lose_their_pages_once() {
        let table = InodeTable::default();
        assert!(!table.is_unchanged_at_open(&file(1)), "never told of");
        table.looked_up(&file(1));
        assert!(table.is_unchanged_at_open(&file(1)));
        assert!(!table.is_unchanged_at_open(&file(2)), "another client wrote");
        assert!(table.is_unchanged_at_open(&file(2)), "the pages were dropped before");
    }

    /// Goal: nothing stays after the kernel forgot. Method: three references, given back in two
    /// steps.
    #[test]
    fn forgotten_inodes_leave_nothing() {
        let table = InodeTable::default();
        (0..3).for_each(|_| table.looked_up(&file(1)));
        table.forget(InodeId(5), 2);
        assert_eq!(table.count(), 1);
        table.forget(InodeId(5), 1);
        assert_eq!(table.count(), 0);
        table.forget(InodeId(5), 1);
    }
}
