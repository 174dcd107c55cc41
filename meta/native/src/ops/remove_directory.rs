//! RemoveDirectory: removes an empty directory and its name.
//!
//! Needs write and search permission of the parent, and in a sticky one ownership. "." answers
//! `InvalidArgument`, ".." `DirectoryNotEmpty`, anything but a directory `NotADirectory`.
//! Conflict set: the parent inode, the entry, the directory's inode, the range of all its entries
//! (so any insert below it conflicts, and in turn any insert reads the inode that is removed here),
//! and one shard of the parent's number of subdirectories.
//! Idempotency: recorded, refusals too, as `unlink`.

use super::removable;
use crate::names;
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::view::View;
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::wire::meta::{InodeKind, MetaReply};
use firepond_core::{Error, ErrorKind, Result};

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    parent: InodeId,
    name: &[u8],
) -> Result<MetaReply> {
    names::check(name)?;
    match name {
        b"." => Err(Error::invalid("a directory is removed by its name, not by \".\"")),
        b".." => Err(Error::new(ErrorKind::DirectoryNotEmpty, "\"..\" holds this directory")),
        _ => transact::run(meta, caller, &RemoveDirectory { parent, name }).await,
    }
}

struct RemoveDirectory<'a> {
    parent: InodeId,
    name: &'a [u8],
}

impl Mutation for RemoveDirectory<'_> {
    const RECORDED: Recorded = Recorded::Always;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        let who = &caller.credentials;
        let (entry, _) = removable::find(view, who, self.parent, self.name).await?;
        let refuse = |kind| Err(Error::new(kind, "").with("name", self.name.escape_ascii()));
        if entry.kind != InodeKind::Directory {
            return refuse(ErrorKind::NotADirectory);
        }
        if !view.is_empty(entry.inode).await? {
            return refuse(ErrorKind::DirectoryNotEmpty);
        }
        view.clear_entry(self.parent, self.name)?;
        view.clear_directory(entry.inode);
        view.count_subdirectory(self.parent, entry.inode, -1).await?;
        Ok(MetaReply::Done)
    }
}
