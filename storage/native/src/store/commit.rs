//! `commit`: makes the pending version the one that readers see.
//!
//! Why it is durable lazily: the pending version is durable already, so a crash between the commit
//! and the next group leaves a pending version that the chain rolls forward.
//! Invariants: committing twice is committing once; a version that never came is an error.

use super::core::Core;
use super::job::Job;
use super::record::{ChunkKey, Record};
use super::types::VersionState;
use firepond_core::ids::{ChainVersion, ChunkVersion};
use firepond_core::sys::clock;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Commits a version of a chunk.
pub(super) async fn commit(
    core: &Core,
    key: ChunkKey,
    version: ChunkVersion,
    chain_version: ChainVersion,
) -> Result<VersionState> {
    let _guard = core.locks.lock(key).await;
    core.check_disk()?;
    core.target(key.target)?;
    let record = core.lookup(&key)?.unwrap_or_default();
    if let Some(committed) = record.committed.as_ref().filter(|c| c.state.version >= version) {
        return Ok(committed.state);
    }
    let pending = record.pending.as_ref().filter(|pending| pending.state.version == version);
    if pending.is_none() {
        let have = record.pending.as_ref().or(record.committed.as_ref());
        return Err(key.describe(
            Error::new(ErrorKind::UpdateGap, "the version to commit never came")
                .with("version", version.0)
                .with("have", have.map_or(0, |version| version.state.version.0)),
        ));
    }
    let next = Arc::new(promoted(&record, chain_version, clock::steady_unix_ns()));
    let state = next.committed.as_ref().map(|version| version.state);
    core.account(&key, Some(&record), Some(&next));
    core.cache.publish_unwritten(key, Arc::clone(&next));
    core.note_pending(key, None);
    core.queue.push(Job { is_visible: true, ..Job::new(key, Some(&record), Some(next)) });
    state.ok_or_else(|| Error::internal("a commit without a version"))
}

/// The record with its pending version committed.
pub(super) fn promoted(record: &Record, chain_version: ChainVersion, now_ns: u64) -> Record {
    let mut next = record.clone();
    next.updated_ns = now_ns;
    if let Some(mut version) = next.pending.take() {
        version.state.chain_version = chain_version;
        next.remember(&version.state);
        next.committed = Some(version);
    }
    next
}
