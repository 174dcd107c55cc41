//! SetAttributes: chmod, chown, utimens and truncate in one transaction.
//!
//! chmod needs ownership and drops set-group-id for who is not in the group. chown needs user 0, or
//! ownership to give the file to an own group; it clears the set-id bits of what is no directory.
//! utimens needs ownership, or write permission to set the server's time. truncate needs write
//! permission or the file open for writing by the client; to cut, it raises the truncate version
//! and leaves a pending truncation, which is finished before the answer; to extend a file that
//! nobody writes, it only changes the size.
//! Conflict set: the inode; for truncate also its write sessions and pending truncation.
//! Idempotency: recorded.

use crate::keys;
use crate::permissions;
use crate::records::{InodeBody, InodeRecord, PendingTruncate};
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::truncate;
use crate::view::View;
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::wire::meta::{AttributeChanges, Credentials, InodeKind, MetaReply, TimeUpdate};
use firepond_core::{Error, ErrorKind, Result};

pub(super) async fn run<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    inode: InodeId,
    changes: AttributeChanges,
) -> Result<MetaReply> {
    let cuts = changes.size_bytes.is_some();
    let set = SetAttributes { inode, changes };
    if !cuts {
        return transact::run(meta, caller, &set).await;
    }
    let reply = truncate::run_settled(meta, caller, inode, &set).await?;
    truncate::finish(meta, inode, caller.deadline).await?;
    Ok(reply)
}

struct SetAttributes {
    inode: InodeId,
    changes: AttributeChanges,
}

impl Mutation for SetAttributes {
    const RECORDED: Recorded = Recorded::Success;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        let who = &caller.credentials;
        let mut record = view.held_inode(self.inode).await?;
        self.change_owner(who, &mut record)?;
        self.change_mode(who, &mut record)?;
        if let Some(size_bytes) = self.changes.size_bytes {
            let writes = view.is_writer(self.inode, caller.client).await?;
            if !writes && record.kind() == InodeKind::File {
                permissions::require(who, &record, permissions::WRITE)?;
            }
            view.require_no_pending_truncate(self.inode).await?;
            set_size(view, caller, self.inode, &mut record, size_bytes).await?;
        }
        self.change_times(who, view.now_ns, &mut record)?;
        record.changed_ns = view.now_ns;
        view.put_inode(self.inode, &record)?;
        Ok(MetaReply::Attributes(view.attributes(self.inode, &record).await?))
    }
}

impl SetAttributes {
    fn change_owner(&self, who: &Credentials, record: &mut InodeRecord) -> Result<()> {
        let AttributeChanges { uid, gid, .. } = self.changes;
        if uid.is_none() && gid.is_none() {
            return Ok(());
        }
        let keeps_user = uid.is_none_or(|uid| uid == record.uid);
        let own_group = gid.is_none_or(|gid| gid == record.gid || permissions::in_group(who, gid));
        let allowed = who.uid == 0 || (who.uid == record.uid && keeps_user && own_group);
        if !allowed {
            return Err(self.not_permitted(who));
        }
        record.uid = uid.unwrap_or(record.uid);
        record.gid = gid.unwrap_or(record.gid);
        if record.kind() != InodeKind::Directory {
            record.mode = permissions::without_set_id(record.mode);
        }
        Ok(())
    }

    fn change_mode(&self, who: &Credentials, record: &mut InodeRecord) -> Result<()> {
        let Some(mode) = self.changes.mode else { return Ok(()) };
        if !permissions::is_owner(who, record) {
            return Err(self.not_permitted(who));
        }
        record.mode = mode & permissions::MODE_MASK;
        if who.uid != 0 && !permissions::in_group(who, record.gid) {
            record.mode &= !permissions::SET_GID;
        }
        Ok(())
    }

    fn change_times(&self, who: &Credentials, now_ns: u64, record: &mut InodeRecord) -> Result<()> {
        let AttributeChanges { accessed, modified, .. } = self.changes;
        let exact = [accessed, modified].iter().any(|one| matches!(one, Some(TimeUpdate::At(_))));
        if (accessed.is_some() || modified.is_some()) && !permissions::is_owner(who, record) {
            if exact {
                return Err(self.not_permitted(who));
            }
            permissions::require(who, record, permissions::WRITE)?;
        }
        let at = |update| match update {
            TimeUpdate::Now => now_ns,
            TimeUpdate::At(time_ns) => time_ns,
        };
        record.accessed_ns = accessed.map_or(record.accessed_ns, at);
        if let Some(modified) = modified {
            record.modified_ns = at(modified);
            record.modified_set_ns = now_ns;
        }
        Ok(())
    }

    fn not_permitted(&self, who: &Credentials) -> Error {
        Error::new(ErrorKind::NotPermitted, "only the owner may")
            .with("inode", self.inode)
            .with("uid", who.uid)
    }
}

/// Changes the size of a file in the transaction; the caller writes the record and, once it is
/// committed, finishes the truncation.
pub(super) async fn set_size<T: KvTransaction>(
    view: &mut View<T>,
    caller: &Caller,
    inode: InodeId,
    record: &mut InodeRecord,
    wanted_bytes: u64,
) -> Result<()> {
    let writers = view.has_writers(inode).await?;
    let refuse = |kind| Err(Error::new(kind, "no size to change").with("inode", inode));
    let InodeBody::File { size_bytes, truncate_version, layout, collecting } = &mut record.body
    else {
        let directory = record.kind() == InodeKind::Directory;
        return refuse(if directory {
            ErrorKind::IsADirectory
        } else {
            ErrorKind::InvalidArgument
        });
    };
    if *collecting {
        return refuse(ErrorKind::StaleHandle);
    }
    if wanted_bytes > layout.size_max_bytes() {
        return Err(Error::new(ErrorKind::FileTooLarge, "")
            .with("bytes", wanted_bytes)
            .with("max", layout.size_max_bytes()));
    }
    // While somebody writes, chunks may lie behind the size that is known.
    if wanted_bytes < *size_bytes || writers {
        *truncate_version += 1;
        let pending = PendingTruncate {
            size_bytes: wanted_bytes,
            truncate_version: *truncate_version,
            extent_bytes: (!writers).then_some(*size_bytes),
        };
        view.put(&keys::pending_truncate(inode), &pending)?;
    }
    *size_bytes = wanted_bytes;
    record.modified_ns = view.now_ns;
    record.modified_set_ns = view.now_ns;
    if caller.credentials.uid != 0 {
        record.mode = permissions::without_set_id(record.mode);
    }
    Ok(())
}
