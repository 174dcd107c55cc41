//! One target at work: updates from clients and the predecessor, in the order of the chunk locks.
//!
//! Why thin: what happens is decided by `admit`, `update`, `read` and `target_state`; here are only
//! the lock, the fresh standing after it, and the tasks.
//! Invariants: the standing is checked again after the lock; an update that began ends whatever
//! becomes of its sender; at most `UPDATES_MAX_COUNT` are under way.
//! Locks: `locks` (one chunk) before `state`; `state` is never held across an await.

use super::backend::Backend;
use super::dirty::DirtyChunks;
use super::epochs::Epochs;
use super::findings::Findings;
use super::job::Job;
use super::locks::{ChunkGuard, ChunkLocks};
use super::node::Node;
use super::role::Standing;
use super::space::Promised;
use super::target_state::{Shown, TargetState};
use super::values::ValueIndex;
use crate::store::Marks;
use firepond_core::ids::{ChainId, ChainVersion, ChunkId, TargetId};
use firepond_core::payload::Payload;
use firepond_core::routing::{ChainInfo, LocalState, PublicState, Routing};
use firepond_core::sys::clock::now;
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::wire::storage::{ForwardRequest, UpdateReply, UpdateRequest};
use firepond_core::{Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Updates of one target that may be under way or waiting; more are refused.
pub const UPDATES_MAX_COUNT: usize = 1024;
/// How long an update that names a newer chain version than ours waits for our routing.
const ROUTING_PATIENCE: Duration = Duration::from_millis(500);

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
    /// What was found of its chunks.
    pub findings: Findings,
    pub(super) locks: ChunkLocks,
    pub(super) dirty: DirtyChunks,
    served: AtomicBool,
    /// Its marks have no floor yet.
    unstamped: AtomicBool,
    /// It left because its disk was full, and stays away until that has room.
    full: AtomicBool,
    state: Mutex<Known>,
    pub(super) permits: Arc<Semaphore>,
    /// The stamps of updates, while this is the head.
    pub(crate) epochs: Epochs,
}

/// What a target knows of itself, and the routing by which it knows it.
#[derive(Default)]
struct Known {
    target: TargetState,
    chain_version: ChainVersion,
    /// Who served before it when it was complete last.
    upstream: Vec<TargetId>,
    /// The version of the chain in which it lost an update, until it is complete again; 0: none.
    lost_in: ChainVersion,
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
        let marks = backend.marks(target)?;
        Ok(Replica {
            node,
            target,
            chain,
            backend,
            promised,
            disk_index,
            values: ValueIndex::default(),
            findings: Findings::default(),
            locks: ChunkLocks::default(),
            dirty,
            served: AtomicBool::new(served),
            full: AtomicBool::new(false),
            unstamped: AtomicBool::new(marks.is_unknown()),
            state: Mutex::new(Known { lost_in: marks.lost_in, ..Known::default() }),
            permits: Arc::new(Semaphore::new(UPDATES_MAX_COUNT)),
            epochs: Epochs::new(marks.complete_through),
        })
    }

    /// What the target may do now.
    pub fn standing(&self) -> Standing {
        self.standing_in(&self.node.peers.routing().current())
    }

    /// What the target may do under a snapshot.
    pub fn standing_in(&self, routing: &Routing) -> Standing {
        let lease = self.node.holds_lease();
        let known = routing.chain(self.chain).map_or(ChainVersion(0), |info| info.version);
        let mut state = self.state.lock();
        if state.chain_version < known {
            self.refresh(&mut state);
        }
        let local = state.target.local();
        drop(state);
        Standing::of(routing, self.chain, self.target, local, lease)
    }

    /// What is reported of the target, all of the same moment: local state, chain version, and the
    /// one in which it lost an update.
    pub fn report(&self) -> (LocalState, ChainVersion, ChainVersion) {
        let mut state = self.state.lock();
        let chain_version = self.refresh(&mut state);
        (state.target.local(), chain_version, state.lost_in)
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
    fn refresh(&self, known: &mut Known) -> ChainVersion {
        let routing = self.node.peers.routing().current();
        let node = routing.node(self.node.id);
        let info = routing.chain(self.chain).ok();
        let upstream = info.map(|info| upstream_of(info, self.target)).unwrap_or_default();
        let shown = Shown {
            chain_version: info.map_or(ChainVersion(0), |info| info.version),
            state: info.and_then(|info| info.member(self.target)).map(|entry| entry.state),
            incarnation_known: planted(Mistake::RestartUnnoticed)
                || node.is_ok_and(|info| info.incarnation == self.node.incarnation),
            displaced: upstream.iter().any(|target| !known.upstream.contains(target)),
        };
        let before = known.target.local();
        let disk_failed = self.backend.disk_failed().is_some();
        if disk_failed && before == LocalState::UpToDate && self.locks.held_count() > 0 {
            // Others may have what is at work: nobody hears of the failure without hearing that.
            self.note_loss(known);
        }
        let state = &mut known.target;
        if disk_failed {
            state.disk_failed();
        } else if shown.state != Some(PublicState::Serving) || self.remember_served() {
            state.routing(shown);
        }
        if state.is_leaving() && self.locks.held_count() == 0 && self.finds_room() {
            state.work_ended();
        }
        self.log_change(before, state.local());
        if state.local() == LocalState::UpToDate {
            known.upstream = upstream;
            self.forget_loss(known);
        }
        known.chain_version = shown.chain_version;
        if shown.incarnation_known && info.is_some() && self.unstamped.load(Ordering::Relaxed) {
            self.set_floor(shown.chain_version);
        }
        shown.chain_version
    }

    /// The store was filled by a release without stamps: see `resync::mark`.
    fn set_floor(&self, chain_version: ChainVersion) {
        let floored = |marks| crate::resync::mark::floored(marks, chain_version);
        match self.backend.raise_marks(self.target, floored) {
            Ok(()) => self.unstamped.store(false, Ordering::Relaxed),
            Err(error) => tracing::info!(target_id = self.target.0, %error, "no floor is set"),
        }
    }

    fn finds_room(&self) -> bool {
        if self.is_full() && self.promised.has_room(self.backend.disk_space()) {
            self.full.store(false, Ordering::Relaxed);
        }
        !self.is_full()
    }

    /// Whether it stays out of its chain until its disk has room.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
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
        let mut known = self.state.lock();
        let before = known.target.local();
        known.target.resync_done(chain_version);
        self.refresh(&mut known);
        self.log_change(before, known.target.local());
    }

    /// An update that others may have was lost here: the target leaves the chain. It has shown
    /// nothing under a newer version of the chain than the one that is known here now.
    pub(super) fn fail(&self, error: &Error) {
        tracing::warn!(target_id = self.target.0, %error, "target taken out: it lost an update");
        let mut known = self.state.lock();
        known.target.failed();
        self.note_loss(&mut known);
        drop(known);
        self.node.announce();
    }

    fn note_loss(&self, known: &mut Known) {
        if known.lost_in == ChainVersion(0) {
            known.lost_in = known.chain_version;
            if let Err(error) = self.backend.set_lost_in(self.target, known.lost_in) {
                tracing::info!(target_id = self.target.0, %error, "the loss is not noted durably");
            }
        }
    }

    /// It is complete: resynced, or what it has is the chain's by the manager's decision. Durable
    /// with the next update at the latest; before that, nobody relies on it.
    fn forget_loss(&self, known: &mut Known) {
        if known.lost_in == ChainVersion(0) {
            return;
        }
        known.lost_in = ChainVersion(0);
        let sound = |marks| Marks { lost_in: ChainVersion(0), ..marks };
        if let Err(error) = self.backend.raise_marks(self.target, sound) {
            tracing::info!(target_id = self.target.0, %error, "the loss stays noted");
        }
    }

    /// It cannot follow its predecessor: it leaves the chain.
    pub(super) fn leave(&self, full: bool) {
        if full {
            self.full.store(true, Ordering::Relaxed);
            tracing::info!(target_id = self.target.0, "target taken out: its disk is full");
        } else {
            let why = "target taken out: it cannot be brought in line";
            tracing::warn!(target_id = self.target.0, "{why}");
        }
        let mut known = self.state.lock();
        known.target.failed();
        if !full {
            self.note_loss(&mut known);
        }
        drop(known);
        self.node.announce();
    }

    /// The manager asks it to leave the chain: it serves nothing from now on, and what is under way
    /// is brought to its end by the others. Nothing to do for one that does not serve.
    pub fn step_down(&self) {
        let mut known = self.state.lock();
        if known.target.local() == LocalState::UpToDate {
            tracing::info!(target_id = self.target.0, "target steps down");
            known.target.failed();
        }
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
        self.state.lock().target.local()
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

/// The targets that serve before this one.
fn upstream_of(info: &ChainInfo, target: TargetId) -> Vec<TargetId> {
    let before = info.targets.iter().take_while(|entry| entry.target != target);
    let serving = before.filter(|entry| entry.state == PublicState::Serving);
    serving.map(|entry| entry.target).collect()
}
