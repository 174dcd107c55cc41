//! Lookup: the inode that a name in a directory leads to.
//!
//! Needs search permission. "." is the directory itself, ".." its parent; the root is its own.
//! Conflict set: none, a snapshot is read. Idempotency: changes nothing.

use crate::names;
use crate::permissions;
use crate::records::{InodeBody, InodeRecord};
use crate::service::{Caller, MetaService};
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::kv::KvStore;
use firepond_core::wire::meta::MetaReply;

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    parent: InodeId,
    name: &[u8],
) -> Result<MetaReply> {
    names::check(name)?;
    let mut view = meta.reading();
    let directory = view.directory(parent).await?;
    permissions::require(&caller.credentials, &directory, permissions::SEARCH)?;
    let (inode, record): (InodeId, InodeRecord) = match (name, &directory.body) {
        (b".", _) => (parent, directory),
        (b"..", InodeBody::Directory { parent: upper }) => (*upper, view.directory(*upper).await?),
        _ => {
            let entry = view.entry(parent, name).await?.ok_or_else(|| names::missing(name))?;
            (entry.inode, view.named_inode(&entry).await?)
        }
    };
    Ok(MetaReply::Attributes(view.attributes(inode, &record).await?))
}
