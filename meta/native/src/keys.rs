//! The key table: every key that metadata has in the store. Docs: docs/metadata.md.
//!
//! Why inode ids are little-endian here: consecutive ids then land far apart, so that a distributed
//! store spreads a burst of creates over its shards. Within one directory the order is by name,
//! which is what reading a directory needs.
//! Invariants: the first byte names the table and is never used for another; keys ≤ 4 KiB.

use firepond_core::ids::{ClientId, InodeId};
use firepond_core::kv::prefix_end;
use std::ops::Range;

/// Inodes: inode → `InodeRecord`.
const INODE: u8 = b'I';
/// Directory entries: parent, name → `EntryRecord`.
const ENTRY: u8 = b'E';
/// When a directory's entries last changed: directory → `DirectoryTimes`. Written blindly.
const DIRECTORY_TIMES: u8 = b'T';
/// Subdirectories of a directory: directory, shard → `Counter`.
const SUBDIRECTORIES: u8 = b'L';
/// Files open for writing: inode, client, handle → `SessionRecord`.
const SESSION: u8 = b'W';
/// Files without a name that wait for collection: inode → `GarbageRecord`.
const GARBAGE: u8 = b'G';
/// Truncations whose chunks are not cut yet: inode → `PendingTruncate`.
const PENDING_TRUNCATE: u8 = b'P';
/// Requests that were executed: period, client, request → `RequestRecord`.
const REQUEST: u8 = b'R';
/// The next inode id that no batch has taken → `Counter`.
pub(crate) const NEXT_INODE: &[u8] = b"N";

/// Over how many keys a directory's number of subdirectories is spread, so that parallel mkdirs in
/// one directory seldom conflict. A subdirectory counts in the shard of its own id, always.
pub(crate) const SUBDIRECTORY_SHARDS: u64 = 16;

fn with_inode(table: u8, inode: InodeId) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    key.push(table);
    key.extend_from_slice(&inode.0.to_le_bytes());
    key
}

fn all_of(prefix: Vec<u8>) -> Range<Vec<u8>> {
    let end = prefix_end(&prefix);
    prefix..end
}

/// The inode that a key of a table that begins with an inode names.
pub(crate) fn inode_of(key: &[u8]) -> Option<InodeId> {
    let bytes = key.get(1..9)?.try_into().ok()?;
    Some(InodeId(u64::from_le_bytes(bytes)))
}

/// An inode.
pub(crate) fn inode(inode: InodeId) -> Vec<u8> {
    with_inode(INODE, inode)
}

/// All inodes.
pub(crate) fn inodes() -> Range<Vec<u8>> {
    all_of(vec![INODE])
}

/// A name in a directory.
pub(crate) fn entry(parent: InodeId, name: &[u8]) -> Vec<u8> {
    let mut key = with_inode(ENTRY, parent);
    key.extend_from_slice(name);
    key
}

/// The name in the key of an entry.
pub(crate) fn entry_name(key: &[u8]) -> &[u8] {
    key.get(9..).unwrap_or_default()
}

/// All names of a directory.
pub(crate) fn entries(parent: InodeId) -> Range<Vec<u8>> {
    all_of(with_inode(ENTRY, parent))
}

/// The names of a directory that come after `after`.
pub(crate) fn entries_after(parent: InodeId, after: &[u8]) -> Range<Vec<u8>> {
    let mut start = entry(parent, after);
    start.push(0);
    start..prefix_end(&with_inode(ENTRY, parent))
}

/// When a directory's entries last changed.
pub(crate) fn directory_times(directory: InodeId) -> Vec<u8> {
    with_inode(DIRECTORY_TIMES, directory)
}

/// The shard of a directory's number of subdirectories in which `child` counts.
pub(crate) fn subdirectory_shard(directory: InodeId, child: InodeId) -> Vec<u8> {
    let mut key = with_inode(SUBDIRECTORIES, directory);
    key.push((child.0 % SUBDIRECTORY_SHARDS) as u8);
    key
}

/// All shards of a directory's number of subdirectories.
pub(crate) fn subdirectory_shards(directory: InodeId) -> Range<Vec<u8>> {
    all_of(with_inode(SUBDIRECTORIES, directory))
}

/// A file that a client has open for writing.
pub(crate) fn session(inode: InodeId, client: ClientId, handle: u64) -> Vec<u8> {
    let mut key = with_inode(SESSION, inode);
    key.extend_from_slice(&client.0.to_be_bytes());
    key.extend_from_slice(&handle.to_be_bytes());
    key
}

/// Whoever has a file open for writing.
pub(crate) fn sessions_of(inode: InodeId) -> Range<Vec<u8>> {
    all_of(with_inode(SESSION, inode))
}

/// A file that one client has open for writing.
pub(crate) fn sessions_of_client(inode: InodeId, client: ClientId) -> Range<Vec<u8>> {
    let mut key = with_inode(SESSION, inode);
    key.extend_from_slice(&client.0.to_be_bytes());
    all_of(key)
}

/// All files that are open for writing.
pub(crate) fn sessions() -> Range<Vec<u8>> {
    all_of(vec![SESSION])
}

/// Client and handle in the key of a session.
pub(crate) fn session_parts(key: &[u8]) -> Option<(InodeId, ClientId, u64)> {
    let client = u64::from_be_bytes(key.get(9..17)?.try_into().ok()?);
    let handle = u64::from_be_bytes(key.get(17..25)?.try_into().ok()?);
    Some((inode_of(key)?, ClientId(client), handle))
}

/// A file that waits for collection.
pub(crate) fn garbage(inode: InodeId) -> Vec<u8> {
    with_inode(GARBAGE, inode)
}

/// All files that wait for collection.
pub(crate) fn all_garbage() -> Range<Vec<u8>> {
    all_of(vec![GARBAGE])
}

/// A truncation whose chunks are not cut yet.
pub(crate) fn pending_truncate(inode: InodeId) -> Vec<u8> {
    with_inode(PENDING_TRUNCATE, inode)
}

/// All truncations whose chunks are not cut yet.
pub(crate) fn pending_truncates() -> Range<Vec<u8>> {
    all_of(vec![PENDING_TRUNCATE])
}

/// A request that was executed in a period.
pub(crate) fn request(period: u32, client: ClientId, request: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(21);
    key.push(REQUEST);
    key.extend_from_slice(&period.to_be_bytes());
    key.extend_from_slice(&client.0.to_be_bytes());
    key.extend_from_slice(&request.to_be_bytes());
    key
}

/// All requests that were executed before a period.
pub(crate) fn requests_before(period: u32) -> Range<Vec<u8>> {
    let mut end = vec![REQUEST];
    end.extend_from_slice(&period.to_be_bytes());
    vec![REQUEST]..end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the key table never changes. Oracle: golden bytes by hand.
    #[test]
    fn keys_are_golden() {
        let id = InodeId(0x0102);
        assert_eq!(inode(id), b"I\x02\x01\0\0\0\0\0\0");
        assert_eq!(entry(id, b"name"), b"E\x02\x01\0\0\0\0\0\0name");
        assert_eq!(subdirectory_shard(id, InodeId(33)), b"L\x02\x01\0\0\0\0\0\0\x01");
        assert_eq!(
            session(id, ClientId(3), 4),
            b"W\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04"
        );
        assert_eq!(request(1, ClientId(2), 3), b"R\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03");
        assert_eq!(garbage(id)[0], b'G');
        assert_eq!(pending_truncate(id)[0], b'P');
        assert_eq!(directory_times(id)[0], b'T');
    }

    /// Goal: a directory's range has its names and nobody else's. Oracle: key order.
    #[test]
    fn ranges_hold_exactly_their_keys() {
        let id = InodeId(0xff);
        let range = entries(id);
        assert!(range.contains(&entry(id, &[0xff; 255])));
        assert!(range.contains(&entry(id, b"a")));
        assert!(!range.contains(&entry(InodeId(0xfe), b"a")));
        assert!(!range.contains(&entry(InodeId(0x1ff), b"a")));
        assert!(!entries_after(id, b"a").contains(&entry(id, b"a")));
        assert!(entries_after(id, b"a").contains(&entry(id, b"a\0")));
        let key = session(id, ClientId(7), 8);
        assert!(sessions_of_client(id, ClientId(7)).contains(&key));
        assert_eq!(session_parts(&key), Some((id, ClientId(7), 8)));
    }
}
