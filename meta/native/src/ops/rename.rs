//! Rename: gives a file, link or directory another name, replacing what has it, or exchanging both.
//!
//! Needs write and search permission of both directories, ownership where they are sticky, and
//! write permission of a directory that gets another parent. A directory replaces only an empty
//! directory, anything else only what is no directory; two names of one inode stay as they are.
//! `NoReplace` refuses any existing destination, `Exchange` an absent one. Moving a directory below
//! itself answers `BadRename`.
//! Conflict set: both parents, both entries, the inode that moves, the one that is replaced or
//! moves the other way (and the range of its entries if it is a directory that is replaced); for a
//! directory that gets another parent every ancestor of its new place, and since it is written
//! itself, two moves that would make a loop conflict.
//! Idempotency: recorded, refusals too, as `unlink`.

use crate::names;
use crate::permissions::{self, SEARCH, WRITE};
use crate::records::{EntryRecord, InodeBody, InodeRecord};
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::view::View;
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::wire::meta::{Credentials, InodeKind, MetaReply, RenameMode};
use firepond_core::{Error, ErrorKind, Result};

type Place<'a> = (InodeId, &'a [u8]);

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    from: Place<'_>,
    to: Place<'_>,
    mode: RenameMode,
) -> Result<MetaReply> {
    if mode == RenameMode::NoReplace && !names::is_dots(from.1) && names::is_dots(to.1) {
        return Err(names::exists(to.1));
    }
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
        let moved = named(view, self.from).await?.ok_or_else(|| names::missing(self.from.1))?;
        let replaced = named(view, self.to).await?;
        match (self.mode, replaced) {
            (RenameMode::NoReplace, Some(_)) => return Err(names::exists(self.to.1)),
            (RenameMode::Exchange, None) => return Err(names::missing(self.to.1)),
            _ => {}
        }
        self.require_no_loop(view, &moved, self.to.0).await?;
        if replaced.is_some_and(|entry| entry.inode == moved.inode) {
            return Ok(MetaReply::Done);
        }
        permissions::require(who, &old_parent, WRITE)?;
        permissions::require(who, &new_parent, WRITE)?;
        let record = self.movable(view, who, &old_parent, &moved).await?;
        match replaced {
            Some(other) if self.mode == RenameMode::Exchange => {
                self.require_no_loop(view, &other, self.from.0).await?;
                let back = self.movable(view, who, &new_parent, &other).await?;
                put_entry(view, (self.to.0, self.from), other, back).await?;
            }
            Some(replaced) => {
                let target = view.named_inode(&replaced).await?;
                permissions::require_not_sticky(who, &new_parent, &target)?;
                self.replace(view, &moved, &replaced, target).await?;
                view.clear_entry(self.from.0, self.from.1)?;
            }
            None => view.clear_entry(self.from.0, self.from.1)?,
        }
        put_entry(view, (self.from.0, self.to), moved, record).await?;
        Ok(MetaReply::Done)
    }
}

/// The entry of a name, which must be one that can exist.
async fn named<T: KvTransaction>(
    view: &mut View<T>,
    (parent, name): Place<'_>,
) -> Result<Option<EntryRecord>> {
    names::check(name)?;
    view.entry(parent, name).await
}

/// Whether `place` is `directory` or below it: walks from there to the root.
async fn is_below<T: KvTransaction>(
    view: &mut View<T>,
    place: InodeId,
    directory: InodeId,
) -> Result<bool> {
    let mut ancestor = place;
    while ancestor != directory {
        if ancestor == InodeId::ROOT {
            return Ok(false);
        }
        match view.directory(ancestor).await?.body {
            InodeBody::Directory { parent } => ancestor = parent,
            _ => unreachable!("`directory` gives directories"),
        }
    }
    Ok(true)
}

/// Puts what had a name in `old_parent` at a place; a directory learns of its parent.
async fn put_entry<T: KvTransaction>(
    view: &mut View<T>,
    (old_parent, to): (InodeId, Place<'_>),
    moved: EntryRecord,
    mut record: InodeRecord,
) -> Result<()> {
    view.put_entry(to.0, to.1, &moved)?;
    if let InodeBody::Directory { parent } = &mut record.body {
        *parent = to.0;
        if old_parent != to.0 {
            view.count_subdirectory(old_parent, moved.inode, -1).await?;
            view.count_subdirectory(to.0, moved.inode, 1).await?;
        }
    }
    record.changed_ns = view.now_ns;
    view.put_inode(moved.inode, &record)
}

impl Rename<'_> {
    /// A directory that gets another parent must not be above it.
    async fn require_no_loop<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        entry: &EntryRecord,
        parent: InodeId,
    ) -> Result<()> {
        let changes_parent = entry.kind == InodeKind::Directory && self.from.0 != self.to.0;
        if changes_parent && is_below(view, parent, entry.inode).await? {
            return Err(Error::new(ErrorKind::BadRename, "").with("inode", entry.inode));
        }
        Ok(())
    }

    /// The inode of an entry, if the caller may take it away from `parent` to the other directory.
    async fn movable<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        who: &Credentials,
        parent: &InodeRecord,
        entry: &EntryRecord,
    ) -> Result<InodeRecord> {
        let record = view.named_inode(entry).await?;
        permissions::require_not_sticky(who, parent, &record)?;
        if entry.kind == InodeKind::Directory && self.from.0 != self.to.0 {
            permissions::require(who, &record, WRITE)?;
        }
        Ok(record)
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
            // Linux says first that a directory is on the way to what would replace it.
            (_, InodeKind::Directory) => {
                let holds = is_below(view, self.from.0, replaced.inode).await?;
                let not_empty = ErrorKind::DirectoryNotEmpty;
                refuse(if holds { not_empty } else { ErrorKind::IsADirectory })
            }
            _ => view.drop_link(replaced.inode, target),
        }
    }
}
