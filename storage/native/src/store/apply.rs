//! `apply`: stores an update, as the pending version or as the committed one.
//!
//! Steps: lock the chunk → decide → take pages and write them, while the payload arrives → make the
//! record → hand it to the committer → answer when it is durable.
//! Invariants: up to the committer it runs to its end although its caller is gone, for the kernel
//! may still write into pages that it took; a failure before the record exists gives the pages
//! back.

use super::content::Draft;
use super::core::Core;
use super::job::{Durable, Job};
use super::locks::ChunkGuard;
use super::log_block::LoggedPage;
use super::record::{ChunkKey, Record, Version};
use super::rules::{self, Decision};
use super::types::{ChunkWrite, VersionState};
use firepond_core::routing::Durability;
use firepond_core::sys::{clock, task};
use firepond_core::wire::storage::UpdateKind;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Applies an update of a chunk.
pub(super) async fn apply(
    core: &Arc<Core>,
    key: ChunkKey,
    write: ChunkWrite,
) -> Result<VersionState> {
    rules::check_arguments(&write).map_err(|error| key.describe(error))?;
    let core = Arc::clone(core);
    let applied = task::to_its_end(async move { apply_locked(&core, key, write).await });
    let durable = match applied.await.flatten() {
        Ok((state, durable)) => durable.wait().await.map(|()| state),
        Err(error) => Err(error),
    };
    durable.map_err(|error| key.describe(error))
}

async fn apply_locked(
    core: &Arc<Core>,
    key: ChunkKey,
    write: ChunkWrite,
) -> Result<(VersionState, Durable)> {
    let guard = core.locks.lock(key).await;
    core.check_disk()?;
    core.target(key.target)?;
    let record = core.lookup(&key)?;
    let now_ns = clock::steady_unix_ns();
    let age = core.options.tombstone_age;
    match rules::decide(record.as_deref(), &write, now_ns, age)? {
        Decision::Committed(state) => return Ok((state, Durable::DONE)),
        Decision::Pending(state) if !write.commit => return Ok((state, Durable::DONE)),
        Decision::Pending(state) => {
            let record = record.as_deref().cloned().unwrap_or_default();
            let next = super::commit::promoted(&record, write.chain_version, now_ns);
            let old = Some(&record);
            let durable = hand_over(core, key, guard, old, next, vec![], Durability::Durable);
            return Ok((VersionState { chain_version: write.chain_version, ..state }, durable));
        }
        Decision::Apply => {}
    }
    let mut draft = make_draft(core, key, record.as_deref(), &write).await?;
    let pages = std::mem::take(&mut draft.logged);
    let version = new_version(record.as_deref(), &write, draft);
    let state = version.state;
    let next = new_record(record.as_deref(), &write, version, now_ns);
    let durable = hand_over(core, key, guard, record.as_deref(), next, pages, write.durability);
    Ok((state, durable))
}

/// Writes the bytes of the new version. Tries once more when pages are about to become free.
async fn make_draft(
    core: &Core,
    key: ChunkKey,
    record: Option<&Record>,
    write: &ChunkWrite,
) -> Result<Draft> {
    if write.kind.has_payload() && core.starved.load(Ordering::Relaxed) {
        return Err(Error::new(ErrorKind::DiskFull, "the reserve for the index is under attack")
            .with("disk", core.disk.root().display()));
    }
    match try_draft(core, key, record, write).await {
        Err(error) if error.kind() == ErrorKind::DiskFull => {
            core.queue.hurry();
            clock::sleep(core.options.lazy_interval.min(std::time::Duration::from_millis(20)))
                .await;
            try_draft(core, key, record, write).await
        }
        other => other,
    }
}

async fn try_draft(
    core: &Core,
    key: ChunkKey,
    record: Option<&Record>,
    write: &ChunkWrite,
) -> Result<Draft> {
    let is_whole =
        write.full_chunk || matches!(write.kind, UpdateKind::Replace | UpdateKind::Create);
    let base = record.and_then(Record::existing).filter(|_| !is_whole);
    let logged_key = (write.durability == Durability::Durable).then_some(key);
    let mut draft = match base {
        Some(version) => Draft::new(Arc::clone(&version.image), version.state.len, logged_key),
        None => Draft::new(Arc::default(), 0, logged_key),
    };
    let made = match write.kind {
        UpdateKind::Remove => {
            draft = Draft::new(Arc::default(), 0, None);
            Ok(())
        }
        UpdateKind::Truncate => draft.resize(core, write.len).await,
        // The head resolves fences: `rules` refused it.
        UpdateKind::PunchHole | UpdateKind::Fence => {
            draft.punch(core, write.offset, write.len).await
        }
        UpdateKind::Write | UpdateKind::Replace | UpdateKind::Create => {
            draft.write(core, write).await
        }
    };
    match made {
        Ok(()) => {
            draft.release_unused(core);
            Ok(draft)
        }
        Err(error) => {
            core.release(&draft.taken);
            Err(error)
        }
    }
}

fn new_version(record: Option<&Record>, write: &ChunkWrite, draft: Draft) -> Version {
    let existing = record.and_then(Record::existing);
    let is_new = write.full_chunk
        || matches!(write.kind, UpdateKind::Replace | UpdateKind::Create)
        || existing.is_none();
    let state = VersionState {
        version: write.version,
        chain_version: write.chain_version,
        write_id: write.write_id,
        len: draft.len,
        checksum: draft.checksum(),
        removed: write.kind == UpdateKind::Remove,
    };
    let tag = existing.filter(|_| !is_new).map_or(write.tag, |version| version.tag);
    Version { state, tag, image: draft.image }
}

fn new_record(
    record: Option<&Record>,
    write: &ChunkWrite,
    version: Version,
    now_ns: u64,
) -> Record {
    let mut next = record.cloned().unwrap_or_default();
    next.updated_ns = now_ns;
    next.stamp = next.stamp.max(write.stamp);
    if write.full_chunk {
        next.recent_writes.clear();
        next.forgotten = write.forgotten;
        for recent in &write.recent_writes {
            let state = VersionState {
                version: recent.version,
                write_id: recent.write_id,
                ..version.state
            };
            next.remember(&state);
        }
    }
    if write.commit {
        next.remember(&version.state);
        next.committed = Some(version);
        next.pending = None;
    } else {
        next.pending = Some(version);
    }
    next
}

/// Queues a record; what its durability asks to wait for.
fn hand_over(
    core: &Core,
    key: ChunkKey,
    guard: ChunkGuard,
    old: Option<&Record>,
    next: Record,
    pages: Vec<LoggedPage>,
    durability: Durability,
) -> Durable {
    let record = Arc::new(next);
    let job = Job { pages, ..Job::new(key, old, Some(Arc::clone(&record))) };
    core.account(&key, old, Some(&record), &job.freed);
    match durability {
        Durability::Cache => {
            core.cache.publish_unwritten(key, Arc::clone(&record));
            core.note_pending(key, Some(&record));
            core.queue.push(Job { is_visible: true, ..job });
            Durable::DONE
        }
        Durability::Durable => {
            let (job, durable) = job.awaited(guard);
            core.queue.push(job);
            durable
        }
    }
}
