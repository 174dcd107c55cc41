//! Group commit: one worker that makes the updates of many durable together.
//!
//! Why a worker with a thread of its own: it sleeps in the sync of the log, and whatever arrives
//! meanwhile is the next group, so the group grows with the load and nobody waits on purpose. It is
//! a future all the same, so that a simulated machine can drive it.
//! Order within a group: data synced, if an update wrote its pages past the log → log written and
//! synced → records visible, pages of the old versions retired → answers. A commit is visible before
//! (its pending version is durable already) and waits for the next update of its chunk, which
//! stands for both, at most `lazy_interval`.
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
use super::record::ChunkKey;
use firepond_core::Result;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::task;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;

/// Lazy records beyond which the group is committed at once: they take memory.
const LAZY_MAX_COUNT: usize = 4096;

/// Groups in which this many wait are this far apart: with fewer and larger groups the processor
/// has time for the rest of the chain, and who waits alone waits for nobody.
const PACED_MIN_COUNT: usize = 4;
const PACE: Duration = Duration::from_millis(1);

/// How often maintenance runs.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// What waits for the committer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Notify,
}

#[derive(Default)]
struct QueueState {
    jobs: Vec<Job>,
    is_urgent: bool,
    /// The next group takes everything.
    is_hurried: bool,
    lazy_since: Option<Instant>,
    is_closing: bool,
}

/// Where the records of a group are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Log,
    Index,
}

/// Why the committer woke.
enum Wake {
    Group(Vec<Job>),
    Maintenance,
    Closing(Vec<Job>),
}

impl Queue {
    pub(super) fn push(&self, job: Job) {
        let mut state = self.state.lock();
        if state.is_closing {
            // Dropping the job tells whoever waits; a lazy one leaves its pending version.
            return;
        }
        let was_idle = state.lazy_since.is_none();
        let was_urgent = state.is_urgent;
        state.is_hurried |= state.jobs.len() >= LAZY_MAX_COUNT;
        state.is_urgent |= job.answer.is_some() || state.is_hurried;
        if was_idle {
            state.lazy_since = Some(clock::now());
        }
        state.jobs.push(job);
        let must_wake = was_idle || (state.is_urgent && !was_urgent);
        drop(state);
        if must_wake {
            self.changed.notify_one();
        }
    }

    /// Commits what waits now, without delay.
    pub(super) fn hurry(&self) {
        let mut state = self.state.lock();
        (state.is_urgent, state.is_hurried) = (true, true);
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn close(&self) {
        self.state.lock().is_closing = true;
        self.changed.notify_one();
    }

    async fn wait(&self, lazy_interval: Duration, maintenance_at: Instant) -> Wake {
        loop {
            let until = match self.state.lock().due(lazy_interval, maintenance_at) {
                Ok(wake) => return wake,
                Err(until) => until,
            };
            // A notification between the look and the wait is kept for the wait.
            clock::timeout_at(until, self.changed.notified()).await;
        }
    }
}

impl QueueState {
    /// What is to be done now, or until when there is nothing.
    fn due(
        &mut self,
        lazy_interval: Duration,
        maintenance_at: Instant,
    ) -> std::result::Result<Wake, Instant> {
        if self.is_closing {
            return Ok(Wake::Closing(self.take_all()));
        }
        let now = clock::now();
        let lazy_at = self.lazy_since.map(|since| since + lazy_interval);
        if self.is_hurried || lazy_at.is_some_and(|at| at <= now) {
            return Ok(Wake::Group(self.take_all()));
        }
        if self.is_urgent {
            return Ok(Wake::Group(self.take_urgent()));
        }
        if maintenance_at <= now {
            return Ok(Wake::Maintenance);
        }
        Err(lazy_at.map_or(maintenance_at, |at| at.min(maintenance_at)))
    }

    fn take_all(&mut self) -> Vec<Job> {
        (self.is_urgent, self.is_hurried, self.lazy_since) = (false, false, None);
        std::mem::take(&mut self.jobs)
    }

    /// The jobs of those chunks for which somebody waits. The others are as old as they were.
    fn take_urgent(&mut self) -> Vec<Job> {
        let waiting = self.jobs.iter().filter(|job| job.answer.is_some());
        let keys: HashSet<ChunkKey> = waiting.map(|job| job.key).collect();
        let jobs = std::mem::take(&mut self.jobs);
        let (urgent, lazy): (Vec<Job>, _) =
            jobs.into_iter().partition(|job| keys.contains(&job.key));
        self.is_urgent = false;
        self.lazy_since = self.lazy_since.filter(|_| !lazy.is_empty());
        self.jobs = lazy;
        urgent
    }
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
                if waiting_count >= PACED_MIN_COUNT {
                    clock::sleep_until(start + PACE).await;
                }
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
