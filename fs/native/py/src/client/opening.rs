//! Opening by path, with the rules of open(2).

use firepond_client::file_system::{CreateOptions, FileSystem, OpenFile, OpenOptions};
use firepond_core::wire::meta::{AttributeChanges, Credentials, InodeKind};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// open(2)'s flags, named.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenFlags {
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) create: bool,
    pub(super) exclusive: bool,
    pub(super) truncate: bool,
    pub(super) mode: u32,
    pub(super) chunk_size_bytes: u32,
    pub(super) stripe_count: u32,
}

/// Opens the file that a path leads to, creating it when asked.
pub(super) async fn open(
    files: &FileSystem,
    who: &Credentials,
    path: &[u8],
    flags: OpenFlags,
) -> Result<Arc<OpenFile>> {
    let OpenFlags { read, write, truncate, .. } = flags;
    if !flags.create {
        return open_existing(files, who, path, OpenOptions { read, write, truncate }).await;
    }
    let (parent, name) = files.resolve_parent(who, path).await?;
    let options = CreateOptions {
        mode: flags.mode,
        exclusive: true,
        read,
        write,
        chunk_size_bytes: flags.chunk_size_bytes,
        stripe_count: flags.stripe_count,
    };
    // Exclusive at first: an existing name may be a symbolic link or lack permission, and is opened
    // by the rules for existing files.
    match files.create(who, parent, &name, options).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && !flags.exclusive => {}
        other => return other.map(|(file, _, _)| file),
    }
    let opened = open_existing(files, who, path, OpenOptions { read, write, truncate }).await;
    match opened {
        // Removed in between.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let options = CreateOptions { exclusive: false, ..options };
            let (file, attributes, created) = files.create(who, parent, &name, options).await?;
            if !created && truncate && attributes.size_bytes > 0 {
                let changes =
                    AttributeChanges { size_bytes: Some(0), ..AttributeChanges::default() };
                files.set_attributes(who, attributes.inode, changes).await?;
            }
            Ok(file)
        }
        other => other,
    }
}

async fn open_existing(
    files: &FileSystem,
    who: &Credentials,
    path: &[u8],
    options: OpenOptions,
) -> Result<Arc<OpenFile>> {
    let found = files.resolve(who, path, true).await?;
    if found.kind == InodeKind::Directory {
        return Err(
            Error::new(ErrorKind::IsADirectory, "").with("path", String::from_utf8_lossy(path))
        );
    }
    files.open(who, found.inode, options).await
}
