//! Unlink: removes a name of a file or symbolic link. The last name takes the file with it.
//!
//! Needs write and search permission of the directory, and in a sticky one ownership. A directory
//! answers `IsADirectory`. A file that is open stays until it is closed; its chunks are removed in
//! the background.
//! Conflict set: the parent inode, the entry, the inode.
//! Idempotency: recorded, refusals too: a late duplicate must not remove a file that was made after
//! the first try had found none.

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
    if names::is_dots(name) {
        return Err(Error::new(ErrorKind::IsADirectory, "\".\" and \"..\" are directories"));
    }
    transact::run(meta, caller, &Unlink { parent, name }).await
}

struct Unlink<'a> {
    parent: InodeId,
    name: &'a [u8],
}

impl Mutation for Unlink<'_> {
    const RECORDED: Recorded = Recorded::Always;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        let who = &caller.credentials;
        let (entry, record) = removable::find(view, who, self.parent, self.name).await?;
        if entry.kind == InodeKind::Directory {
            return Err(
                Error::new(ErrorKind::IsADirectory, "").with("name", self.name.escape_ascii())
            );
        }
        view.clear_entry(self.parent, self.name)?;
        view.drop_link(entry.inode, record)?;
        Ok(MetaReply::Done)
    }
}
