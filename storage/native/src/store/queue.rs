//! What waits for the committer, and when its next group is due.
//!
//! Why a group waits: it costs the same for one update as for thirty. If several waited for the
//! last one, as many will wait again, for their writers come back: the next group is due when they
//! do, or a little later without them. Who waits alone waits for nobody.
//! Why commits wait: the next update of their chunk stands for both.
//! Invariants: the jobs of one chunk stay in order. Locks: `state` alone.

use super::job::Job;
use super::record::ChunkKey;
use firepond_core::sys::clock::{self, Instant};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::Notify;

/// Lazy records beyond which the group is committed at once: they take memory.
const LAZY_MAX_COUNT: usize = 4096;

/// Groups in which this many waited are followed by one that waits for as many ...
const PACED_MIN_COUNT: usize = 2;
/// ... but begins at the latest so long after they did, for each that waited ...
const PACE: Duration = Duration::from_micros(750);
/// ... up to this many.
const PACED_MAX_COUNT: usize = 4;

/// What waits for the committer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    /// Jobs that somebody waits for.
    waiting_count: usize,
    pace: Option<Pace>,
    /// The next group is due now, and takes everything.
    is_hurried: bool,
    lazy_since: Option<Instant>,
    is_closing: bool,
}

/// The next group waits for so many, but not longer than this.
struct Pace {
    wanted_count: usize,
    until: Instant,
}

/// Why the committer woke.
pub(super) enum Wake {
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
        let was_due = state.is_due();
        if was_idle {
            state.lazy_since = Some(clock::now());
        }
        state.waiting_count += usize::from(job.answer.is_some());
        state.jobs.push(job);
        state.is_hurried |= state.jobs.len() >= LAZY_MAX_COUNT;
        let must_wake = was_idle || (state.is_due() && !was_due);
        drop(state);
        if must_wake {
            self.changed.notify_one();
        }
    }

    /// Commits what waits now, without delay.
    pub(super) fn hurry(&self) {
        self.state.lock().is_hurried = true;
        self.changed.notify_one();
    }

    pub(super) fn close(&self) {
        self.state.lock().is_closing = true;
        self.changed.notify_one();
    }

    /// Says of the last group how many waited for it and when it began.
    pub(super) fn pace(&self, waiting_count: usize, began: Instant) {
        let is_paced = waiting_count >= PACED_MIN_COUNT;
        let until = began + PACE * waiting_count.min(PACED_MAX_COUNT) as u32;
        let pace = Pace { wanted_count: waiting_count, until };
        self.state.lock().pace = is_paced.then_some(pace);
    }

    /// The next group, when it is due.
    pub(super) async fn wait(&self, lazy_interval: Duration, maintenance_at: Instant) -> Wake {
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

impl State {
    fn is_due(&self) -> bool {
        let wanted_count = self.pace.as_ref().map_or(1, |pace| pace.wanted_count);
        self.is_hurried || self.waiting_count >= wanted_count
    }

    /// What is to be done now, or until when there is nothing.
    fn due(&mut self, lazy_interval: Duration, maintenance_at: Instant) -> Result<Wake, Instant> {
        if self.is_closing {
            return Ok(Wake::Closing(self.take_all()));
        }
        let now = clock::now();
        self.pace.take_if(|pace| pace.until <= now);
        let lazy_at = self.lazy_since.map(|since| since + lazy_interval);
        if self.is_hurried || lazy_at.is_some_and(|at| at <= now) {
            return Ok(Wake::Group(self.take_all()));
        }
        if self.is_due() {
            return Ok(Wake::Group(self.take_urgent()));
        }
        if maintenance_at <= now {
            return Ok(Wake::Maintenance);
        }
        let paced_at = self.pace.as_ref().map(|pace| pace.until);
        let times = [lazy_at, paced_at, Some(maintenance_at)];
        Err(times.into_iter().flatten().min().unwrap_or(maintenance_at))
    }

    fn take_all(&mut self) -> Vec<Job> {
        (self.waiting_count, self.is_hurried, self.lazy_since) = (0, false, None);
        std::mem::take(&mut self.jobs)
    }

    /// The jobs of those chunks for which somebody waits. The others are as old as they were.
    fn take_urgent(&mut self) -> Vec<Job> {
        let waiting = self.jobs.iter().filter(|job| job.answer.is_some());
        let keys: HashSet<ChunkKey> = waiting.map(|job| job.key).collect();
        let jobs = std::mem::take(&mut self.jobs);
        let (urgent, lazy): (Vec<Job>, _) =
            jobs.into_iter().partition(|job| keys.contains(&job.key));
        self.waiting_count = 0;
        self.lazy_since = self.lazy_since.filter(|_| !lazy.is_empty());
        self.jobs = lazy;
        urgent
    }
}

#[cfg(test)]
mod tests {
    use super::super::locks::ChunkLocks;
    use super::*;
    use firepond_core::ids::{ChunkId, TargetId};
    use std::sync::Arc;

    const LAZY: Duration = Duration::from_millis(100);

    fn key(number: u8) -> ChunkKey {
        ChunkKey { target: TargetId(1), chunk: ChunkId([number; 16]) }
    }

    fn push_lazy(queue: &Queue, number: u8) {
        queue.push(Job::new(key(number), None, None));
    }

    async fn push_awaited(queue: &Queue, number: u8) {
        let guard = Arc::new(ChunkLocks::default()).lock(key(number)).await;
        queue.push(Job::new(key(number), None, None).awaited(guard).0);
    }

    /// The chunks of the next group, and how long it took to become due.
    async fn next(queue: &Queue) -> (Vec<u8>, Duration) {
        let start = clock::now();
        let maintenance_at = start + Duration::from_secs(3600);
        let Wake::Group(jobs) = queue.wait(LAZY, maintenance_at).await else { panic!("a group") };
        (jobs.iter().map(|job| job.key.chunk.0[0]).collect(), clock::now() - start)
    }

    /// Goal: who waits alone waits for nobody; a commit waits for its chunk's next update or its
    /// time, in order. Oracle: the groups and when they are due, on a paused clock.
    #[tokio::test(start_paused = true)]
    async fn commits_wait_and_updates_do_not() {
        let queue = Queue::default();
        push_lazy(&queue, 1);
        push_lazy(&queue, 2);
        push_awaited(&queue, 1).await;
        assert_eq!(next(&queue).await, (vec![1, 1], Duration::ZERO));
        let (lazy, waited) = next(&queue).await;
        assert_eq!(lazy, [2]);
        assert!(waited >= LAZY && waited < 2 * LAZY, "{waited:?}");
        push_lazy(&queue, 3);
        queue.hurry();
        assert_eq!(next(&queue).await, (vec![3], Duration::ZERO));
    }

    /// Goal: after a group of several, the next one waits for as many, or for its time; then nobody
    /// waits any more. Oracle: the groups and when they are due, on a paused clock.
    #[tokio::test(start_paused = true)]
    async fn large_groups_are_followed_by_large_ones() {
        let queue = Queue::default();
        queue.pace(4, clock::now());
        for number in 0..4 {
            push_awaited(&queue, number).await;
        }
        assert_eq!(next(&queue).await, (vec![0, 1, 2, 3], Duration::ZERO));
        for count in [2, 4, 30] {
            queue.pace(count, clock::now());
            push_awaited(&queue, 7).await;
            let (late, waited) = next(&queue).await;
            let longest = PACE * count.min(PACED_MAX_COUNT) as u32;
            assert_eq!(late, [7]);
            assert!(waited >= longest && waited < longest + PACE, "{waited:?} after {count}");
        }
        queue.pace(1, clock::now());
        push_awaited(&queue, 8).await;
        assert_eq!(next(&queue).await, (vec![8], Duration::ZERO));
    }
}
