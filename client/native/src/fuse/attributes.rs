//! Attributes and times between firepond's form and the kernel's.
//!
//! Invariants: times before 1970 become 1970; nothing here fails.

use firepond_core::wire::meta::{Attributes, InodeKind, TimeUpdate};
use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What `stat` gives as the good size of one read or write: buffered programs send this much at
/// once.
const PREFERRED_IO_BYTES: u32 = 128 << 10;
/// The unit of `st_blocks`.
const STAT_BLOCK_BYTES: u64 = 512;

/// The kernel's form of an inode's attributes.
pub(super) fn file_attr(attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(attributes.inode.0),
        size: attributes.size_bytes,
        blocks: attributes.size_bytes.div_ceil(STAT_BLOCK_BYTES),
        atime: system_time(attributes.accessed_ns),
        mtime: system_time(attributes.modified_ns),
        ctime: system_time(attributes.changed_ns),
        crtime: UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: (attributes.mode & 0o7777) as u16,
        nlink: attributes.link_count,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: 0,
        blksize: PREFERRED_IO_BYTES,
        flags: 0,
    }
}

/// The kernel's form of a kind.
pub(super) fn file_type(kind: InodeKind) -> FileType {
    match kind {
        InodeKind::File => FileType::RegularFile,
        InodeKind::Directory => FileType::Directory,
        InodeKind::Symlink => FileType::Symlink,
    }
}

/// A time that utimens sets.
pub(super) fn time_update(time: TimeOrNow) -> TimeUpdate {
    match time {
        TimeOrNow::Now => TimeUpdate::Now,
        TimeOrNow::SpecificTime(time) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            TimeUpdate::At(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
        }
    }
}

fn system_time(unix_ns: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::InodeId;

    fn sample() -> Attributes {
        Attributes {
            inode: InodeId(9),
            kind: InodeKind::File,
            mode: 0o104_755,
            uid: 3,
            gid: 4,
            link_count: 2,
            size_bytes: 513,
            accessed_ns: 1,
            modified_ns: 1_700_000_000_123_456_789,
            changed_ns: 3,
            truncate_version: 0,
            layout: None,
        }
    }

    /// Goal: nothing is lost on the way to the kernel, nanoseconds included. Oracle: the fields.
    #[test]
    fn attributes_keep_their_values() {
        let attr = file_attr(&sample());
        assert_eq!((attr.ino.0, attr.size, attr.blocks, attr.nlink), (9, 513, 2, 2));
        assert_eq!((attr.perm, attr.uid, attr.gid), (0o4755, 3, 4));
        let modified = attr.mtime.duration_since(UNIX_EPOCH).expect("after 1970");
        assert_eq!(modified.as_nanos(), 1_700_000_000_123_456_789);
        assert_eq!(attr.kind, FileType::RegularFile);
    }

    /// Goal: utimens means what it says, and a time before 1970 harms nothing. Oracle: nanoseconds.
    #[test]
    fn times_survive() {
        let time = UNIX_EPOCH + Duration::new(7, 9);
        assert_eq!(time_update(TimeOrNow::SpecificTime(time)), TimeUpdate::At(7_000_000_009));
        let early = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(time_update(TimeOrNow::SpecificTime(early)), TimeUpdate::At(0));
        assert_eq!(time_update(TimeOrNow::Now), TimeUpdate::Now);
    }
}
