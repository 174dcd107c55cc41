//! The storage engine of one process: disks, targets, listener, background work.
//!
//! Why one object: the role (Python) starts it, tells it its targets, feeds it leases and asks for
//! its status; everything else runs in here on threads of its own.
//! Invariants: a disk that does not open or fails is reported and harms no other; a store is closed
//! only after the listener and the background work are gone.

use super::handler::StorageService;
use super::housekeeping::{Housekeeping, Resyncs, Running};
use super::status::{DiskStatus, EngineStatus, ResyncStatus, ScrubStatus, TargetStatus};
use crate::chain::findings::Findings;
use crate::chain::node::TakeOutListener;
use crate::chain::replica::Place;
use crate::chain::space::Promised;
use crate::chain::{Node, Replica};
use crate::scrub::Scrubber;
use crate::store::{ChunkStore, StoreOptions, TargetRecord};
use firepond_core::buffer::BufferPool;
use firepond_core::ids::{ChainId, ChunkId, Incarnation, NodeId, TargetId};
use firepond_core::peer::Peers;
use firepond_core::routing::RoutingHandle;
use firepond_core::sys::disk::open_disk;
use firepond_core::sys::task;
use firepond_core::transport::tcp::TcpTransport;
use firepond_core::transport::{Listener, PeerAddress, Transport};
use firepond_core::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long blocking work gets to end when the engine stops. Updates that are under way end as at a
/// crash: their senders try again.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Values that are read from the list of a store in one go.
const LOAD_COUNT: usize = 4096;

/// How an engine is run.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Who it is.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Where to listen: "host:port", port 0 picks one.
    pub listen: String,
    /// One directory per disk.
    pub disks: Vec<PathBuf>,
    /// Bytes of all buffers for payloads.
    pub buffer_bytes: usize,
    /// Bytes of chunk records kept in memory, over all disks.
    pub cache_bytes: usize,
    /// Threads.
    pub worker_count: usize,
    /// The bound on resync traffic.
    pub resync_bytes_per_second: u64,
    /// The bound on what the scrubber reads.
    pub scrub_bytes_per_second: u64,
    /// "auto", "io_uring" or "positional".
    pub disk_engine: String,
}

/// A disk of an engine, whether it opened or not.
pub struct OpenDisk {
    path: PathBuf,
    store: std::result::Result<ChunkStore, Error>,
    promised: Promised,
}

impl OpenDisk {
    /// A disk with its store, or with the reason why there is none.
    pub fn new(path: PathBuf, store: std::result::Result<ChunkStore, Error>) -> OpenDisk {
        OpenDisk { path, store, promised: Promised::default() }
    }
}

/// A running storage engine.
pub struct StorageEngine {
    service: Arc<StorageService<ChunkStore>>,
    disks: Vec<OpenDisk>,
    resyncs: Resyncs,
    listener: Box<dyn Listener>,
    /// None when it runs on the runtime of whoever assembled it.
    runtime: Option<Runtime>,
}

impl StorageEngine {
    /// Opens the disks, listens and serves. Blocks; not to be called from an async task.
    ///
    /// # Errors
    /// `StoreLocked`, `InvalidArgument`, `IoFailed` when nothing can listen. A disk that does not
    /// open for another reason is reported as failed.
    pub fn start(options: EngineOptions, routing: RoutingHandle) -> Result<StorageEngine> {
        let runtime = task::runtime("firepond-storage", options.worker_count.max(1))
            .map_err(|error| Error::io(&error, "start threads"))?;
        let _context = runtime.enter();
        let buffers = BufferPool::new(options.buffer_bytes);
        let disks = open_disks(&options, &buffers)?;
        let transport: Arc<dyn Transport> = Arc::new(TcpTransport::new(buffers));
        let assembled = StorageEngine::assemble(&options, disks, transport, routing);
        let mut engine = runtime.block_on(assembled)?;
        drop(_context);
        engine.runtime = Some(runtime);
        Ok(engine)
    }

    /// An engine from its parts, on the current runtime: `start` without the outside world.
    ///
    /// # Errors
    /// As `start`.
    pub async fn assemble(
        options: &EngineOptions,
        disks: Vec<OpenDisk>,
        transport: Arc<dyn Transport>,
        routing: RoutingHandle,
    ) -> Result<StorageEngine> {
        let peers = Peers::new(Arc::clone(&transport), routing);
        let node = Arc::new(Node::new(options.node, options.incarnation, peers));
        let service = Arc::new(StorageService::new(node, options.buffer_bytes));
        for (index, disk) in disks.iter().enumerate() {
            let Ok(store) = &disk.store else { continue };
            for record in store.targets() {
                open_target(&service, disk, index, store, record)?;
            }
        }
        let address = PeerAddress(options.listen.clone());
        let listener = transport.listen(&address, Arc::clone(&service) as _).await?;
        let housekeeping = Housekeeping::new(Arc::clone(&service), options.resync_bytes_per_second);
        let resyncs = Arc::clone(&housekeeping.resyncs);
        task::spawn(housekeeping.run());
        let scrubber = Scrubber::new(Arc::clone(&service), options.scrub_bytes_per_second);
        task::spawn(scrubber.run());
        tracing::info!(address = %listener.address(), disks = disks.len(), "storage listens");
        Ok(StorageEngine { service, disks, resyncs, listener, runtime: None })
    }

    /// Its targets and what they share.
    pub fn service(&self) -> &Arc<StorageService<ChunkStore>> {
        &self.service
    }

    /// Where it listens, with the port that was picked.
    pub fn data_address(&self) -> String {
        self.listener.address().0.clone()
    }

    /// Opens the targets that the manager assigned, and makes those that are missing.
    ///
    /// # Errors
    /// `InvalidArgument` for a disk that is not ours; the store's for a target that cannot be made.
    pub fn set_targets(&self, assigned: &[(TargetId, ChainId, PathBuf)]) -> Result<()> {
        let open = self.service.targets.all();
        for (target, chain, path) in assigned {
            if open.contains_key(target) {
                continue;
            }
            let found = self.disks.iter().enumerate().find(|(_, disk)| disk.path == *path);
            let Some((index, disk)) = found else {
                return Err(Error::invalid("the disk is not one of this node")
                    .with("disk", path.display())
                    .with("target", target));
            };
            // A disk that failed is in the status; its targets stay away.
            let Ok(store) = &disk.store else { continue };
            let record = store.create_target(*target, *chain)?;
            open_target(&self.service, disk, index, store, record)?;
        }
        Ok(())
    }

    /// The manager asks targets to leave their chains: they report themselves offline and serve
    /// nothing. Targets that are not here, or serve nothing anyway, are left as they are.
    pub fn step_down(&self, targets: &[TargetId]) {
        let open = self.service.targets.all();
        targets
            .iter()
            .filter_map(|target| open.get(target))
            .for_each(|replica| replica.step_down());
    }

    /// Forgets targets that no chain has any more; their space comes back in the background. A
    /// target that is not here is fine.
    ///
    /// # Errors
    /// The store's.
    pub fn drop_targets(&self, targets: &[TargetId]) -> Result<()> {
        for target in targets {
            let Some(replica) = self.service.targets.all().get(target).cloned() else { continue };
            replica.step_down();
            self.service.targets.remove(*target);
            replica.backend.remove_target(*target)?;
            tracing::info!(target_id = target.0, "target dropped with its chunks");
        }
        Ok(())
    }

    /// Has `listener` called when a target took itself out of its chain, which the manager should
    /// hear of at once.
    pub fn set_listener(&self, listener: TakeOutListener) {
        self.service.node.set_listener(listener);
    }

    /// A heartbeat is being sent now; the token names it.
    pub fn heartbeat_begin(&self) -> u64 {
        self.service.node.heartbeat_begin()
    }

    /// The heartbeat was answered: the lease counts from when it was sent.
    pub fn heartbeat_end(&self, token: u64, lease: Duration) {
        self.service.node.heartbeat_end(token, lease);
    }

    /// The manager does not know this node: it serves nothing until it is registered again.
    pub fn lease_lost(&self) {
        self.service.node.lease_lost();
    }

    /// The engine at a glance.
    pub fn status(&self) -> EngineStatus {
        let replicas = self.service.targets.all();
        let mut targets: Vec<TargetStatus> = Vec::with_capacity(replicas.len());
        for (index, disk) in self.disks.iter().enumerate() {
            let Ok(store) = &disk.store else { continue };
            for record in store.targets() {
                let Some(replica) = replicas.get(&record.target) else { continue };
                if replica.disk_index as usize == index {
                    targets.push(self.target_status(replica, &record, &disk.path));
                }
            }
        }
        targets.sort_by_key(|status| status.target);
        let node = &self.service.node;
        EngineStatus {
            targets,
            disks: self.disks.iter().map(disk_status).collect(),
            repaired_blocks: node.repaired_count.load(Ordering::Relaxed),
            evicted_values: node.evicted_count.load(Ordering::Relaxed),
        }
    }

    fn target_status(
        &self,
        replica: &Replica<ChunkStore>,
        record: &TargetRecord,
        disk: &Path,
    ) -> TargetStatus {
        let (local_state, chain_version, lost_version) = replica.report();
        let usage = replica.backend.space(record.target);
        let marks = replica.backend.marks(record.target);
        let running = self.resyncs.lock().get(&record.target).cloned();
        let resync = running.filter(|running| running.chain_version == chain_version);
        TargetStatus {
            target: record.target,
            chain: record.chain,
            chain_version,
            disk: disk.to_owned(),
            generation: record.generation,
            served: replica.served(),
            local_state,
            used_bytes: usage.used_bytes,
            chunk_count: usage.chunk_count,
            namespaces: replica.backend.namespaces(record.target),
            dirty_count: replica.dirty_count() as u64,
            complete_through: marks.map(|marks| marks.complete_through).unwrap_or_default(),
            lost_version,
            full: replica.is_full(),
            scrub: scrub_status(&replica.findings),
            resync: resync.map(|running| resync_status(&running)),
        }
    }

    /// Stops serving, lets the store finish, closes it. Blocks; not to be called from an async
    /// task.
    pub fn stop(self) {
        self.service.node.lease_lost();
        drop(self.listener);
        if let Some(runtime) = self.runtime {
            runtime.shutdown_timeout(STOP_TIMEOUT);
        }
        for disk in &self.disks {
            if let Ok(store) = &disk.store {
                store.close();
            }
        }
    }
}

fn open_disks(options: &EngineOptions, buffers: &BufferPool) -> Result<Vec<OpenDisk>> {
    let store_options = StoreOptions {
        cache_bytes: options.cache_bytes / options.disks.len().max(1),
        ..StoreOptions::default()
    };
    let mut disks = Vec::with_capacity(options.disks.len());
    for path in &options.disks {
        let opened = open_disk(path, &options.disk_engine)
            .and_then(|disk| ChunkStore::open(disk, store_options.clone(), buffers.clone()));
        let store = match opened {
            // Wrong settings and a second process are for the operator to correct at once.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::StoreLocked | ErrorKind::InvalidArgument | ErrorKind::Unsupported
                ) =>
            {
                return Err(error.with("disk", path.display()));
            }
            Err(error) => {
                tracing::warn!(disk = %path.display(), %error, "a disk does not open");
                Err(error)
            }
            Ok(store) => Ok(store),
        };
        disks.push(OpenDisk::new(path.clone(), store));
    }
    Ok(disks)
}

fn open_target(
    service: &StorageService<ChunkStore>,
    disk: &OpenDisk,
    disk_index: usize,
    store: &ChunkStore,
    record: TargetRecord,
) -> Result<()> {
    let place = Place {
        target: record.target,
        chain: record.chain,
        backend: store.clone(),
        promised: disk.promised.clone(),
        disk_index: disk_index as u32,
        served: record.served,
    };
    let replica = Replica::new(Arc::clone(&service.node), place)?;
    load_values(&replica)?;
    replica.refresh_state();
    service.targets.insert(Arc::new(replica));
    Ok(())
}

/// The values of the KV tier on a target, by the time of their last update.
fn load_values(replica: &Replica<ChunkStore>) -> Result<()> {
    let edge = |kind: u8| {
        let mut id = [0; 16];
        id[0] = kind;
        ChunkId(id)
    };
    let (mut from, end) = (edge(2), edge(3));
    let mut values = Vec::new();
    loop {
        let listed = replica.backend.list(replica.target, from, end, LOAD_COUNT, false)?;
        let Some((last, _)) = listed.last() else { break };
        from = ChunkId(u128::from_be_bytes(last.0).saturating_add(1).to_be_bytes());
        let exhausted = listed.len() < LOAD_COUNT;
        values.extend(listed.into_iter().filter_map(|(chunk, state)| {
            let live = state.committed.filter(|one| !one.removed)?;
            Some((state.updated_ns, chunk, live.len))
        }));
        if exhausted {
            break;
        }
    }
    values.sort_unstable();
    replica.values.load(values.into_iter().map(|(_, chunk, len)| (chunk, len)));
    Ok(())
}

fn scrub_status(findings: &Findings) -> ScrubStatus {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    ScrubStatus {
        chunks_checked: count(&findings.chunks_checked),
        bytes_checked: count(&findings.bytes_checked),
        bad_count: count(&findings.bad_count),
        repaired_count: count(&findings.repaired_count),
        unrepairable_count: findings.unrepaired_count(),
        last_pass_unix_s: count(&findings.last_pass_unix_s),
    }
}

fn resync_status(running: &Running) -> ResyncStatus {
    let progress = &running.progress;
    ResyncStatus {
        successor: running.successor.target,
        chunks_done: progress.chunks_done.load(Ordering::Relaxed),
        chunks_total: progress.chunks_total.load(Ordering::Relaxed),
        bytes_moved: progress.bytes_moved.load(Ordering::Relaxed),
        started_ms: progress.started_ms,
    }
}

fn disk_status(disk: &OpenDisk) -> DiskStatus {
    match &disk.store {
        Ok(store) => {
            let status = store.status();
            DiskStatus {
                path: disk.path.clone(),
                engine: status.engine,
                total_bytes: status.total_bytes,
                free_bytes: status.free_bytes,
                failed: status.failed.map(|error| error.to_string()),
            }
        }
        Err(error) => DiskStatus {
            path: disk.path.clone(),
            engine: "none",
            total_bytes: 0,
            free_bytes: 0,
            failed: Some(error.to_string()),
        },
    }
}
