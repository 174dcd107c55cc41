//! `drop_pending`: forgets a version that nobody else has.
//!
//! Why durable when it returns: whoever sent the update is told that it never happened, and its
//! number may be given to another write.
//! Invariants: what was committed stays as it is; a chunk that has nothing else is gone.

use super::core::Core;
use super::job::Job;
use super::record::{ChunkKey, Record};
use firepond_core::Result;
use firepond_core::ids::ChunkVersion;
use std::sync::Arc;

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
    let job = Job::new(key, Some(&old), record);
    core.account(&key, Some(&old), job.record.as_deref(), &job.freed);
    let (job, durable) = job.awaited(guard);
    core.queue.push(job);
    durable.wait().await
}
