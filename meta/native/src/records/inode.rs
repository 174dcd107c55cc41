//! An inode.
//!
//! Invariants: a directory's own link count here is 2, its subdirectories are counted apart; a file
//! that is being collected has no links; mode holds no file type.

use super::Record;
use firepond_core::ids::InodeId;
use firepond_core::layout::FileLayout;
use firepond_core::wire::meta::InodeKind;
use serde::{Deserialize, Serialize};

/// What the store knows of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InodeRecord {
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of a file or symbolic link; 2 for a directory.
    pub link_count: u32,
    /// Last access, nanoseconds since 1970; set by utimens only.
    pub accessed_ns: u64,
    /// Last change of the contents; of a directory: as last set by utimens or mkdir.
    pub modified_ns: u64,
    /// When `modified_ns` was set: only a later write or entry overrules it, so that utimens before
    /// close wins over the writes before it.
    pub modified_set_ns: u64,
    /// Last change of the attributes.
    pub changed_ns: u64,
    /// What only one kind has.
    pub body: InodeBody,
}

/// What only one kind of inode has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InodeBody {
    /// A regular file.
    File {
        /// Bytes; exact while nobody has the file open for writing.
        size_bytes: u64,
        /// Grows with each truncation.
        truncate_version: u64,
        /// Where the chunks are.
        layout: FileLayout,
        /// Its chunks are being removed: it may not be opened any more.
        collecting: bool,
    },
    /// A directory.
    Directory {
        /// Where ".." leads.
        parent: InodeId,
    },
    /// A symbolic link.
    Symlink {
        /// The path it holds.
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
}

impl Record for InodeRecord {
    const NAME: &'static str = "inode";
    const VERSION: u8 = 1;
}

impl InodeRecord {
    /// Which kind of inode this is.
    pub fn kind(&self) -> InodeKind {
        match self.body {
            InodeBody::File { .. } => InodeKind::File,
            InodeBody::Directory { .. } => InodeKind::Directory,
            InodeBody::Symlink { .. } => InodeKind::Symlink,
        }
    }
}
