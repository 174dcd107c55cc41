//! GetAttributes: what a caller sees of an inode that it holds on to (`StaleHandle` once it is
//! gone).
//!
//! Needs no permission, as fstat. The size of a file that somebody writes is the one last settled.
//! Conflict set: none, a snapshot is read. Idempotency: changes nothing.

use crate::service::MetaService;
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::MetaReply;

pub(super) async fn run<S: KvStore>(meta: &MetaService<S>, inode: InodeId) -> Result<MetaReply> {
    let mut view = meta.reading();
    let record = view.held_inode(inode).await?;
    Ok(MetaReply::Attributes(view.attributes(inode, &record).await?))
}
