//! MakeDirectory: makes an empty directory.
//!
//! Needs write and search permission of the parent; group and set-group-id come from a set-group-id
//! parent. The parent's link count grows.
//! Conflict set: the parent inode, the entry, and one of 16 shards of the parent's number of
//! subdirectories, so that two parallel mkdirs seldom conflict and creates never do.
//! Idempotency: recorded.

use crate::names;
use crate::permissions;
use crate::records::InodeBody;
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::view::{View, plain_attributes};
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::wire::meta::MetaReply;

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    parent: InodeId,
    name: &[u8],
    mode: u32,
) -> Result<MetaReply> {
    names::check_new(name)?;
    let inode = meta.ids().next(meta.store(), caller.deadline).await?;
    let make = MakeDirectory { parent, name, mode, inode };
    transact::run(meta, caller, &make).await
}

struct MakeDirectory<'a> {
    parent: InodeId,
    name: &'a [u8],
    mode: u32,
    inode: InodeId,
}

impl Mutation for MakeDirectory<'_> {
    const RECORDED: Recorded = Recorded::Success;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        let who = &caller.credentials;
        let directory = view.directory(self.parent).await?;
        permissions::require(who, &directory, permissions::SEARCH)?;
        if view.entry(self.parent, self.name).await?.is_some() {
            return Err(names::exists(self.name));
        }
        permissions::require(who, &directory, permissions::WRITE)?;
        let body = InodeBody::Directory { parent: self.parent };
        let now_ns = view.now_ns;
        let record = permissions::new_inode(who, &directory, self.mode, now_ns, body);
        view.add_inode(self.parent, self.name, self.inode, &record)?;
        view.count_subdirectory(self.parent, self.inode, 1).await?;
        Ok(MetaReply::Attributes(plain_attributes(self.inode, &record)))
    }
}
