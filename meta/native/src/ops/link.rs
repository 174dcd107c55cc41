//! Link: a second name of a file or symbolic link.
//!
//! Needs write and search permission of the directory. A directory answers `NotPermitted`, a file
//! without a name `NotFound`, one with the most names `TooManyLinks`.
//! Conflict set: the inode (its link count is changed), the parent inode, the entry.
//! Idempotency: recorded.

use crate::names;
use crate::permissions;
use crate::records::EntryRecord;
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::view::{View, plain_attributes};
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::wire::meta::{InodeKind, MetaReply};
use firepond_core::{Error, ErrorKind, Result};

/// Most names of an inode, as of ext4.
const LINK_MAX_COUNT: u32 = 65_000;

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    inode: InodeId,
    new_parent: InodeId,
    new_name: &[u8],
) -> Result<MetaReply> {
    names::check_new(new_name)?;
    transact::run(meta, caller, &Link { inode, new_parent, new_name }).await
}

struct Link<'a> {
    inode: InodeId,
    new_parent: InodeId,
    new_name: &'a [u8],
}

impl Mutation for Link<'_> {
    const RECORDED: Recorded = Recorded::Success;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        let directory = view.directory(self.new_parent).await?;
        let mut record = view.held_inode(self.inode).await?;
        let refuse = |kind| Err(Error::new(kind, "").with("inode", self.inode));
        permissions::require(&caller.credentials, &directory, permissions::SEARCH)?;
        if view.entry(self.new_parent, self.new_name).await?.is_some() {
            return Err(names::exists(self.new_name));
        }
        if record.kind() == InodeKind::Directory {
            return refuse(ErrorKind::NotPermitted);
        }
        permissions::require(&caller.credentials, &directory, permissions::WRITE)?;
        match record.link_count {
            0 => return refuse(ErrorKind::NotFound),
            LINK_MAX_COUNT.. => return refuse(ErrorKind::TooManyLinks),
            _ => record.link_count += 1,
        }
        record.changed_ns = view.now_ns;
        view.put_inode(self.inode, &record)?;
        let entry = EntryRecord { inode: self.inode, kind: record.kind() };
        view.put_entry(self.new_parent, self.new_name, &entry)?;
        Ok(MetaReply::Attributes(plain_attributes(self.inode, &record)))
    }
}
