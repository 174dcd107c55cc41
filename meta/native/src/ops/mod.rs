//! One operation, one file: its semantics, its conflict set and its idempotency are in its head.
//!
//! "Conflicts with" means: a concurrent commit that changes it makes the operation run again.
//! Common rules: names are checked first; user 0 passes every permission check; "." and ".." are
//! understood by `lookup` only.

mod close;
mod create;
mod get_attributes;
mod keep_session;
mod link;
mod lookup;
mod make_directory;
mod make_symlink;
mod open;
mod read_directory;
mod read_link;
mod removable;
mod remove_directory;
mod rename;
mod set_attributes;
pub(crate) mod stat_file_system;
mod sync;
mod unlink;

use crate::service::{Caller, MetaService};
use firepond_core::Result;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::{MetaReply, Operation};

/// Runs one operation.
pub(crate) async fn dispatch<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    operation: Operation,
) -> Result<MetaReply> {
    match operation {
        Operation::Lookup { parent, name } => lookup::run(meta, caller, parent, &name).await,
        Operation::GetAttributes { inode } => get_attributes::run(meta, inode).await,
        Operation::ReadLink { inode } => read_link::run(meta, inode).await,
        Operation::ReadDirectory { inode, after, limit, attributes } => {
            let page = read_directory::Page { after, limit, attributes };
            read_directory::run(meta, caller, inode, page).await
        }
        Operation::StatFileSystem => stat_file_system::run(meta, caller).await,
        Operation::KeepSession { open_files } => keep_session::run(meta, caller, open_files).await,
        changing => dispatch_changing(meta, caller, changing).await,
    }
}

async fn dispatch_changing<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    operation: Operation,
) -> Result<MetaReply> {
    match operation {
        Operation::SetAttributes { inode, changes } => {
            set_attributes::run(meta, caller, inode, changes).await
        }
        Operation::Create {
            parent,
            name,
            mode,
            handle,
            exclusive,
            write,
            chunk_size_bytes,
            stripe_count,
        } => {
            let shape = (chunk_size_bytes, stripe_count);
            let wish = create::Wish { mode, handle, exclusive, write, shape };
            create::run(meta, caller, parent, &name, wish).await
        }
        Operation::Open { inode, handle, read, write, truncate } => {
            let wish = open::Wish { inode, handle, read, write, truncate };
            open::run(meta, caller, wish).await
        }
        Operation::Close { open, hint } => close::run(meta, caller, open, hint).await,
        Operation::Sync { inode, hint } => sync::run(meta, caller, inode, hint).await,
        Operation::MakeDirectory { parent, name, mode } => {
            make_directory::run(meta, caller, parent, &name, mode).await
        }
        Operation::RemoveDirectory { parent, name } => {
            remove_directory::run(meta, caller, parent, &name).await
        }
        Operation::Unlink { parent, name } => unlink::run(meta, caller, parent, &name).await,
        Operation::Rename { parent, name, new_parent, new_name, mode } => {
            rename::run(meta, caller, (parent, &name), (new_parent, &new_name), mode).await
        }
        Operation::Link { inode, new_parent, new_name } => {
            link::run(meta, caller, inode, new_parent, &new_name).await
        }
        Operation::MakeSymlink { parent, name, target } => {
            make_symlink::run(meta, caller, parent, &name, &target).await
        }
        reading => unreachable!("{reading:?} is a reading operation"),
    }
}

/// The position of an operation in `counters::OPERATIONS`.
pub(crate) fn index_of(operation: &Operation) -> usize {
    match operation {
        Operation::Lookup { .. } => 0,
        Operation::GetAttributes { .. } => 1,
        Operation::SetAttributes { .. } => 2,
        Operation::Create { .. } => 3,
        Operation::Open { .. } => 4,
        Operation::Close { .. } => 5,
        Operation::Sync { .. } => 6,
        Operation::MakeDirectory { .. } => 7,
        Operation::RemoveDirectory { .. } => 8,
        Operation::Unlink { .. } => 9,
        Operation::Rename { .. } => 10,
        Operation::Link { .. } => 11,
        Operation::MakeSymlink { .. } => 12,
        Operation::ReadLink { .. } => 13,
        Operation::ReadDirectory { .. } => 14,
        Operation::StatFileSystem => 15,
        Operation::KeepSession { .. } => 16,
    }
}

/// Whether an operation may be given up half-way without leaving anything behind.
pub(crate) fn only_reads(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Lookup { .. }
            | Operation::GetAttributes { .. }
            | Operation::ReadLink { .. }
            | Operation::ReadDirectory { .. }
            | Operation::StatFileSystem
    )
}
