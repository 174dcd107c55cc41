//! MakeSymlink: makes a symbolic link that holds a path of at most 4095 bytes.
//!
//! Needs write and search permission of the parent. The target need not exist.
//! Conflict set: the parent inode and the entry, as `create`. Idempotency: recorded.

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

const MODE: u32 = 0o777;

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    parent: InodeId,
    name: &[u8],
    target: &[u8],
) -> Result<MetaReply> {
    names::check_new(name)?;
    names::check_target(target)?;
    let inode = meta.ids().next(meta.store(), caller.deadline).await?;
    let make = MakeSymlink { parent, name, target, inode };
    transact::run(meta, caller, &make).await
}

struct MakeSymlink<'a> {
    parent: InodeId,
    name: &'a [u8],
    target: &'a [u8],
    inode: InodeId,
}

impl Mutation for MakeSymlink<'_> {
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
        let body = InodeBody::Symlink { target: self.target.to_vec() };
        let record = permissions::new_inode(who, &directory, MODE, view.now_ns, body);
        view.add_inode(self.parent, self.name, self.inode, &record)?;
        Ok(MetaReply::Attributes(plain_attributes(self.inode, &record)))
    }
}
