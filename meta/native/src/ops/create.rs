//! Create: makes a file and opens it, or opens the one that is there (unless `exclusive`).
//!
//! A new file needs write and search permission of the directory and takes its mode as given (the
//! caller has applied its umask); an existing one needs permission for the access that is asked.
//! A directory answers `IsADirectory`, a symbolic link `LinkLoop`: callers resolve links.
//! Conflict set: the parent inode (it must still be there), the entry, and for an existing file its
//! inode. The parent is not written: its times have a key of their own that is set blindly, so
//! parallel creates in one directory do not conflict.
//! Idempotency: recorded; a retry gets the same inode, opened once.

use super::open;
use crate::names;
use crate::permissions;
use crate::records::{EntryRecord, InodeBody};
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::truncate;
use crate::view::{View, plain_attributes};
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::layout::FileLayout;
use firepond_core::wire::meta::MetaReply;

/// How the file is to be. `shape` is chunk size in bytes and stripe count, 0 for the default.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) mode: u32,
    pub(super) handle: u64,
    pub(super) exclusive: bool,
    pub(super) write: bool,
    pub(super) shape: (u32, u32),
}

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    parent: InodeId,
    name: &[u8],
    wish: Wish,
) -> Result<MetaReply> {
    names::check_new(name)?;
    let (chunk_size_bytes, stripe_count) = wish.shape;
    let routing = meta.routing().current();
    let layout = meta.layouts().allocate(&routing, chunk_size_bytes, stripe_count)?;
    let inode = meta.ids().next(meta.store(), caller.deadline).await?;
    // Before the file can be seen, so that nobody removes and collects it under our feet.
    meta.sessions().open(caller.client, inode, wish.handle);
    let create = Create { parent, name, wish, inode, layout };
    let reply = create_or_open(meta, caller, &create).await;
    let made = matches!(&reply, Ok(MetaReply::Opened { attributes, .. })
        if attributes.inode == inode);
    if !made {
        meta.sessions().close(caller.client, inode, wish.handle);
    }
    reply
}

async fn create_or_open<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    create: &Create<'_>,
) -> Result<MetaReply> {
    let wish = create.wish;
    let (attributes, created) = match transact::run(meta, caller, create).await {
        Ok(MetaReply::Opened { attributes, created }) => (attributes, created),
        other => return other,
    };
    meta.sessions().open(caller.client, attributes.inode, wish.handle);
    if wish.write && !created {
        // Open durably as of the commit; now what `open` does before it.
        truncate::finish(meta, attributes.inode, caller.deadline).await?;
    } else if !created {
        // It may have been removed and collected since; then there is nothing to read.
        open::validate(meta, caller, attributes.inode, wish.handle).await?;
    }
    Ok(MetaReply::Opened { attributes, created })
}

struct Create<'a> {
    parent: InodeId,
    name: &'a [u8],
    wish: Wish,
    inode: InodeId,
    layout: FileLayout,
}

impl Mutation for Create<'_> {
    const RECORDED: Recorded = Recorded::Success;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        let directory = view.directory(self.parent).await?;
        permissions::require(&caller.credentials, &directory, permissions::SEARCH)?;
        if let Some(entry) = view.entry(self.parent, self.name).await? {
            return self.open_existing(view, caller, entry).await;
        }
        permissions::require(&caller.credentials, &directory, permissions::WRITE)?;
        let body = InodeBody::File {
            size_bytes: 0,
            truncate_version: 0,
            layout: self.layout,
            collecting: false,
        };
        let now_ns = view.now_ns;
        let who = &caller.credentials;
        let record = permissions::new_inode(who, &directory, self.wish.mode, now_ns, body);
        view.add_inode(self.parent, self.name, self.inode, &record)?;
        if self.wish.write {
            view.add_writer(self.inode, caller.client, self.wish.handle)?;
        }
        let attributes = plain_attributes(self.inode, &record);
        Ok(MetaReply::Opened { attributes, created: true })
    }
}

impl Create<'_> {
    async fn open_existing<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
        entry: EntryRecord,
    ) -> Result<MetaReply> {
        if self.wish.exclusive {
            return Err(names::exists(self.name));
        }
        let record = view.named_inode(&entry).await?;
        let access = if self.wish.write { permissions::WRITE } else { permissions::READ };
        open::require_openable(&caller.credentials, entry.inode, &record, access, self.wish.write)?;
        if self.wish.write {
            view.add_writer(entry.inode, caller.client, self.wish.handle)?;
        }
        let attributes = plain_attributes(entry.inode, &record);
        Ok(MetaReply::Opened { attributes, created: false })
    }
}
