//! Settling a file's length: at close and fsync by what the writer knows, for dead clients by
//! asking the chains.
//!
//! Rules: a hint counts only under the truncate version that the inode has now; then the size is
//! the larger of the two. A hint of another version says that its writes raced with a truncation,
//! so the last chunks are measured. A write's time counts unless utimens came after it.
//! Conflict set: the inode, its pending truncation, and the session that ends.
//! Idempotency: by nature, since a size only grows to what is there.

use crate::chunks::{ChunkRange, end_bytes};
use crate::concurrent;
use crate::keys;
use crate::layouts::chains_of;
use crate::permissions;
use crate::records::{InodeBody, InodeRecord, SessionRecord};
use crate::service::{Caller, MetaService};
use crate::transact::{self, Mutation, Recorded};
use crate::truncate;
use crate::view::View;
use firepond_core::ids::{ChunkId, ChunkIndex, ClientId, InodeId};
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::wire::meta::{LengthHint, MetaReply};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// A length and the truncate version under which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) size_bytes: u64,
    pub(crate) truncate_version: u64,
}

/// Settles a length by a hint, and ends a session if one is named.
pub(crate) async fn by_hint<S: KvStore>(
    meta: &MetaService<S>,
    caller: &Caller,
    inode: InodeId,
    hint: Option<LengthHint>,
    ends_handle: Option<u64>,
) -> Result<MetaReply> {
    loop {
        let mut measured = None;
        if let Some(hint) = hint {
            truncate::finish(meta, inode, caller.deadline).await?;
            let mut view = View::reading(meta.store().begin());
            let record = view.held_inode(inode).await?;
            if truncate_version(&record) != hint.truncate_version {
                measured = Some(measure(meta, inode, &record, caller.deadline).await?);
            }
        }
        let settle = Settle { inode, hint, measured, ends_handle };
        match transact::run(meta, caller, &settle).await {
            Err(error)
                if error.kind() == ErrorKind::TransactionConflict
                    && clock::now() < caller.deadline => {}
            outcome => return outcome,
        }
    }
}

struct Settle {
    inode: InodeId,
    hint: Option<LengthHint>,
    measured: Option<Measured>,
    ends_handle: Option<u64>,
}

impl Mutation for Settle {
    const RECORDED: Recorded = Recorded::Never;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> Result<MetaReply> {
        if let Some(handle) = self.ends_handle {
            view.clear(&keys::session(self.inode, caller.client, handle));
        }
        let before = view.held_inode(self.inode).await?;
        let mut record = before.clone();
        if let Some(hint) = self.hint {
            view.require_no_pending_truncate(self.inode).await?;
            self.apply_hint(&mut record, hint, caller)?;
        }
        if record != before {
            record.changed_ns = view.now_ns;
            view.put_inode(self.inode, &record)?;
        }
        Ok(MetaReply::Attributes(view.attributes(self.inode, &record).await?))
    }
}

impl Settle {
    fn apply_hint(
        &self,
        record: &mut InodeRecord,
        hint: LengthHint,
        caller: &Caller,
    ) -> Result<()> {
        let current = truncate_version(record);
        let known = match self.measured {
            _ if hint.truncate_version == current => hint.size_bytes,
            Some(measured) if measured.truncate_version == current => measured.size_bytes,
            _ => return Err(measure_again(self.inode)),
        };
        grow(record, known)?;
        if hint.modified_ns > record.modified_set_ns {
            record.modified_ns = hint.modified_ns;
            record.modified_set_ns = hint.modified_ns;
        }
        if caller.credentials.uid != 0 {
            record.mode = permissions::without_set_id(record.mode);
        }
        Ok(())
    }
}

fn measure_again(inode: InodeId) -> Error {
    Error::new(ErrorKind::TransactionConflict, "truncated while measured").with("inode", inode)
}

fn truncate_version(record: &InodeRecord) -> u64 {
    match record.body {
        InodeBody::File { truncate_version, .. } => truncate_version,
        _ => 0,
    }
}

fn grow(record: &mut InodeRecord, known_bytes: u64) -> Result<()> {
    if let InodeBody::File { size_bytes, layout, .. } = &mut record.body {
        if known_bytes > layout.size_max_bytes() {
            return Err(Error::new(ErrorKind::FileTooLarge, "").with("bytes", known_bytes));
        }
        *size_bytes = (*size_bytes).max(known_bytes);
        return Ok(());
    }
    Err(Error::invalid("only a file has a length to settle"))
}

/// Asks the chains of a file for its last chunk.
///
/// # Errors
/// What the chains answer: without all of them nothing is known.
pub(crate) async fn measure<S: KvStore>(
    meta: &MetaService<S>,
    inode: InodeId,
    record: &InodeRecord,
    deadline: Instant,
) -> Result<Measured> {
    let InodeBody::File { layout, truncate_version, .. } = record.body else {
        return Ok(Measured { size_bytes: 0, truncate_version: 0 });
    };
    let chains = chains_of(&meta.routing().current(), &layout, 0..u64::from(u32::MAX))?;
    let longest = AtomicU64::new(0);
    let mut queries: Vec<BoxFuture<'_, Result<()>>> = Vec::new();
    for chain in chains {
        let longest = &longest;
        queries.push(Box::pin(async move {
            let found = meta.chunks().list(chain, last_chunk(inode), deadline).await?;
            let last = found.chunks.first();
            let end = last.map_or(0, |stat| end_bytes(stat, layout.chunk_size_bytes));
            longest.fetch_max(end, Ordering::Relaxed);
            Ok(())
        }));
    }
    concurrent::try_all(queries).await?;
    Ok(Measured { size_bytes: longest.into_inner(), truncate_version })
}

fn last_chunk(inode: InodeId) -> ChunkRange {
    ChunkRange {
        from: ChunkId::file(inode, ChunkIndex(0)),
        to: ChunkId::file(inode, ChunkIndex(u32::MAX)),
        limit: 1,
        reverse: true,
    }
}

/// Ends the sessions of clients that are not alive, and settles the length of their files. Returns
/// how many ended.
///
/// # Errors
/// What the store answers. A file whose chains do not answer is tried again later.
pub(crate) async fn prune<S: KvStore>(meta: &MetaService<S>, deadline: Instant) -> Result<usize> {
    meta.sessions().expire();
    if !meta.sessions().is_settled() {
        return Ok(0);
    }
    let mut range = keys::sessions();
    let mut ended = 0;
    loop {
        let page = View::reading(meta.store().begin()).range(range.clone(), 256).await?;
        for (key, _) in &page {
            let Some((inode, client, handle)) = keys::session_parts(key) else { continue };
            if !meta.sessions().is_alive(client) {
                match prune_one(meta, inode, client, handle, deadline).await {
                    Ok(()) => ended += 1,
                    Err(error) => tracing::info!(%inode, %error, "session is pruned later"),
                }
            }
        }
        match page.last() {
            Some((key, _)) if page.len() == 256 => range.start = [key.as_ref(), &[0]].concat(),
            _ => return Ok(ended),
        }
    }
}

async fn prune_one<S: KvStore>(
    meta: &MetaService<S>,
    inode: InodeId,
    client: ClientId,
    handle: u64,
    deadline: Instant,
) -> Result<()> {
    loop {
        let mut measured = Measured { size_bytes: 0, truncate_version: 0 };
        if let Some(record) = View::reading(meta.store().begin()).inode(inode).await? {
            truncate::finish(meta, inode, deadline).await?;
            measured = measure(meta, inode, &record, deadline).await?;
        }
        let prune = Prune { inode, client, handle, measured };
        match transact::run(meta, &Caller::internal(deadline), &prune).await {
            Err(error)
                if error.kind() == ErrorKind::TransactionConflict && clock::now() < deadline => {}
            outcome => {
                outcome?;
                tracing::info!(%client, %inode, handle, "session of a dead client ended");
                return Ok(());
            }
        }
    }
}

struct Prune {
    inode: InodeId,
    client: ClientId,
    handle: u64,
    measured: Measured,
}

impl Mutation for Prune {
    const RECORDED: Recorded = Recorded::Never;

    async fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        _caller: &Caller,
    ) -> Result<MetaReply> {
        let key = keys::session(self.inode, self.client, self.handle);
        if view.get::<SessionRecord>(&key).await?.is_none() {
            return Ok(MetaReply::Done);
        }
        view.clear(&key);
        let Some(before) = view.inode(self.inode).await? else { return Ok(MetaReply::Done) };
        view.require_no_pending_truncate(self.inode).await?;
        if truncate_version(&before) != self.measured.truncate_version {
            return Err(measure_again(self.inode));
        }
        let mut record = before.clone();
        grow(&mut record, self.measured.size_bytes)?;
        if record != before {
            record.modified_ns = view.now_ns;
            record.modified_set_ns = view.now_ns;
            record.changed_ns = view.now_ns;
            view.put_inode(self.inode, &record)?;
        }
        Ok(MetaReply::Done)
    }
}
