//! The work of one update under its chunk's lock.
//!
//! Why apart from `replica`: that is what a target is, this is what it does with an update.
//! Invariants: the standing is checked again after the lock; an update that began ends whatever
//! becomes of its sender; the stamp of a client's update is taken under the lock.

use super::admit::{Origin, Verdict, admit};
use super::backend::Backend;
use super::drive::replicate;
use super::job::Job;
use super::replica::Replica;
use super::role::Standing;
use super::space::Room;
use super::update::{Plan, Update};
use firepond_core::ids::{ChangeStamp, ChunkId, ChunkVersion};
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::sys::task;
use firepond_core::wire::storage::{UpdateKind, UpdateReply};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Pendings that one update brings to an end before its own turn.
const ROLLS_MAX_COUNT: usize = 4;

impl<B: Backend> Replica<B> {
    pub(super) async fn spawn(self: &Arc<Self>, job: Job) -> Result<UpdateReply> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Err(Error::new(ErrorKind::PeerOverloaded, "too many updates of the target")
                .with("target", self.target));
        };
        let replica = Arc::clone(self);
        to_its_end(async move {
            let result = replica.run(&job).await;
            drop(permit);
            result
        })
        .await
    }

    async fn run(&self, job: &Job) -> Result<UpdateReply> {
        let guard = self.locks.lock(job.update.chunk).await?;
        let result = self.run_locked(job).await;
        self.refresh_dirty(job.update.chunk);
        drop(guard);
        result
    }

    /// Under the chunk's lock. A refusal means that the update is nowhere at or below this replica:
    /// one that is stored here, as an earlier try may have reached those below, is an open outcome.
    async fn run_locked(&self, job: &Job) -> Result<UpdateReply> {
        let result = self.replicate_locked(job).await;
        let Err(error) = result else { return result };
        if !matches!(error.kind(), ErrorKind::DiskFull | ErrorKind::InvalidArgument) {
            return Err(error);
        }
        let state = self.backend.state(self.target, job.update.chunk)?;
        let stored = state.into_iter().flat_map(|state| [state.pending, state.committed]).flatten();
        if stored.into_iter().all(|one| one.write_id != job.update.write_id) {
            return Err(error);
        }
        Err(Error::new(ErrorKind::ChunkBusy, "the chain did not take all of the update")
            .with("chunk", job.update.chunk)
            .with("cause", error))
    }

    async fn replicate_locked(&self, job: &Job) -> Result<UpdateReply> {
        let facts = job.facts();
        let (room, _promise) = match facts.kind {
            kind if !kind.grows() => (Room::Ample, None),
            _ => {
                let len = u64::from(job.update.len);
                let (room, promise) = self.promised.judge(self.backend.disk_space(), len);
                (room, Some(promise))
            }
        };
        for _ in 0..ROLLS_MAX_COUNT {
            let standing = self.standing();
            if !planted(Mistake::StandingNotRenewed) {
                check(&standing, job)?;
            }
            let state = self.backend.state(self.target, facts.chunk)?;
            let known = state.as_ref().map_or(ChangeStamp(0), |state| state.stamp);
            let stamp = match job.origin {
                Origin::Client => self.epochs.take(standing.chain_version),
                // Late, and perhaps not settled: a stamp behind the mark keeps it in sight.
                Origin::Predecessor { .. } => job.stamp.max(self.after_mark()?),
            };
            let verdict = admit(&standing, &facts, state.as_ref(), room)?;
            let (version, full_chunk) = match verdict {
                Verdict::Done(reply) => return Ok(reply),
                Verdict::Adopt(pending) => {
                    let job = job.resolved(state.as_ref());
                    let plan = plan(&job, pending.version, known, false, room);
                    return replicate(self, &job, plan, Update::adopt(plan, pending)).await;
                }
                Verdict::RollForward(pending) => {
                    if job.origin == Origin::Client && planted(Mistake::PendingAbandoned) {
                        let version = pending.version;
                        self.backend.drop_pending(self.target, facts.chunk, version).await?;
                        continue;
                    }
                    match self.settle_locked(facts.chunk).await {
                        Ok(()) => continue,
                        // A removal needs no room below: it follows the pending version at once.
                        Err(error) if supersedes(&error, job) => {
                            let Some(state) = state else { return Err(error) };
                            let job = job.superseding(&pending, &state);
                            let version = ChunkVersion(pending.version.0 + 1);
                            let plan = plan(&job, version, stamp, true, room);
                            return replicate(self, &job, plan, Update::new(plan)).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Verdict::Begin { version, full_chunk } => (version.0, full_chunk),
            };
            let job = job.resolved(state.as_ref());
            let plan = plan(&job, ChunkVersion(version), stamp, full_chunk, room);
            return replicate(self, &job, plan, Update::new(plan)).await;
        }
        Err(Error::new(ErrorKind::ChunkBusy, "earlier updates of the chunk do not end")
            .with("chunk", facts.chunk))
    }

    /// The first stamp that the target's mark does not cover.
    fn after_mark(&self) -> Result<ChangeStamp> {
        let marks = self.backend.marks(self.target)?;
        Ok(ChangeStamp(marks.complete_through.0 + 1))
    }

    /// Brings what is pending of a chunk to its end.
    ///
    /// # Errors
    /// As the chain.
    pub async fn settle(self: &Arc<Self>, chunk: ChunkId) -> Result<()> {
        let replica = Arc::clone(self);
        to_its_end(async move {
            let guard = replica.locks.lock(chunk).await?;
            let result = replica.settle_locked(chunk).await;
            replica.refresh_dirty(chunk);
            drop(guard);
            result
        })
        .await
    }

    /// As `settle`, under the chunk's lock.
    pub(crate) async fn settle_locked(&self, chunk: ChunkId) -> Result<()> {
        let Some(state) = self.backend.state(self.target, chunk)? else { return Ok(()) };
        let Some(pending) = state.pending else { return Ok(()) };
        let inherited = || pending.chain_version < self.standing().chain_version;
        if planted(Mistake::PendingLost) && inherited() {
            return self.backend.drop_pending(self.target, chunk, pending.version).await;
        }
        let job = Job::from_pending(self.chain, self.target, chunk, &pending, state.stamp);
        let plan = Plan {
            version: pending.version,
            stamp: state.stamp,
            whole: false,
            replaces: true,
            has_payload: false,
            persist_first: false,
        };
        replicate(self, &job, plan, Update::adopt(plan, pending)).await.map(|_| ())
    }
}

/// Work under a chunk's lock goes on although whoever waits for it is gone: half done, it would
/// leave the store at work without the lock.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    task::to_its_end(work).await?
}

fn check(standing: &Standing, job: &Job) -> Result<()> {
    match job.origin {
        Origin::Client => standing.check_client_update(job.update.chain_version),
        Origin::Predecessor { .. } => standing.check_forward(job.update.chain_version),
    }
}

fn supersedes(error: &Error, job: &Job) -> bool {
    error.kind() == ErrorKind::DiskFull
        && job.update.kind == UpdateKind::Remove
        && job.origin == Origin::Client
}

fn plan(
    job: &Job,
    version: ChunkVersion,
    stamp: ChangeStamp,
    full_chunk: bool,
    room: Room,
) -> Plan {
    Plan {
        version,
        stamp,
        whole: job.is_whole(),
        replaces: full_chunk,
        has_payload: true,
        persist_first: room == Room::Tight,
    }
}
