//! Open: opens an existing file, with `truncate` (O_TRUNC) cutting it to nothing.
//!
//! Needs the permissions of the access. A directory answers `IsADirectory`, a symbolic link
//! `LinkLoop`, a file that is being collected `StaleHandle`. An open for writing is a durable
//! record made in the same transaction, after any half-done truncation was finished; an open for
//! reading is noted in memory before the inode is looked at, so that the collector sees one of the
//! two.
//! Conflict set: for writing, the inode, its pending truncation and, to truncate, its write
//! sessions; for reading, none.
//! Idempotency: for writing recorded, so that a late duplicate opens nothing; for reading by
//! nature.

use super::set_attributes::set_size;
use crate::permissions;
use crate::records::{InodeBody, InodeRecord};
use crate::service::{Caller, MetaService};
use crate::transact::{Mutation, Recorded};
use crate::truncate;
use crate::view::{View, plain_attributes};
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::wire::meta::{Credentials, MetaReply};
use firepond_core::{Error, ErrorKind, Result};

/// What is to be opened, and how.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) inode: InodeId,
    pub(super) handle: u64,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) truncate: bool,
}

impl Wish {
    fn access(&self) -> u32 {
        let read = if self.read { permissions::READ } else { 0 };
        let write = if self.write || self.truncate { permissions::WRITE } else { 0 };
        read | write
    }
}

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    wish: Wish,
) -> Result<MetaReply> {
    meta.sessions().open(caller.client, wish.inode, wish.handle);
    let outcome = if wish.write || wish.truncate {
        for_writing(meta, caller, &wish).await
    } else {
        for_reading(meta, caller, &wish).await
    };
    if outcome.is_err() {
        meta.sessions().close(caller.client, wish.inode, wish.handle);
    }
    outcome
}

async fn for_reading<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    wish: &Wish,
) -> Result<MetaReply> {
    let record = meta.reading().held_inode(wish.inode).await?;
    require_openable(&caller.credentials, wish.inode, &record, wish.access(), false)?;
    let attributes = plain_attributes(wish.inode, &record);
    Ok(MetaReply::Opened { attributes, created: false })
}

async fn for_writing<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    wish: &Wish,
) -> Result<MetaReply> {
    let reply = truncate::run_settled(meta, caller, wish.inode, wish).await?;
    truncate::finish(meta, wish.inode, caller.deadline).await?;
    Ok(reply)
}

impl Mutation for Wish {
    const RECORDED: Recorded = Recorded::Success;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        let mut record = view.held_inode(self.inode).await?;
        let write = self.write || self.truncate;
        require_openable(&caller.credentials, self.inode, &record, self.access(), write)?;
        view.require_no_pending_truncate(self.inode).await?;
        if self.truncate {
            set_size(view, caller, self.inode, &mut record, 0).await?;
            record.changed_ns = view.now_ns;
            view.put_inode(self.inode, &record)?;
        }
        if self.write {
            view.add_writer(self.inode, caller.client, self.handle)?;
        }
        let attributes = plain_attributes(self.inode, &record);
        Ok(MetaReply::Opened { attributes, created: false })
    }
}

/// Checks after the fact that a file noted as open was not just being collected.
pub(super) async fn validate<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    inode: InodeId,
    handle: u64,
) -> Result<()> {
    let outcome = meta.reading().held_inode(inode).await.and_then(|record| {
        require_openable(&Credentials::default(), inode, &record, permissions::READ, false)
    });
    if outcome.is_err() {
        meta.sessions().close(caller.client, inode, handle);
    }
    outcome
}

/// Checks kind and permissions of an inode that is to be opened.
///
/// # Errors
/// `IsADirectory`, `LinkLoop`, `StaleHandle`, `PermissionDenied`.
pub(super) fn require_openable(
    who: &Credentials,
    inode: InodeId,
    record: &InodeRecord,
    access: u32,
    write: bool,
) -> Result<()> {
    let refuse = |kind, message: &str| Err(Error::new(kind, message).with("inode", inode));
    match record.body {
        InodeBody::File { collecting: true, .. } => {
            refuse(ErrorKind::StaleHandle, "the file is being removed")
        }
        InodeBody::File { .. } => permissions::require(who, record, access),
        InodeBody::Directory { .. } if write => {
            refuse(ErrorKind::IsADirectory, "a directory is not written")
        }
        InodeBody::Directory { .. } => {
            refuse(ErrorKind::IsADirectory, "a directory is read by its entries")
        }
        InodeBody::Symlink { .. } => {
            refuse(ErrorKind::LinkLoop, "a symbolic link is followed by the caller")
        }
    }
}
