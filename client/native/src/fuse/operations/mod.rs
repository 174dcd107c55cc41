//! What each request of the kernel does, in firepond's own terms: no type of the FUSE library but
//! plain flags comes in, and results go out as attributes, bytes and errors.
//!
//! Why apart from the adapter: the way to the kernel (this FUSE library, another one, io_uring) can
//! be changed without touching what the operations mean.
//! Invariants: an operation that waits holds no lock; every reference that the kernel is given is
//! in the inode table before the reply is sent.

mod directory;
mod file;
mod namespace;

pub(super) use directory::ListedEntry;

use super::handles::{DirectoryHandle, FileHandle, Handles};
use super::inodes::InodeTable;
use super::options::MountOptions;
use crate::file_system::FileSystem;
use firepond_core::ids::InodeId;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes the kernel forget the attributes of an inode.
pub(super) type InvalidateAttributes = Box<dyn Fn(InodeId) + Send + Sync>;

/// The state of one mount.
pub(super) struct Operations {
    pub(super) file_system: FileSystem,
    pub(super) options: MountOptions,
    pub(super) inodes: InodeTable,
    files: Handles<FileHandle>,
    directories: Handles<DirectoryHandle>,
    invalidate: std::sync::OnceLock<InvalidateAttributes>,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

/// Numbers for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) open_file_count: usize,
    pub(super) open_directory_count: usize,
    pub(super) inode_count: usize,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
}

impl Operations {
    pub(super) fn new(file_system: FileSystem, options: MountOptions) -> Operations {
        Operations {
            file_system,
            options,
            inodes: InodeTable::default(),
            files: Handles::default(),
            directories: Handles::default(),
            invalidate: std::sync::OnceLock::new(),
            read_bytes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        }
    }

    /// Connects the way back to the kernel. Before that nothing is cached, so nothing is lost.
    pub(super) fn set_invalidate(&self, invalidate: InvalidateAttributes) {
        let first = self.invalidate.set(invalidate).is_ok();
        assert!(first, "a mount is connected once");
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            open_file_count: self.files.count(),
            open_directory_count: self.directories.count(),
            inode_count: self.inodes.count(),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
        }
    }
}
