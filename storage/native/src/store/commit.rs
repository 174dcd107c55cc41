//! `commit`: makes the pending version the one that readers see.
//!
//! Why it is durable lazily: the pending version is durable already, so a crash between the commit
//! and the next group leaves a pending version that the chain rolls forward.
//! Invariants: committing twice is committing once; a version that never came is an error. What is
//! pending under this number comes first: a whole chunk may replace a committed version of the same
//! number or a higher one (what a resync removed, or what an earlier chain version had).

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
    if record.pending.as_ref().is_none_or(|pending| pending.state.version != version) {
        let committed = record.committed.as_ref().map(|committed| committed.state);
        return match committed.filter(|committed| committed.version >= version) {
            Some(committed) => Ok(committed),
            None => Err(key.describe(never_came(&record, version))),
        };
    }
    let next = Arc::new(promoted(&record, chain_version, clock::steady_unix_ns()));
    let state = next.committed.as_ref().map(|version| version.state);
    let job = Job::new(key, Some(&record), Some(Arc::clone(&next)));
    core.account(&key, Some(&record), Some(&next), &job.freed);
    core.cache.publish_unwritten(key, next);
    core.note_pending(key, None);
    core.queue.push(Job { is_visible: true, ..job });
    state.ok_or_else(|| Error::internal("a commit without a version"))
}

fn never_came(record: &Record, version: ChunkVersion) -> Error {
    let have = record.pending.as_ref().or(record.committed.as_ref());
    Error::new(ErrorKind::UpdateGap, "the version to commit never came")
        .with("version", version.0)
        .with("have", have.map_or(0, |version| version.state.version.0))
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
