//! Rename: gives a file, link or directory another name, replacing what has it.
//!
//! Needs write and search permission of both directories, ownership where they are sticky, and
//! write permission of a directory that gets another parent. A directory replaces only an empty
//! directory, anything else only what is no directory; two names of one inode stay as they are.
//! `NoReplace` refuses any existing destination. Moving a directory below itself answers
//! `BadRename`.
//! Conflict set: both parents, both entries, the inode that moves, the one that is replaced (and
//! the range of its entries if it is a directory); for a directory that gets another parent every
//! ancestor of its new place, and since it is written itself, two moves that would make a loop
//! conflict.
//! Idempotency: recorded, refusals too, as `unlink`.

use crate::names;
use crate::permissions::{self, SEARCH, WRITE};
use crate::records::{EntryRecord, InodeBody, InodeRecord};
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::view::View;
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::wire::meta::{InodeKind, MetaReply, RenameMode};
use firepond_core::{Error, ErrorKind, Result};

type Place<'a> = (InodeId, &'a [u8]);

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    from: Place<'_>,
    to: Place<'_>,
    mode: RenameMode,
) -> Result<MetaReply> {
    names::check(from.1)?;
    names::check(to.1)?;
    if names::is_dots(from.1) || names::is_dots(to.1) {
        return Err(Error::new(ErrorKind::BadRename, "\".\" and \"..\" cannot be renamed"));
    }
    transact::run(meta, caller, &Rename { from, to, mode }).await
}

struct Rename<'a> {
    from: Place<'a>,
    to: Place<'a>,
    mode: RenameMode,
}

impl Mutation for Rename<'_> {
    const RECORDED: Recorded = Recorded::Always;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        let who = &caller.credentials;
        let old_parent = view.directory(self.from.0).await?;
        let new_parent = view.directory(self.to.0).await?;
        permissions::require(who, &old_parent, SEARCH)?;
        permissions::require(who, &new_parent, SEARCH)?;
        let moved = view.entry(self.from.0, self.from.1).await?;
        let moved = moved.ok_or_else(|| names::missing(self.from.1))?;
        let record = view.named_inode(&moved).await?;
        let changes_parent = moved.kind == InodeKind::Directory && self.from.0 != self.to.0;
        if changes_parent {
            self.require_no_loop(view, moved.inode).await?;
        }
        let replaced = view.entry(self.to.0, self.to.1).await?;
        if replaced.is_some() && self.mode == RenameMode::NoReplace {
            return Err(names::exists(self.to.1));
        }
        if replaced.is_some_and(|entry| entry.inode == moved.inode) {
            return Ok(MetaReply::Done);
        }
        permissions::require(who, &old_parent, WRITE)?;
        permissions::require(who, &new_parent, WRITE)?;
        permissions::require_not_sticky(who, &old_parent, &record)?;
        if changes_parent {
            permissions::require(who, &record, WRITE)?;
        }
        if let Some(replaced) = replaced {
            let target = view.named_inode(&replaced).await?;
            permissions::require_not_sticky(who, &new_parent, &target)?;
            self.replace(view, &moved, &replaced, target).await?;
        }
        self.move_entry(view, moved, record).await?;
        Ok(MetaReply::Done)
    }
}

impl Rename<'_> {
    /// Walks from the new parent to the root: the moved directory must not be on the way.
    async fn require_no_loop<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        moved: InodeId,
    ) -> Result<()> {
        let mut ancestor = self.to.0;
        while ancestor != InodeId::ROOT {
            if ancestor == moved {
                return Err(Error::new(ErrorKind::BadRename, "").with("inode", moved));
            }
            match view.directory(ancestor).await?.body {
                InodeBody::Directory { parent } => ancestor = parent,
                _ => unreachable!("`directory` gives directories"),
            }
        }
        Ok(())
    }

    async fn replace<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        moved: &EntryRecord,
        replaced: &EntryRecord,
        target: InodeRecord,
    ) -> Result<()> {
        let refuse = |kind| Err(Error::new(kind, "").with("name", self.to.1.escape_ascii()));
        match (moved.kind, replaced.kind) {
            (InodeKind::Directory, InodeKind::Directory) => {
                if !view.is_empty(replaced.inode).await? {
                    return refuse(ErrorKind::DirectoryNotEmpty);
                }
                view.clear_directory(replaced.inode);
                view.count_subdirectory(self.to.0, replaced.inode, -1).await
            }
            (InodeKind::Directory, _) => refuse(ErrorKind::NotADirectory),
            (_, InodeKind::Directory) => refuse(ErrorKind::IsADirectory),
            _ => view.drop_link(replaced.inode, target),
        }
    }

    async fn move_entry<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        moved: EntryRecord,
        mut record: InodeRecord,
    ) -> Result<()> {
        view.clear_entry(self.from.0, self.from.1)?;
        view.put_entry(self.to.0, self.to.1, &moved)?;
        if let InodeBody::Directory { parent } = &mut record.body {
            *parent = self.to.0;
            if self.from.0 != self.to.0 {
                view.count_subdirectory(self.from.0, moved.inode, -1).await?;
                view.count_subdirectory(self.to.0, moved.inode, 1).await?;
            }
        }
        record.changed_ns = view.now_ns;
        view.put_inode(moved.inode, &record)
    }
}
