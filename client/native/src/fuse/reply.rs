//! Results in the FUSE library's form.

use super::attributes::file_attr;
use super::errno;
use super::operations::{ListedEntry, Operations};
use crate::file_system::FileSystemStat;
use firepond_core::Result;
use firepond_core::payload::Payload;
use firepond_core::wire::meta::{Attributes, NAME_MAX_BYTES};
use fuser::{
    FileHandle, FopenFlags, Generation, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyStatfs,
};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// Unit of statfs.
const STATFS_BLOCK_BYTES: u32 = 4096;
/// Inode ids are never used again, so one generation is enough.
pub(super) const GENERATION: Generation = Generation(0);

pub(super) fn send_entry(operations: &Operations, reply: ReplyEntry, result: Result<Attributes>) {
    let options = &operations.options;
    match result {
        Ok(attributes) => reply.entry_with_ttls(
            &options.attribute_timeout(),
            &options.entry_timeout(),
            &file_attr(&attributes),
            GENERATION,
        ),
        Err(error) => reply.error(errno::of(&error)),
    }
}

pub(super) fn send_created(
    operations: &Operations,
    reply: ReplyCreate,
    result: Result<(Attributes, u64)>,
    flags: FopenFlags,
) {
    let options = &operations.options;
    let timeout = options.entry_timeout().min(options.attribute_timeout());
    match result {
        Ok((attributes, handle)) => {
            let attr = file_attr(&attributes);
            reply.created(&timeout, &attr, GENERATION, FileHandle(handle), flags);
        }
        Err(error) => reply.error(errno::of(&error)),
    }
}

pub(super) fn send_attributes(
    operations: &Operations,
    reply: ReplyAttr,
    result: Result<Attributes>,
) {
    match result {
        Ok(attributes) => {
            reply.attr(&operations.options.attribute_timeout(), &file_attr(&attributes));
        }
        Err(error) => reply.error(errno::of_inode(&error)),
    }
}

pub(super) fn send_empty(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno::of(&error)),
    }
}

pub(super) fn send_data(reply: ReplyData, result: Result<Vec<Payload>>) {
    match result {
        Ok(parts) => match parts.as_slice() {
            [] => reply.data(&[]),
            [part] => reply.data(part.filled()),
            parts => {
                let parts: Vec<&[u8]> = parts.iter().map(Payload::filled).collect();
                reply.data(&parts.concat());
            }
        },
        Err(error) => reply.error(errno::of(&error)),
    }
}

pub(super) fn send_statfs(reply: ReplyStatfs, stat: &FileSystemStat) {
    let block = u64::from(STATFS_BLOCK_BYTES);
    let (total, free) = (stat.total_bytes / block, stat.free_bytes / block);
    // Inodes are bounded by space alone: as many more as there are free blocks.
    let files = stat.inode_count.saturating_add(free);
    let (size, name) = (STATFS_BLOCK_BYTES, NAME_MAX_BYTES as u32);
    reply.statfs(total, free, free, files, free, size, name, size);
}

/// Adds an entry with attributes, which is also a reference to its inode; false when there was no
/// room. "." and ".." are no references, and the kernel looks at their names only.
pub(super) fn add_plus(
    operations: &Operations,
    reply: &mut ReplyDirectoryPlus,
    entry: ListedEntry<'_>,
) -> bool {
    let (attr, timeout) = match entry.attributes {
        Some(attributes) if entry.fresh => {
            let options = &operations.options;
            (file_attr(attributes), options.attribute_timeout().min(options.entry_timeout()))
        }
        Some(attributes) => (file_attr(attributes), Duration::ZERO),
        None => (bare_attr(&entry), Duration::ZERO),
    };
    let name = OsStr::from_bytes(entry.name);
    if reply.add(attr.ino, entry.next_position, name, &timeout, &attr, GENERATION) {
        return false;
    }
    if let Some(attributes) = entry.attributes {
        operations.inodes.looked_up(attributes);
    }
    true
}

fn bare_attr(entry: &ListedEntry<'_>) -> fuser::FileAttr {
    file_attr(&Attributes {
        inode: entry.inode,
        kind: entry.kind,
        mode: 0,
        uid: 0,
        gid: 0,
        link_count: 1,
        size_bytes: 0,
        accessed_ns: 0,
        modified_ns: 0,
        changed_ns: 0,
        truncate_version: 0,
        layout: None,
    })
}
