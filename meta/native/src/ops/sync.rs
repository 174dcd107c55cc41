//! Sync: settles the length by the writer's hint (fsync); without one there is nothing to settle.
//!
//! Needs no permission: only who has the file open for writing has written.
//! Conflict set: the inode and its pending truncation. Idempotency: by nature (see `settle`).

use crate::service::{Caller, MetaService};
use crate::settle;
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::{LengthHint, MetaReply};

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    inode: InodeId,
    hint: Option<LengthHint>,
) -> Result<MetaReply> {
    if hint.is_none() {
        return super::get_attributes::run(meta, inode).await;
    }
    settle::by_hint(meta, caller, inode, hint, None).await
}
