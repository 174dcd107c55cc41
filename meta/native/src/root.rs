//! Makes the root directory at the first start.
//!
//! Mode 0755, owned by the user that started the cluster (options `root_uid` and `root_gid`): on a
//! laptop that user works in it at once; everybody else may look, and gets a directory by `mkdir`
//! and `chown` as on any other file system.
//! Conflict set: the root inode. Idempotency: an existing root stays as it is.

use crate::permissions;
use crate::records::InodeBody;
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::view::View;
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::sys::clock;
use firepond_core::wire::meta::MetaReply;
use std::time::Duration;

const MODE: u32 = 0o755;

/// Makes the root directory unless it is there; says whether the store was empty.
pub(crate) async fn ensure<S: KvStore>(meta: &MetaService<S>) -> Result<bool> {
    let empty = View::reading(meta.store().begin()).inode(InodeId::ROOT).await?.is_none();
    let caller = Caller::internal(clock::now() + Duration::from_secs(30));
    let options = meta.options();
    let make = MakeRoot { uid: options.root_uid, gid: options.root_gid };
    transact::run(meta, &caller, &make).await?;
    Ok(empty)
}

struct MakeRoot {
    uid: u32,
    gid: u32,
}

impl Mutation for MakeRoot {
    const RECORDED: Recorded = Recorded::Never;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        if view.inode(InodeId::ROOT).await?.is_some() {
            return Ok(MetaReply::Done);
        }
        let body = InodeBody::Directory { parent: InodeId::ROOT };
        let mut root = permissions::bare_inode(&caller.credentials, MODE, view.now_ns, body);
        (root.uid, root.gid) = (self.uid, self.gid);
        view.put_inode(InodeId::ROOT, &root)?;
        Ok(MetaReply::Done)
    }
}
