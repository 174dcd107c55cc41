//! What a storage process does by itself: follow routing, roll forward, resync, evict.
//!
//! Why one loop: each of these is a reaction to "routing changed" or "a moment passed"; the loop
//! only decides and starts tasks, at most one of each kind per target.
//! Invariants: nothing here waits for a peer; dropping the loop ends what it started.

use super::evict::{Unknown, evict};
use super::handler::StorageService;
use crate::chain::rollforward::{Sweeps, sweep};
use crate::chain::{Backend, Replica};
use crate::resync::pace::Pace;
use crate::resync::progress::Progress;
use crate::resync::settled::{EPOCH_INTERVAL, close_epoch};
use crate::resync::worker::Resync;
use firepond_core::ids::{ChainVersion, TargetId};
use firepond_core::routing::{ChainTarget, PublicState};
use firepond_core::sys::clock::{Instant, now, sleep};
use firepond_core::sys::task::scoped;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};

const TICK: Duration = Duration::from_millis(100);
/// How long a failed resync waits, and how long a finished one that was not recorded.
const RESYNC_RETRY: Duration = Duration::from_millis(500);
const RESYNC_REPEAT: Duration = Duration::from_secs(10);
/// Resyncs that run at the same time: they share the rate, and a few of them use it up.
const RESYNCS_MAX_COUNT: usize = 4;
/// How long a sweep that left something behind waits.
const SWEEP_RETRY: Duration = Duration::from_millis(1000);

/// A resync that runs now.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) successor: ChainTarget,
    pub(super) chain_version: ChainVersion,
    pub(super) progress: Arc<Progress>,
}

/// Resyncs that run now, by predecessor: for the status.
pub(super) type Resyncs = Arc<Mutex<BTreeMap<TargetId, Running>>>;

#[derive(Default)]
struct Chores {
    sweeps: Sweeps,
    sweeping: bool,
    sweep_not_before: Option<Instant>,
    resyncing: Option<(ChainVersion, AbortHandle)>,
    resync_not_before: Option<(ChainVersion, Instant)>,
    closing_epoch: bool,
    epoch_not_before: Option<Instant>,
}

enum Ended {
    Sweep(TargetId, ChainVersion, bool),
    Resync(TargetId, ChainVersion, bool),
    Epoch(TargetId),
    Evict,
}

/// The loop of one process.
pub struct Housekeeping<B> {
    service: Arc<StorageService<B>>,
    pace: Arc<Pace>,
    pub(super) resyncs: Resyncs,
    chores: BTreeMap<TargetId, Chores>,
    running: JoinSet<Ended>,
    evicting: bool,
    evict_not_before: Instant,
}

impl<B: Backend> Housekeeping<B> {
    /// A loop that has not begun.
    pub fn new(service: Arc<StorageService<B>>, resync_bytes_per_second: u64) -> Housekeeping<B> {
        Housekeeping {
            service,
            pace: Arc::new(Pace::new(resync_bytes_per_second)),
            resyncs: Resyncs::default(),
            chores: BTreeMap::new(),
            running: JoinSet::new(),
            evicting: false,
            evict_not_before: now(),
        }
    }

    /// Runs until dropped.
    pub async fn run(mut self) {
        let mut routing = self.service.node.peers.routing().subscribe();
        let unknown = Arc::new(tokio::sync::Mutex::new(Unknown::default()));
        loop {
            let replicas: Vec<Arc<Replica<B>>> =
                self.service.targets.all().values().cloned().collect();
            for replica in &replicas {
                self.look_after(replica);
            }
            self.start_eviction(&replicas, &unknown);
            tokio::select! {
                biased;
                Some(ended) = self.running.join_next() => self.ended(ended.ok()),
                Ok(()) = routing.changed() => {}
                () = sleep(TICK) => {}
            }
        }
    }

    fn look_after(&mut self, replica: &Arc<Replica<B>>) {
        replica.refresh_state();
        let standing = replica.standing();
        let chores = self.chores.entry(replica.target).or_default();
        let rested = chores.sweep_not_before.is_none_or(|instant| now() >= instant);
        if !chores.sweeping && rested && chores.sweeps.is_due(&standing) {
            chores.sweeping = true;
            let (replica, version) = (Arc::clone(replica), standing.chain_version);
            self.running.spawn(scoped(async move {
                let left_over = sweep(&replica).await;
                Ended::Sweep(replica.target, version, left_over)
            }));
        }
        let rested = chores.epoch_not_before.is_none_or(|instant| now() >= instant);
        if standing.head && !chores.closing_epoch && rested {
            chores.closing_epoch = true;
            let replica = Arc::clone(replica);
            self.running.spawn(scoped(async move {
                close_epoch(&replica).await;
                Ended::Epoch(replica.target)
            }));
        }
        let syncing = standing.successor.filter(|next| next.state == PublicState::Syncing);
        if let Some((version, handle)) = &chores.resyncing
            && (*version != standing.chain_version || syncing.is_none())
        {
            handle.abort();
            chores.resyncing = None;
            self.resyncs.lock().remove(&replica.target);
        }
        let rested = chores
            .resync_not_before
            .is_none_or(|(version, instant)| version != standing.chain_version || now() >= instant);
        let free = self.resyncs.lock().len() < RESYNCS_MAX_COUNT;
        let may = free && standing.check_read().is_ok() && chores.resyncing.is_none() && rested;
        if let Some(successor) = syncing.filter(|_| may) {
            self.start_resync(replica, successor, standing.chain_version);
        }
    }

    fn start_resync(
        &mut self,
        replica: &Arc<Replica<B>>,
        successor: ChainTarget,
        chain_version: ChainVersion,
    ) {
        let progress = Arc::new(Progress::default());
        let running = Running { successor, chain_version, progress: Arc::clone(&progress) };
        self.resyncs.lock().insert(replica.target, running);
        let (replica, pace) = (Arc::clone(replica), Arc::clone(&self.pace));
        let target = replica.target;
        let resync = Resync { replica, successor, chain_version, pace, progress };
        tracing::info!(target_id = target.0, successor = successor.target.0, "resync begins");
        let handle = self.running.spawn(scoped(async move {
            let result = resync.run().await;
            if let Err(error) = &result {
                tracing::info!(target_id = target.0, %error, "resync ended early");
            }
            Ended::Resync(target, chain_version, result.is_ok())
        }));
        let chores = self.chores.entry(target).or_default();
        chores.resyncing = Some((chain_version, handle));
    }

    fn ended(&mut self, ended: Option<Ended>) {
        match ended {
            Some(Ended::Sweep(target, chain_version, left_over)) => {
                let chores = self.chores.entry(target).or_default();
                chores.sweeping = false;
                chores.sweeps.done(chain_version, left_over);
                chores.sweep_not_before = left_over.then(|| now() + SWEEP_RETRY);
            }
            Some(Ended::Resync(target, chain_version, done)) => {
                let chores = self.chores.entry(target).or_default();
                if chores.resyncing.as_ref().is_some_and(|(version, _)| *version == chain_version) {
                    chores.resyncing = None;
                    self.resyncs.lock().remove(&target);
                }
                let pause = if done { RESYNC_REPEAT } else { RESYNC_RETRY };
                chores.resync_not_before = Some((chain_version, now() + pause));
            }
            Some(Ended::Epoch(target)) => {
                let chores = self.chores.entry(target).or_default();
                chores.closing_epoch = false;
                chores.epoch_not_before = Some(now() + EPOCH_INTERVAL);
            }
            Some(Ended::Evict) => {
                self.evicting = false;
                self.evict_not_before = now() + TICK;
            }
            // Aborted: its target was looked after when it was.
            None => {}
        }
    }

    fn start_eviction(
        &mut self,
        replicas: &[Arc<Replica<B>>],
        unknown: &Arc<tokio::sync::Mutex<Unknown>>,
    ) {
        let busy: Vec<Arc<Replica<B>>> =
            replicas.iter().filter(|one| !one.values.namespaces().is_empty()).cloned().collect();
        if self.evicting || busy.is_empty() || now() < self.evict_not_before {
            return;
        }
        self.evicting = true;
        let (routing, unknown) = (self.service.node.peers.routing().current(), Arc::clone(unknown));
        self.running.spawn(scoped(async move {
            let mut unknown = unknown.lock().await;
            for replica in busy {
                evict(&replica, &routing, &mut unknown).await;
            }
            Ended::Evict
        }));
    }
}
