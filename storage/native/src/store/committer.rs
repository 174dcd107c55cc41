//! Group commit: one worker that makes the updates of many durable together.
//!
//! Why a worker with a thread of its own: it sleeps in the sync of the log, and whatever arrives
//! meanwhile is the next group, so the group grows with the load (`queue` says when it is due). It
//! is a future all the same, so that a simulated machine can drive it. Order within a group: data
//! synced, if an update wrote its pages past the log → log written and synced → records visible,
//! pages of the old versions retired → answers. A commit is visible before (its pending version is
//! durable already) and waits for the next update of its chunk, which stands for both, at most
//! `lazy_interval`.
//! Invariants: records of one chunk are queued under its lock, so in order, and stay in order; the
//! last one of a group is written. A failed sync fails the disk: nothing can be said of what was
//! written.

use super::codec::tombstone_key;
use super::compact;
use super::core::Core;
use super::job::Job;
use super::log::GroupChanges;
use super::log_block::LoggedPage;
use super::maintenance;
use super::queue::Wake;
use firepond_core::Result;
use firepond_core::sys::clock;
use firepond_core::sys::task;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often maintenance runs.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// Where the records of a group are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Log,
    Index,
}

/// The committer, until the queue is closed.
pub(super) async fn run(core: Arc<Core>) {
    let core = &core;
    checkpoint(core).await; // What opening replayed.
    let compaction = task::spawn(compact::run(Arc::clone(core)));
    serve(core).await;
    compaction.abort();
}

async fn serve(core: &Arc<Core>) {
    let mut maintenance_at = clock::now() + MAINTENANCE_INTERVAL;
    loop {
        match core.queue.wait(core.options.lazy_interval, maintenance_at).await {
            Wake::Group(jobs) => {
                let start = clock::now();
                let waiting_count = jobs.iter().filter(|job| job.answer.is_some()).count();
                commit_group(core, jobs).await;
                core.queue.pace(waiting_count, start);
            }
            Wake::Closing(jobs) => {
                commit_group(core, jobs).await;
                return checkpoint(core).await;
            }
            Wake::Maintenance => {
                commit_group(core, maintenance::run(core)).await;
                maintenance_at = clock::now() + MAINTENANCE_INTERVAL;
            }
        }
    }
}

async fn commit_group(core: &Arc<Core>, jobs: Vec<Job>) {
    if jobs.is_empty() && !core.has_lazy() {
        return;
    }
    core.group_count.fetch_add(1, Ordering::Relaxed);
    core.update_count.fetch_add(jobs.len() as u64, Ordering::Relaxed);
    match make_durable(core, &jobs).await {
        Ok(place) => jobs.into_iter().for_each(|job| finish(core, job, place)),
        Err(cause) => {
            let error = core.fail_disk(&cause);
            for job in jobs {
                if let Some(answer) = job.answer {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Leaves the log with nothing to replay.
async fn checkpoint(core: &Core) {
    if core.check_disk().is_err() {
        return;
    }
    if let Err(cause) = core.log.lock().await.checkpoint(core, &GroupChanges::default()).await {
        core.fail_disk(&cause);
    }
}

async fn make_durable(core: &Arc<Core>, jobs: &[Job]) -> Result<Place> {
    core.check_disk()?;
    let mut log = core.log.lock().await;
    let grown = core.space.take_grown();
    if core.unsynced.swap(false, Ordering::AcqRel) || grown {
        core.file.sync_in_place().await?;
    }
    let mut group = changes(jobs);
    if core.has_lazy() {
        group.others.extend(std::mem::take(&mut *core.lazy.lock()));
    }
    let pages: Vec<&LoggedPage> = jobs.iter().flat_map(|job| &job.pages).collect();
    if log.append(core, &group, &pages).await? {
        core.index.write(group.others, false)?;
        return Ok(Place::Log);
    }
    log.checkpoint(core, &group).await?;
    Ok(Place::Index)
}

/// The changes of a group: of several records of one chunk the last one.
fn changes(jobs: &[Job]) -> GroupChanges {
    // The stamp that the index has of a chunk, and the position of the chunk's last record.
    let mut last = HashMap::with_capacity(jobs.len());
    for (position, job) in jobs.iter().enumerate() {
        last.entry(job.key).or_insert((job.stamp_before, position)).1 = position;
    }
    let mut group = GroupChanges::default();
    for (position, job) in jobs.iter().enumerate() {
        let (stamp_before, last_position) = last[&job.key];
        if last_position != position {
            continue;
        }
        let others = &mut group.others;
        others.extend(super::changes::entries(&job.key, stamp_before, job.record.as_deref()));
        let tombstone = job.record.as_deref().filter(|record| record.is_tombstone());
        if let Some(record) = tombstone {
            others.push((tombstone_key(record.updated_ns, &job.key), Some(Vec::new())));
        }
        group.records.insert(job.key, job.record.clone());
    }
    group
}

fn finish(core: &Core, job: Job, place: Place) {
    if !job.is_visible {
        core.note_pending(job.key, job.record.as_deref());
    }
    core.cache.mark_durable(job.key, job.record.as_ref(), job.is_visible, place);
    if let Some(record) = &job.record {
        core.note_pieces(job.key, record);
    }
    let freed = core.epochs.retire(job.freed);
    core.release(&freed);
    if let Some(answer) = job.answer {
        // Who asked may have gone; the update stands all the same.
        let _ = answer.send(Ok(()));
    }
}
