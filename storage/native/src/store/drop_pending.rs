//! `drop_pending`: forgets a version that nobody else has.
//!
//! Why durable when it returns: whoever sent the update is told that it never happened, and its
//! number may be given to another write.
//! Invariants: what was committed stays as it is; a chunk that has nothing else is gone.

use super::committer::Job;
use super::core::Core;
use super::record::{ChunkKey, Record, released_by};
use firepond_core::ids::ChunkVersion;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Drops the pending version of a chunk, if it is this one.
pub(super) async fn drop_pending(core: &Core, key: ChunkKey, version: ChunkVersion) -> Result<()> {
    let guard = core.locks.lock(key).await;
    core.check_disk()?;
    core.target(key.target)?;
    let Some(old) = core.lookup(&key)? else { return Ok(()) };
    if old.pending.as_ref().is_none_or(|pending| pending.state.version != version) {
        return Ok(());
    }
    let left = Record { pending: None, ..Record::clone(&old) };
    let record = left.committed.is_some().then(|| Arc::new(left));
    let freed = released_by(Some(&old), record.as_deref());
    core.account(&key, Some(&old), record.as_deref());
    let (answer, durable) = oneshot::channel();
    let (is_visible, answer, _guard) = (false, Some(answer), Some(guard));
    let stamp_before = old.stamp;
    core.queue.push(Job {
        key,
        record,
        stamp_before,
        freed,
        pages: vec![],
        is_visible,
        answer,
        _guard,
    });
    durable.await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Closed, "the store was closed while a version was dropped"))
    })
}
