//! Close: settles the length by the writer's hint and forgets the open file.
//!
//! A close for reading takes no transaction. No hint means that nothing was written. Closing what
//! is not open is fine: the session may have been pruned, and its length was settled then.
//! Conflict set: for writing, the inode and, with a hint, its pending truncation; none for reading.
//! Idempotency: by nature (see `settle`).

use crate::service::{Caller, MetaService};
use crate::settle;
use firepond_core::Result;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::{LengthHint, MetaReply, OpenFile};

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    open: OpenFile,
    hint: Option<LengthHint>,
) -> Result<MetaReply> {
    let reply = if open.write {
        settle::by_hint(meta, caller, open.inode, hint, Some(open.handle)).await
    } else {
        super::get_attributes::run(meta, open.inode).await
    };
    // Only now: until the length is settled the file must not be collected.
    if reply.is_ok() || !open.write {
        meta.sessions().close(caller.client, open.inode, open.handle);
        meta.garbage().notify_one();
    }
    reply
}
