//! Storage processes: the shipping engine over a chunk store on a simulated disk, and the agent
//! that keeps its lease.
//!
//! Invariants: what survives a life of the process is in `HardDisk` and nowhere else.

use super::agent::{Agent, Assignment, DiskReport, Report, Role, TargetReport, allocate_node_id};
use super::follower;
use super::manager_link::ManagerLink;
use super::network::{BUFFER_BYTES, SimulatedTransport};
use super::site::Site;
use crate::plan::Process;
use firepond_core::Result;
use firepond_core::ids::{ChainId, Incarnation, NodeId, TargetId};
use firepond_core::routing::LocalState;
use firepond_core::sys::disk::simulated::{CrashPoint, SimulatedDisk};
use firepond_core::sys::machine::Machine;
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::transport::Transport;
use firepond_storage::service::{EngineOptions, OpenDisk, StorageEngine};
use firepond_storage::store::{ChunkStore, MemoryIndex, StoreOptions};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes that data never takes.
pub(super) const RESERVE_BYTES: u64 = 16 << 20;
/// Bytes of a disk.
pub(super) const DISK_BYTES: u64 = RESERVE_BYTES + (8 << 20);

/// What a machine keeps over its lives.
pub(super) struct HardDisk {
    pub(super) disk: SimulatedDisk,
    pub(super) index: Arc<MemoryIndex>,
    pub(super) crash_point: Arc<CrashPoint>,
    /// In a file beside the disk; a new disk does not change it.
    node: Arc<Mutex<Option<u32>>>,
}

/// One life of a storage process.
pub(super) struct StorageLife {
    pub(super) machine: Machine,
    pub(super) running: Arc<Mutex<Option<Running>>>,
}

/// What runs once the process has started.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) engine: Arc<StorageEngine>,
    /// None when the disk does not open.
    pub(super) store: Option<ChunkStore>,
    pub(super) transport: Arc<dyn Transport>,
}

impl HardDisk {
    pub(super) fn new(seed: u64) -> HardDisk {
        HardDisk::with_node(seed, Arc::default())
    }

    fn with_node(seed: u64, node: Arc<Mutex<Option<u32>>>) -> HardDisk {
        let crash_point = Arc::new(CrashPoint::default());
        let disk = SimulatedDisk::new(seed, DISK_BYTES, Arc::clone(&crash_point));
        let index = Arc::new(MemoryIndex::new(Arc::clone(&crash_point)));
        HardDisk { disk, index, crash_point, node }
    }

    /// An empty disk in the same machine.
    pub(super) fn replaced(&self, seed: u64) -> HardDisk {
        HardDisk::with_node(seed, Arc::clone(&self.node))
    }
}

impl StorageLife {
    /// Starts the process.
    pub(super) fn start(
        site: &Arc<Site>,
        link: ManagerLink,
        index: u32,
        disk: &HardDisk,
    ) -> StorageLife {
        let process = Process::Storage(index);
        let machine = site.boot(process);
        let dying = machine.clone();
        disk.crash_point.on_stop(move || dying.kill());
        let running = Arc::default();
        let start = Start {
            site: Arc::clone(site),
            link: Arc::new(link),
            process,
            machine: machine.clone(),
            disk: disk.disk.clone(),
            index: Arc::clone(&disk.index),
            node: Arc::clone(&disk.node),
            running: Arc::clone(&running),
        };
        machine.spawn(start.run());
        StorageLife { machine, running }
    }

    /// Ends the process, at once.
    pub(super) fn kill(&self) {
        self.machine.kill();
        let running = self.running.lock().take();
        self.machine.enter(|| drop(running));
    }
}

struct Start {
    site: Arc<Site>,
    link: Arc<ManagerLink>,
    process: Process,
    machine: Machine,
    disk: SimulatedDisk,
    index: Arc<MemoryIndex>,
    node: Arc<Mutex<Option<u32>>>,
    running: Arc<Mutex<Option<Running>>>,
}

impl Start {
    async fn run(self) {
        let incarnation = match (planted(Mistake::RestartUnnoticed), self.process) {
            (true, Process::Storage(index)) => 1_000_000 + u64::from(index),
            _ => self.site.next_incarnation(),
        };
        let wake = Arc::new(Notify::new());
        let routing = follower::start(&self.link, incarnation, Arc::clone(&wake));
        let known = *self.node.lock();
        let node = match known {
            Some(node) => node,
            None => allocate_node_id(&self.link).await,
        };
        *self.node.lock() = Some(node);
        self.site.name_node(node, self.process, incarnation);
        let transport: Arc<dyn Transport> =
            Arc::new(SimulatedTransport::new(&self.site, self.process, &self.machine));
        let options = options(self.process, node, incarnation);
        let store = ChunkStore::open_with_index(
            Arc::new(self.disk.clone()),
            Arc::clone(&self.index) as _,
            store_options(),
            transport.buffers().clone(),
        );
        let opened = match &store {
            Ok(store) => Ok(store.clone()),
            Err(error) => Err(error.clone()),
        };
        let disks = vec![OpenDisk::new(options.disks[0].clone(), opened)];
        let assembled =
            StorageEngine::assemble(&options, disks, Arc::clone(&transport), routing.clone());
        let engine = match assembled.await {
            Ok(engine) => Arc::new(engine),
            Err(error) => {
                let process = self.process;
                self.site.problem(format_args!("{process} does not start: {error}"));
                return;
            }
        };
        let loud = Arc::clone(&wake);
        engine.set_listener(Box::new(move || loud.notify_one()));
        let role = Arc::new(StorageRole(Arc::clone(&engine)));
        *self.running.lock() = Some(Running { engine, store: store.ok(), transport });
        let agent = Agent {
            link: Arc::clone(&self.link),
            role,
            node,
            incarnation,
            admin_address: format!("{}:1", self.process),
            routing,
            wake,
            assigned: Arc::default(),
        };
        let error = agent.run().await;
        self.site.exits(self.process, &error);
    }
}

fn options(process: Process, node: u32, incarnation: u64) -> EngineOptions {
    EngineOptions {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
        listen: format!("{process}:7000"),
        disks: vec![PathBuf::from("/simulated")],
        buffer_bytes: BUFFER_BYTES,
        cache_bytes: 1 << 20,
        worker_count: 1,
        resync_bytes_per_second: 256 << 20,
        scrub_bytes_per_second: 64 << 20,
        disk_engine: "simulated".to_owned(),
    }
}

fn store_options() -> StoreOptions {
    StoreOptions {
        cache_bytes: 1 << 20,
        reserve_bytes: RESERVE_BYTES,
        // So small that it is checkpointed all the time: pages move and records change places.
        log_bytes: 128 << 10,
        ..StoreOptions::default()
    }
}

fn ids(targets: &[u64]) -> Vec<TargetId> {
    targets.iter().copied().map(TargetId).collect()
}

/// As `StorageRole` in `fs/service/roles.py`.
struct StorageRole(Arc<StorageEngine>);

impl Role for StorageRole {
    fn name(&self) -> &'static str {
        "storage"
    }

    fn data_address(&self) -> String {
        self.0.data_address()
    }

    fn report(&self) -> Report {
        let status = self.0.status();
        let targets = status.targets.into_iter().map(|target| TargetReport {
            target: target.target.0,
            chain: target.chain.0,
            chain_version: target.chain_version.0,
            generation: target.generation,
            served: target.served,
            local_state: match target.local_state {
                LocalState::UpToDate => "up-to-date",
                LocalState::Online => "online",
                LocalState::Offline => "offline",
            },
            complete_through: target.complete_through.0,
            lost_version: target.lost_version.0,
            full: target.full,
        });
        let disks = status.disks.into_iter().map(|disk| DiskReport {
            path: disk.path,
            total_bytes: disk.total_bytes,
            free_bytes: disk.free_bytes,
            failed: disk.failed,
        });
        Report { targets: targets.collect(), disks: disks.collect() }
    }

    fn assign(&self, assignments: &[Assignment]) -> Result<()> {
        let targets: Vec<_> = assignments
            .iter()
            .map(|(target, chain, disk)| (TargetId(*target), ChainId(*chain), disk.clone()))
            .collect();
        self.0.set_targets(&targets)
    }

    fn step_down(&self, targets: &[u64]) {
        self.0.step_down(&ids(targets));
    }

    fn drop_targets(&self, targets: &[u64]) -> Result<()> {
        self.0.drop_targets(&ids(targets))
    }

    fn lease_begin(&self) -> u64 {
        self.0.heartbeat_begin()
    }

    fn lease_end(&self, token: u64, lease: Duration) {
        self.0.heartbeat_end(token, lease);
    }

    fn lease_lost(&self) {
        self.0.lease_lost();
    }
}
