//! What the flags of open, rename and fallocate ask for.

use firepond_core::wire::meta::RenameMode;
use fuser::{FopenFlags, OpenAccMode, OpenFlags, RenameFlags};

/// An open request, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenRequest {
    /// Reads are allowed.
    pub(super) read: bool,
    /// Writes are allowed.
    pub(super) write: bool,
    /// The file becomes empty.
    pub(super) truncate: bool,
    /// The file must be new (create only).
    pub(super) exclusive: bool,
    /// Every write goes to the end of the file.
    pub(super) append: bool,
    /// The page cache is passed by.
    pub(super) direct: bool,
}

impl OpenRequest {
    /// Decodes the flags of open(2).
    pub(super) fn new(flags: i32) -> OpenRequest {
        let mode = OpenFlags(flags).acc_mode();
        OpenRequest {
            read: mode != OpenAccMode::O_WRONLY,
            write: mode != OpenAccMode::O_RDONLY,
            truncate: flags & libc::O_TRUNC != 0 && mode != OpenAccMode::O_RDONLY,
            exclusive: flags & libc::O_EXCL != 0,
            append: flags & libc::O_APPEND != 0,
            direct: flags & libc::O_DIRECT != 0,
        }
    }

    /// How the kernel shall treat the open file. `unchanged`: its cached pages are still right.
    ///
    /// A file opened for appending passes the page cache by: the kernel would put the bytes where
    /// it believes the end to be, and another client may have moved it.
    pub(super) fn kernel_flags(self, unchanged: bool) -> FopenFlags {
        let mut flags = FopenFlags::empty();
        if self.direct || (self.append && self.write) {
            flags |= FopenFlags::FOPEN_DIRECT_IO;
        }
        if self.direct && !self.append {
            flags |= FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        }
        if unchanged {
            flags |= FopenFlags::FOPEN_KEEP_CACHE;
        }
        if !self.write {
            flags |= FopenFlags::FOPEN_NOFLUSH;
        }
        flags
    }
}

/// What a rename does with an existing destination; `None` for flags that firepond does not have.
pub(super) fn rename_mode(flags: RenameFlags) -> Option<RenameMode> {
    if flags.is_empty() {
        Some(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Some(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Some(RenameMode::Exchange)
    } else {
        None
    }
}

/// Whether every write of an open file must be durable before it returns.
pub(super) fn is_synchronous(flags: OpenFlags) -> bool {
    flags.0 & libc::O_DSYNC != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each open mode gives the rights that it names. Oracle: open(2).
    #[test]
    fn open_modes_give_their_rights() {
        let read = OpenRequest::new(libc::O_RDONLY);
        assert!(read.read && !read.write && !read.truncate);
        let write = OpenRequest::new(libc::O_WRONLY | libc::O_TRUNC);
        assert!(!write.read && write.write && write.truncate);
        let both = OpenRequest::new(libc::O_RDWR | libc::O_EXCL);
        assert!(both.read && both.write && both.exclusive);
        assert!(!OpenRequest::new(libc::O_RDONLY | libc::O_TRUNC).truncate);
    }

    /// Goal: appends and O_DIRECT pass the page cache by, unchanged files keep it. Oracle: flags.
    #[test]
    fn kernel_flags_follow_the_request() {
        let flags = |open: i32, unchanged| OpenRequest::new(open).kernel_flags(unchanged);
        assert_eq!(
            flags(libc::O_RDONLY, true),
            FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
        );
        assert_eq!(flags(libc::O_RDWR, false), FopenFlags::empty());
        assert_eq!(flags(libc::O_WRONLY | libc::O_APPEND, false), FopenFlags::FOPEN_DIRECT_IO);
        let direct = flags(libc::O_RDWR | libc::O_DIRECT, false);
        assert!(direct.contains(FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES));
    }

    /// Goal: only what is atomic is promised. Oracle: rename(2).
    #[test]
    fn rename_flags() {
        assert_eq!(rename_mode(RenameFlags::empty()), Some(RenameMode::Replace));
        assert_eq!(rename_mode(RenameFlags::RENAME_NOREPLACE), Some(RenameMode::NoReplace));
        assert_eq!(rename_mode(RenameFlags::RENAME_EXCHANGE), Some(RenameMode::Exchange));
        assert_eq!(rename_mode(RenameFlags::RENAME_WHITEOUT), None);
    }
}
