//! A transaction as the operations see it: typed records instead of keys and bytes.
//!
//! Invariants: a view of a reading operation adds no conflict and is never committed; a view of a
//! changing operation conflicts with exactly what it read through `get`, `entries` and the like.
//! What is only shown to the caller (times and links of a directory) is read without conflict.

use crate::keys;
use crate::records::{
    Counter, DirectoryTimes, EntryRecord, GarbageRecord, InodeBody, InodeRecord, PendingTruncate,
    Record, SessionRecord,
};
use firepond_core::ids::{ClientId, InodeId};
use firepond_core::kv::{KvTransaction, RangeQuery};
use firepond_core::wire::meta::Attributes;
use firepond_core::{Error, ErrorKind, Result};
use std::ops::Range;

/// What follows from a transaction once it is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Inodes created minus inodes removed.
    pub(crate) inodes_delta: i64,
    /// A file lost its last name.
    pub(crate) garbage: bool,
}

/// A transaction with the key table on top.
pub(crate) struct View<T> {
    transaction: T,
    snapshot: bool,
    /// The time of everything this transaction does.
    pub(crate) now_ns: u64,
    /// What follows from it.
    pub(crate) effects: Effects,
}

impl<T: KvTransaction> View<T> {
    /// For an operation that only reads.
    pub(crate) fn reading(transaction: T) -> View<T> {
        View { transaction, snapshot: true, now_ns: 0, effects: Effects::default() }
    }

    /// For an operation that changes something.
    pub(crate) fn changing(transaction: T, now_ns: u64) -> View<T> {
        View { transaction, snapshot: false, now_ns, effects: Effects::default() }
    }

    /// The transaction and its effects, to commit it.
    pub(crate) fn into_parts(self) -> (T, Effects) {
        (self.transaction, self.effects)
    }

    /// A record.
    pub(crate) async fn get<R: Record>(&mut self, key: &[u8]) -> Result<Option<R>> {
        let value = if self.snapshot {
            self.transaction.snapshot_get(key).await?
        } else {
            self.transaction.get(key).await?
        };
        value.map(|bytes| R::decode(&bytes)).transpose()
    }

    /// A record, without a conflict.
    async fn peek<R: Record>(&mut self, key: &[u8]) -> Result<Option<R>> {
        let value = self.transaction.snapshot_get(key).await?;
        value.map(|bytes| R::decode(&bytes)).transpose()
    }

    /// Keys and values in order; the range that was looked at is in the conflict set of a change.
    pub(crate) async fn range(
        &mut self,
        keys: Range<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>> {
        let snapshot = self.snapshot;
        self.transaction.get_range(RangeQuery { keys, limit, reverse: false, snapshot }).await
    }

    /// Writes a record.
    pub(crate) fn put<R: Record>(&mut self, key: &[u8], record: &R) -> Result<()> {
        self.transaction.set(key, &record.encode()?);
        Ok(())
    }

    /// Removes a record.
    pub(crate) fn clear(&mut self, key: &[u8]) {
        self.transaction.clear(key);
    }

    /// An inode.
    pub(crate) async fn inode(&mut self, inode: InodeId) -> Result<Option<InodeRecord>> {
        self.get(&keys::inode(inode)).await
    }

    /// An inode that a caller holds on to.
    ///
    /// # Errors
    /// `StaleHandle` when it is gone.
    pub(crate) async fn held_inode(&mut self, inode: InodeId) -> Result<InodeRecord> {
        self.inode(inode).await?.ok_or_else(|| {
            Error::new(ErrorKind::StaleHandle, "the inode is gone").with("inode", inode)
        })
    }

    /// An inode that an entry names.
    ///
    /// # Errors
    /// `StoreCorrupt` when it is not there.
    pub(crate) async fn named_inode(&mut self, entry: &EntryRecord) -> Result<InodeRecord> {
        self.inode(entry.inode).await?.ok_or_else(|| {
            Error::new(ErrorKind::StoreCorrupt, "a name leads to no inode")
                .with("inode", entry.inode)
        })
    }

    /// A directory in which a name is looked for.
    ///
    /// # Errors
    /// `NotFound` when it is gone, `NotADirectory`.
    pub(crate) async fn directory(&mut self, inode: InodeId) -> Result<InodeRecord> {
        let record = self.inode(inode).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the directory is gone").with("inode", inode)
        })?;
        match record.body {
            InodeBody::Directory { .. } => Ok(record),
            _ => Err(Error::new(ErrorKind::NotADirectory, "").with("inode", inode)),
        }
    }

    /// What a name leads to.
    pub(crate) async fn entry(
        &mut self,
        parent: InodeId,
        name: &[u8],
    ) -> Result<Option<EntryRecord>> {
        self.get(&keys::entry(parent, name)).await
    }

    /// Whether a directory has no entry.
    pub(crate) async fn is_empty(&mut self, directory: InodeId) -> Result<bool> {
        Ok(self.range(keys::entries(directory), 1).await?.is_empty())
    }

    /// Writes an inode.
    pub(crate) fn put_inode(&mut self, inode: InodeId, record: &InodeRecord) -> Result<()> {
        debug_assert!(record.mode <= 0o7777, "mode holds permission bits only");
        self.put(&keys::inode(inode), record)
    }

    /// Writes a new inode and its name.
    pub(crate) fn add_inode(
        &mut self,
        parent: InodeId,
        name: &[u8],
        inode: InodeId,
        record: &InodeRecord,
    ) -> Result<()> {
        self.put_inode(inode, record)?;
        self.effects.inodes_delta += 1;
        self.put_entry(parent, name, &EntryRecord { inode, kind: record.kind() })
    }

    /// Writes a name.
    pub(crate) fn put_entry(
        &mut self,
        parent: InodeId,
        name: &[u8],
        entry: &EntryRecord,
    ) -> Result<()> {
        self.put(&keys::entry(parent, name), entry)?;
        self.touch_directory(parent)
    }

    /// Removes a name.
    pub(crate) fn clear_entry(&mut self, parent: InodeId, name: &[u8]) -> Result<()> {
        self.clear(&keys::entry(parent, name));
        self.touch_directory(parent)
    }

    /// Notes, blindly, that a directory's entries changed now.
    fn touch_directory(&mut self, directory: InodeId) -> Result<()> {
        let times = DirectoryTimes { entries_changed_ns: self.now_ns };
        self.put(&keys::directory_times(directory), &times)
    }

    /// Counts a subdirectory in or out.
    pub(crate) async fn count_subdirectory(
        &mut self,
        directory: InodeId,
        child: InodeId,
        delta: i64,
    ) -> Result<()> {
        let key = keys::subdirectory_shard(directory, child);
        let old = self.get::<Counter>(&key).await?.map_or(0, |counter| counter.value);
        let value = old.checked_add_signed(delta).ok_or_else(|| {
            Error::new(ErrorKind::StoreCorrupt, "fewer than no subdirectories")
                .with("inode", directory)
        })?;
        if value == 0 {
            self.clear(&key);
            return Ok(());
        }
        self.put(&key, &Counter { value })
    }

    /// Removes all records of an empty directory.
    pub(crate) fn clear_directory(&mut self, directory: InodeId) {
        self.clear(&keys::inode(directory));
        self.clear(&keys::directory_times(directory));
        self.effects.inodes_delta -= 1;
    }

    /// Takes one name from a file or symbolic link; without a last name it waits for collection.
    pub(crate) fn drop_link(&mut self, inode: InodeId, mut record: InodeRecord) -> Result<()> {
        record.link_count = record.link_count.saturating_sub(1);
        record.changed_ns = self.now_ns;
        if record.link_count > 0 {
            return self.put_inode(inode, &record);
        }
        if matches!(record.body, InodeBody::Symlink { .. }) {
            self.clear(&keys::inode(inode));
            self.effects.inodes_delta -= 1;
            return Ok(());
        }
        self.effects.garbage = true;
        self.put(&keys::garbage(inode), &GarbageRecord { unlinked_ns: self.now_ns })?;
        self.put_inode(inode, &record)
    }

    /// Whether anybody has a file open for writing.
    pub(crate) async fn has_writers(&mut self, inode: InodeId) -> Result<bool> {
        Ok(!self.range(keys::sessions_of(inode), 1).await?.is_empty())
    }

    /// Whether a client has a file open for writing.
    pub(crate) async fn is_writer(&mut self, inode: InodeId, client: ClientId) -> Result<bool> {
        Ok(!self.range(keys::sessions_of_client(inode, client), 1).await?.is_empty())
    }

    /// Notes that a client has a file open for writing.
    pub(crate) fn add_writer(
        &mut self,
        inode: InodeId,
        client: ClientId,
        handle: u64,
    ) -> Result<()> {
        let record = SessionRecord { opened_ns: self.now_ns };
        self.put(&keys::session(inode, client, handle), &record)
    }

    /// Refuses to go on while a truncation of the file is half done.
    ///
    /// # Errors
    /// `TransactionConflict`: finish the truncation and run the operation again.
    pub(crate) async fn require_no_pending_truncate(&mut self, inode: InodeId) -> Result<()> {
        match self.get::<PendingTruncate>(&keys::pending_truncate(inode)).await? {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::TransactionConflict, "a truncation is half done")
                .with("inode", inode)),
        }
    }

    /// What a caller sees of an inode.
    pub(crate) async fn attributes(
        &mut self,
        inode: InodeId,
        record: &InodeRecord,
    ) -> Result<Attributes> {
        let mut attributes = plain_attributes(inode, record);
        if !matches!(record.body, InodeBody::Directory { .. }) {
            return Ok(attributes);
        }
        let times = self.peek::<DirectoryTimes>(&keys::directory_times(inode)).await?;
        if let Some(DirectoryTimes { entries_changed_ns }) = times {
            attributes.changed_ns = attributes.changed_ns.max(entries_changed_ns);
            if entries_changed_ns > record.modified_set_ns {
                attributes.modified_ns = entries_changed_ns;
            }
        }
        let shards = RangeQuery {
            keys: keys::subdirectory_shards(inode),
            limit: keys::SUBDIRECTORY_SHARDS as usize,
            reverse: false,
            snapshot: true,
        };
        for (_, value) in self.transaction.get_range(shards).await? {
            let count = Counter::decode(&value)?.value;
            attributes.link_count += u32::try_from(count).unwrap_or(u32::MAX / 32);
        }
        Ok(attributes)
    }
}

/// Attributes of an inode by its record alone: all there is to a file or symbolic link.
pub(crate) fn plain_attributes(inode: InodeId, record: &InodeRecord) -> Attributes {
    let (size_bytes, truncate_version, layout) = match &record.body {
        InodeBody::File { size_bytes, truncate_version, layout, .. } => {
            (*size_bytes, *truncate_version, Some(*layout))
        }
        InodeBody::Directory { .. } => (0, 0, None),
        InodeBody::Symlink { target } => (target.len() as u64, 0, None),
    };
    Attributes {
        inode,
        kind: record.kind(),
        mode: record.mode,
        uid: record.uid,
        gid: record.gid,
        link_count: record.link_count,
        size_bytes,
        accessed_ns: record.accessed_ns,
        modified_ns: record.modified_ns,
        changed_ns: record.changed_ns,
        truncate_version,
        layout,
    }
}
