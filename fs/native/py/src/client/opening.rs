//! Opening by path, with the rules of open(2).

use firepond_client::file_system::{CreateOptions, FileSystem, OpenFile, OpenOptions};
use firepond_core::Result;
use firepond_core::wire::meta::Credentials;
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
    let open = OpenOptions { read, write, truncate };
    if !flags.create {
        return files.open_at(who, path, open).await;
    }
    let create = CreateOptions {
        mode: flags.mode,
        exclusive: flags.exclusive,
        read,
        write,
        chunk_size_bytes: flags.chunk_size_bytes,
        stripe_count: flags.stripe_count,
    };
    files.create_at(who, path, create, open).await
}
