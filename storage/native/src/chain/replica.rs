//! One target at work: updates from clients and the predecessor, in the order of the chunk locks.
//!
//! Why thin: what happens is decided by `admit`, `update`, `read` and `target_state`; here are only
//! the lock, the fresh standing after it, and the tasks.
//! Invariants: the standing is checked again after the lock; an update that began ends whatever
//! becomes of its sender; at most `UPDATES_MAX_COUNT` are under way.
//! Locks: `locks` (one chunk) before `state`; `state` is never held across an await.

use super::admit::{Origin, Verdict, admit};
use super::backend::Backend;
use super::dirty::DirtyChunks;
use super::drive::replicate;
use super::job::Job;
use super::locks::{ChunkGuard, ChunkLocks};
use super::node::Node;
use super::role::Standing;
use super::space::{Promised, Room};
use super::target_state::{Shown, TargetState};
use super::update::{Plan, Update};
use super::values::ValueIndex;
use firepond_core::ids::{ChainId, ChainVersion, ChunkId, ChunkVersion, TargetId};
use firepond_core::payload::Payload;
use firepond_core::routing::{LocalState, PublicState, Routing};
use firepond_core::sys::clock::now;
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::sys::task;
use firepond_core::wire::storage::{ForwardRequest, UpdateKind, UpdateReply, UpdateRequest};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Updates of one target that may be under way or waiting; more are refused.
pub const UPDATES_MAX_COUNT: usize = 1024;
/// How long an update that names a newer chain version than ours waits for our routing.
const ROUTING_PATIENCE: Duration = Duration::from_millis(500);
/// Pendings that one update brings to an end before its own turn.
const ROLLS_MAX_COUNT: usize = 4;

/// One target of this node.
pub struct Replica<B> {
    /// The node.
    pub node: Arc<Node>,
    /// The target.
    pub target: TargetId,
    /// Its chain.
    pub chain: ChainId,
    /// Where its chunks are.
    pub backend: B,
    /// The room of its disk.
    pub promised: Promised,
    /// Which of the node's disks it is on.
    pub disk_index: u32,
    /// Values of the KV tier, by last use.
    pub values: ValueIndex,
    pub(super) locks: ChunkLocks,
    pub(super) dirty: DirtyChunks,
    served: AtomicBool,
    state: Mutex<TargetState>,
    permits: Arc<Semaphore>,
}

/// Where a target is.
pub struct Place<B> {
    /// The target.
    pub target: TargetId,
    /// Its chain.
    pub chain: ChainId,
    /// The store of its disk.
    pub backend: B,
    /// The room of its disk, shared by all targets of the disk.
    pub promised: Promised,
    /// Which of the node's disks.
    pub disk_index: u32,
    /// Whether the store remembers that it was complete once.
    pub served: bool,
}

impl<B: Backend> Replica<B> {
    /// A target that is open; what is pending in it is known from the start.
    ///
    /// # Errors
    /// As the store.
    pub fn new(node: Arc<Node>, place: Place<B>) -> Result<Replica<B>> {
        let dirty = DirtyChunks::default();
        let Place { target, chain, backend, promised, disk_index, served } = place;
        backend.pending(target)?.into_iter().for_each(|chunk| dirty.insert(chunk));
        Ok(Replica {
            node,
            target,
            chain,
            backend,
            promised,
            disk_index,
            values: ValueIndex::default(),
            locks: ChunkLocks::default(),
            dirty,
            served: AtomicBool::new(served),
            state: Mutex::default(),
            permits: Arc::new(Semaphore::new(UPDATES_MAX_COUNT)),
        })
    }

    /// What the target may do now.
    pub fn standing(&self) -> Standing {
        self.standing_in(&self.node.peers.routing().current())
    }

    /// What the target may do under a snapshot.
    pub fn standing_in(&self, routing: &Routing) -> Standing {
        let (local, lease) = (self.state.lock().local(), self.node.holds_lease());
        Standing::of(routing, self.chain, self.target, local, lease)
    }

    /// What is reported of the target: local state and chain version of the same moment.
    pub fn report(&self) -> (LocalState, ChainVersion) {
        let mut state = self.state.lock();
        let chain_version = self.refresh(&mut state);
        (state.local(), chain_version)
    }

    /// Whether it was complete once.
    pub fn served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Takes note of newer routing, of the end of old work and of the disk's health.
    pub fn refresh_state(&self) {
        self.refresh(&mut self.state.lock());
    }

    /// Routing is read under the lock, so that an older snapshot never follows a newer one.
    fn refresh(&self, state: &mut TargetState) -> ChainVersion {
        let routing = self.node.peers.routing().current();
        let node = routing.node(self.node.id);
        let info = routing.chain(self.chain).ok();
        let shown = Shown {
            chain_version: info.map_or(ChainVersion(0), |info| info.version),
            state: info.and_then(|info| info.member(self.target)).map(|entry| entry.state),
            incarnation_known: planted(Mistake::RestartUnnoticed)
                || node.is_ok_and(|info| info.incarnation == self.node.incarnation),
        };
        let before = state.local();
        if self.backend.disk_failed().is_some() {
            state.disk_failed();
        } else if shown.state != Some(PublicState::Serving) || self.remember_served() {
            state.routing(shown);
        }
        if state.is_leaving() && self.locks.held_count() == 0 {
            state.work_ended();
        }
        self.log_change(before, state.local());
        shown.chain_version
    }

    /// Before it serves, the store remembers durably that it was complete.
    fn remember_served(&self) -> bool {
        if self.served() {
            return true;
        }
        match self.backend.mark_served(self.target) {
            Ok(()) => self.served.store(true, Ordering::Relaxed),
            Err(error) => {
                tracing::info!(target_id = self.target.0, %error, "the target cannot serve yet");
            }
        }
        self.served()
    }

    fn log_change(&self, before: LocalState, after: LocalState) {
        if before != after {
            tracing::info!(target_id = self.target.0, ?before, ?after, "target state changed");
        }
    }

    /// The predecessor sent everything.
    pub(crate) fn complete(&self, chain_version: ChainVersion) {
        if !self.remember_served() {
            return;
        }
        let mut state = self.state.lock();
        let before = state.local();
        state.resync_done(chain_version);
        self.log_change(before, state.local());
    }

    /// An update that others may have was lost here: the target leaves the chain.
    pub(super) fn fail(&self, error: &Error) {
        tracing::warn!(target_id = self.target.0, %error, "target taken out: it lost an update");
        self.state.lock().failed();
    }

    /// An update from a client.
    ///
    /// # Errors
    /// What `Standing::check_client_update`, `admit` and the chain say.
    pub async fn update(
        self: &Arc<Self>,
        update: UpdateRequest,
        payload: Payload,
    ) -> Result<UpdateReply> {
        let sent = update.chain_version;
        let job = Job::from_client(update, payload)?;
        self.await_routing(sent).await;
        self.standing().check_client_update(sent)?;
        self.spawn(job).await
    }

    /// An update from the predecessor.
    ///
    /// # Errors
    /// As `update`.
    pub async fn forward(
        self: &Arc<Self>,
        request: ForwardRequest,
        payload: Payload,
    ) -> Result<UpdateReply> {
        let sent = request.update.chain_version;
        let job = Job::from_predecessor(request, payload)?;
        self.await_routing(sent).await;
        self.standing().check_forward(sent)?;
        self.spawn(job).await
    }

    /// A peer that knows more than we do is right: our routing follows in a moment.
    pub(crate) async fn await_routing(&self, sent: ChainVersion) {
        let deadline = now() + ROUTING_PATIENCE;
        let handle = self.node.peers.routing();
        loop {
            let routing = handle.current();
            let known = routing.chain(self.chain).map_or(ChainVersion(0), |info| info.version);
            if sent <= known || handle.wait_newer(routing.version, deadline).await.is_err() {
                return;
            }
            self.refresh_state();
        }
    }

    async fn spawn(self: &Arc<Self>, job: Job) -> Result<UpdateReply> {
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
            UpdateKind::Remove => (Room::Ample, None),
            _ => {
                let len = u64::from(job.update.len);
                let (room, promise) = self.promised.judge(self.backend.disk_space(), len);
                (room, Some(promise))
            }
        };
        for _ in 0..ROLLS_MAX_COUNT {
            let standing = self.standing();
            check(&standing, job)?;
            let state = self.backend.state(self.target, facts.chunk)?;
            let (version, full_chunk) = match admit(&standing, &facts, state.as_ref(), room)? {
                Verdict::Done(reply) => return Ok(reply),
                Verdict::Adopt(pending) => {
                    let plan = plan(job, pending.version, false, room);
                    return replicate(self, job, plan, Update::adopt(plan, pending)).await;
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
                            let recent = state.map(|state| state.recent_writes);
                            let job = job.superseding(&pending, recent.unwrap_or_default());
                            let version = ChunkVersion(pending.version.0 + 1);
                            let plan = plan(&job, version, true, room);
                            return replicate(self, &job, plan, Update::new(plan)).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Verdict::Begin { version, full_chunk } => (version.0, full_chunk),
            };
            let plan = plan(job, ChunkVersion(version), full_chunk, room);
            return replicate(self, job, plan, Update::new(plan)).await;
        }
        Err(Error::new(ErrorKind::ChunkBusy, "earlier updates of the chunk do not end")
            .with("chunk", facts.chunk))
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
        let state = self.backend.state(self.target, chunk)?;
        let Some(pending) = state.and_then(|state| state.pending) else { return Ok(()) };
        let inherited = || pending.chain_version < self.standing().chain_version;
        if planted(Mistake::PendingLost) && inherited() {
            return self.backend.drop_pending(self.target, chunk, pending.version).await;
        }
        let job = Job::from_pending(self.chain, self.target, chunk, &pending);
        let plan = Plan {
            version: pending.version,
            whole: false,
            replaces: true,
            has_payload: false,
            persist_first: false,
        };
        replicate(self, &job, plan, Update::adopt(plan, pending)).await.map(|_| ())
    }

    /// The lock of a chunk, for resync and repair.
    pub(crate) async fn lock(&self, chunk: ChunkId) -> Result<ChunkGuard> {
        self.locks.lock(chunk).await
    }

    /// Under the chunk's lock: the set says what the store says.
    pub fn refresh_dirty(&self, chunk: ChunkId) {
        match self.backend.state(self.target, chunk) {
            Ok(state) if state.as_ref().is_none_or(|state| state.pending.is_none()) => {
                self.dirty.remove(chunk);
            }
            _ => self.dirty.insert(chunk),
        }
    }

    /// What is reported of the target.
    pub fn local_state(&self) -> LocalState {
        self.state.lock().local()
    }

    /// Waits until every update that is under way now has ended.
    pub(crate) async fn await_updates(&self) -> Result<()> {
        for chunk in self.locks.held() {
            drop(self.locks.lock(chunk).await?);
        }
        Ok(())
    }

    /// Whether the chunk may have a pending version, now or in a moment.
    pub fn is_dirty(&self, chunk: ChunkId) -> bool {
        self.dirty.contains(chunk)
    }

    /// Chunks that are being changed.
    pub fn held_count(&self) -> usize {
        self.locks.held_count()
    }

    /// Chunks with a pending version.
    pub fn dirty_count(&self) -> usize {
        self.dirty.count()
    }
}

/// Work under a chunk's lock goes on although whoever waits for it is gone: half done, it would
/// leave the store at work without the lock.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let running = task::spawn(work);
    running.await.map_err(|error| Error::internal(format!("work on a chunk ended: {error}")))?
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

fn plan(job: &Job, version: ChunkVersion, full_chunk: bool, room: Room) -> Plan {
    Plan {
        version,
        whole: job.is_whole(),
        replaces: full_chunk,
        has_payload: true,
        persist_first: room == Room::Tight,
    }
}
