//! Messages of the metadata service: one request enum, one reply enum, errors as everywhere.
//!
//! Invariants: a request that changes something carries a request id, so that its retry after a
//! lost reply reports what the first try did; times are nanoseconds since 1970.

use crate::ids::{ClientId, InodeId};
use crate::layout::FileLayout;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// The longest name in bytes.
pub const NAME_MAX_BYTES: usize = 255;
/// The longest path in bytes.
pub const PATH_MAX_BYTES: usize = 4096;

/// Who asks, with what rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// User id; 0 may do everything.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// One metadata request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRequest {
    /// The client process.
    pub client: ClientId,
    /// Distinguishes requests of a client; the retry of a request keeps it.
    pub request: u64,
    /// Who asks.
    pub credentials: Credentials,
    /// What is asked.
    pub operation: Operation,
}

/// What kind of thing an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// What a caller sees of an inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Its id.
    pub inode: InodeId,
    /// Its kind.
    pub kind: InodeKind,
    /// Permission bits with setuid, setgid and sticky: 0o7777 at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that lead to it.
    pub link_count: u32,
    /// Bytes.
    pub size_bytes: u64,
    /// Last access, nanoseconds since 1970.
    pub accessed_ns: u64,
    /// Last change of the contents.
    pub modified_ns: u64,
    /// Last change of the attributes.
    pub changed_ns: u64,
    /// Grows with each truncation, so that an old length cannot come back.
    pub truncate_version: u64,
    /// Where a file's chunks are.
    pub layout: Option<FileLayout>,
}

/// How a time is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeUpdate {
    /// The server's clock.
    Now,
    /// Nanoseconds since 1970.
    At(u64),
}

/// What `SetAttributes` changes; absent fields stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttributeChanges {
    /// chmod.
    pub mode: Option<u32>,
    /// chown.
    pub uid: Option<u32>,
    /// chown.
    pub gid: Option<u32>,
    /// truncate.
    pub size_bytes: Option<u64>,
    /// utimens.
    pub accessed: Option<TimeUpdate>,
    /// utimens.
    pub modified: Option<TimeUpdate>,
}

/// One open file of a client. The number is chosen by the client, unique within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpenFile {
    /// The file.
    pub inode: InodeId,
    /// The client's number for this open file.
    pub handle: u64,
    /// Whether it may write.
    pub write: bool,
}

/// A length that a client knows because its writes were acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LengthHint {
    /// One past the last byte written.
    pub size_bytes: u64,
    /// The truncate version under which it was written.
    pub truncate_version: u64,
    /// When the last write was, nanoseconds since 1970.
    pub modified_ns: u64,
}

/// What a rename does with an existing destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with `AlreadyExists`.
    NoReplace,
    /// Gives it the old name; fails with `NotFound` when there is none.
    Exchange,
}

/// A metadata operation. Names are raw bytes.
#[expect(missing_docs, reason = "the fields of an operation are POSIX's parameters")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// A name in a directory → `Attributes`. "." and ".." are answered too.
    Lookup { parent: InodeId, name: ByteBuf },
    /// → `Attributes`.
    GetAttributes { inode: InodeId },
    /// → `Attributes` after the change.
    SetAttributes { inode: InodeId, changes: AttributeChanges },
    /// Creates a file and opens it → `Opened`. `exclusive`: `AlreadyExists` if the name exists.
    /// `chunk_size_bytes` and `stripe_count` override the defaults when not 0.
    Create {
        parent: InodeId,
        name: ByteBuf,
        mode: u32,
        handle: u64,
        exclusive: bool,
        write: bool,
        chunk_size_bytes: u32,
        stripe_count: u32,
    },
    /// Opens an existing file → `Opened`. `truncate`: O_TRUNC.
    Open { inode: InodeId, handle: u64, read: bool, write: bool, truncate: bool },
    /// Settles the length and forgets the open file → `Attributes`.
    Close { open: OpenFile, hint: Option<LengthHint> },
    /// Settles the length (fsync) → `Attributes`.
    Sync { inode: InodeId, hint: Option<LengthHint> },
    /// → `Attributes`.
    MakeDirectory { parent: InodeId, name: ByteBuf, mode: u32 },
    /// → `Done`.
    RemoveDirectory { parent: InodeId, name: ByteBuf },
    /// Removes a name of a file or symbolic link → `Done`.
    Unlink { parent: InodeId, name: ByteBuf },
    /// → `Done`.
    Rename {
        parent: InodeId,
        name: ByteBuf,
        new_parent: InodeId,
        new_name: ByteBuf,
        mode: RenameMode,
    },
    /// A second name of a file → `Attributes`.
    Link { inode: InodeId, new_parent: InodeId, new_name: ByteBuf },
    /// → `Attributes`.
    MakeSymlink { parent: InodeId, name: ByteBuf, target: ByteBuf },
    /// → `LinkTarget`.
    ReadLink { inode: InodeId },
    /// Entries in name order after `after` → `Entries`. With `attributes` each entry has them.
    ReadDirectory { inode: InodeId, after: Option<ByteBuf>, limit: u32, attributes: bool },
    /// → `FileSystem`.
    StatFileSystem,
    /// Keeps the client's open files alive; sent every few seconds and after `SessionUnknown`, then
    /// with all open files → `Session`.
    KeepSession { open_files: Option<Vec<OpenFile>> },
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// The name.
    pub name: ByteBuf,
    /// What it leads to.
    pub inode: InodeId,
    /// Of which kind.
    pub kind: InodeKind,
    /// If asked for.
    pub attributes: Option<Attributes>,
}

/// The answer to a metadata request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaReply {
    /// Nothing to say.
    Done,
    /// An inode.
    Attributes(Attributes),
    /// An open file; `created` tells whether `Create` made it.
    Opened {
        /// The inode.
        attributes: Attributes,
        /// Whether it is new.
        created: bool,
    },
    /// The target of a symbolic link.
    LinkTarget(ByteBuf),
    /// A page of a directory.
    Entries {
        /// In name order.
        entries: Vec<DirectoryEntry>,
        /// Whether there are more.
        more: bool,
    },
    /// Space, already divided by the number of replicas.
    FileSystem {
        /// Bytes in all.
        total_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
        /// Inodes in use.
        inode_count: u64,
    },
    /// How long the session lives without another `KeepSession`.
    Session {
        /// Milliseconds.
        lease_ms: u64,
    },
}
