//! Removes files whose last name is gone, once nobody has them open.
//!
//! How: a transaction marks the inode as being collected, so that it can no longer be opened; if a
//! reader opened it just before, the mark goes again. Then its chunks are removed, then the inode.
//! A crash at any point leaves the garbage record, and the next pass goes on.
//! Conflict set: the inode, its garbage record, and all its write sessions.
//! Invariants: no chunk is removed while a session has the file open; the inode goes last.

use crate::concurrent;
use crate::keys;
use crate::records::{GarbageRecord, InodeBody, PendingTruncate};
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::truncate;
use crate::view::{View, plain_attributes};
use firepond_core::Result;
use firepond_core::ids::InodeId;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::sys::clock::Instant;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::wire::meta::MetaReply;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files of one page.
const PAGE_COUNT: usize = 256;

/// Goes once over all garbage. Returns how many files were removed and how many wait.
///
/// # Errors
/// What the store answers. A file whose chains do not answer is tried again later.
pub(crate) async fn pass<S: KvStore>(
    meta: &MetaService<S>,
    deadline: Instant,
) -> Result<(usize, usize)> {
    let mut range = keys::all_garbage();
    let (removed, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let settled = meta.sessions().is_settled();
    loop {
        let page = View::reading(meta.store().begin()).range(range.clone(), PAGE_COUNT).await?;
        let mut work: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
        for inode in page.iter().filter_map(|(key, _)| keys::inode_of(key)) {
            let (removed, waiting) = (&removed, &waiting);
            work.push(Box::pin(async move {
                let done = settled && collect_or_log(meta, inode, deadline).await;
                if done { removed } else { waiting }.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }));
        }
        concurrent::try_all(work).await?;
        match page.last() {
            Some((key, _)) if page.len() == PAGE_COUNT => {
                range.start = [key.as_ref(), &[0]].concat();
            }
            _ => return Ok((removed.into_inner(), waiting.into_inner())),
        }
    }
}

async fn collect_or_log<S: KvStore>(
    meta: &MetaService<S>,
    inode: InodeId,
    deadline: Instant,
) -> bool {
    collect_one(meta, inode, deadline).await.unwrap_or_else(|error| {
        tracing::info!(%inode, %error, "file is collected later");
        false
    })
}

/// Removes one file; says whether it is gone.
async fn collect_one<S: KvStore>(
    meta: &MetaService<S>,
    inode: InodeId,
    deadline: Instant,
) -> Result<bool> {
    if meta.sessions().is_open(inode) {
        return Ok(false);
    }
    let _lock = meta.locks().lock(inode).await;
    let caller = Caller::internal(deadline);
    let marked = transact::run(meta, &caller, &Mark { inode, collecting: true }).await?;
    let MetaReply::Attributes(attributes) = marked else { return Ok(false) };
    if meta.sessions().is_open(inode) {
        transact::run(meta, &caller, &Mark { inode, collecting: false }).await?;
        return Ok(false);
    }
    if let Some(layout) = &attributes.layout {
        let mut view = View::reading(meta.store().begin());
        let key = keys::pending_truncate(inode);
        let exact = view.get::<PendingTruncate>(&key).await?.is_none();
        let extent = exact.then_some(attributes.size_bytes);
        truncate::cut(meta, inode, layout, 0, extent, deadline).await?;
    }
    transact::run(meta, &caller, &Remove { inode }).await?;
    tracing::debug!(%inode, "collected");
    Ok(true)
}

/// Sets or takes away the mark; answers with attributes if it did, with `Done` if the file waits.
struct Mark {
    inode: InodeId,
    collecting: bool,
}

impl Mutation for Mark {
    const RECORDED: Recorded = Recorded::Never;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        _caller: &Caller,
    ) -> Result<MetaReply> {
        let garbage = view.get::<GarbageRecord>(&keys::garbage(self.inode)).await?;
        let Some(mut record) = view.inode(self.inode).await? else { return Ok(MetaReply::Done) };
        if garbage.is_none() || view.has_writers(self.inode).await? {
            return Ok(MetaReply::Done);
        }
        assert_eq!(record.link_count, 0, "garbage has no name");
        if let InodeBody::File { collecting, .. } = &mut record.body
            && *collecting != self.collecting
        {
            *collecting = self.collecting;
            view.put_inode(self.inode, &record)?;
        }
        Ok(MetaReply::Attributes(plain_attributes(self.inode, &record)))
    }
}

/// Removes all records of a file whose chunks are gone.
struct Remove {
    inode: InodeId,
}

impl Mutation for Remove {
    const RECORDED: Recorded = Recorded::Never;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        _caller: &Caller,
    ) -> Result<MetaReply> {
        if view.inode(self.inode).await?.is_some() {
            view.clear(&keys::inode(self.inode));
            view.effects.inodes_delta -= 1;
        }
        view.clear(&keys::garbage(self.inode));
        view.clear(&keys::pending_truncate(self.inode));
        Ok(MetaReply::Done)
    }
}
