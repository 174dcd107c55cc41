//! ReadLink: the path that a symbolic link holds; `InvalidArgument` for anything else.
//!
//! Needs no permission. Conflict set: none, a snapshot is read. Idempotency: changes nothing.

use crate::records::InodeBody;
use crate::service::MetaService;
use firepond_core::ids::InodeId;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::MetaReply;
use firepond_core::{Error, Result};
use serde_bytes::ByteBuf;

pub(super) async fn run<S: KvStore>(meta: &MetaService<S>, inode: InodeId) -> Result<MetaReply> {
    let record = meta.reading().held_inode(inode).await?;
    match record.body {
        InodeBody::Symlink { target } => Ok(MetaReply::LinkTarget(ByteBuf::from(target))),
        _ => Err(Error::invalid("not a symbolic link").with("inode", inode)),
    }
}
