//! The world of one seed: machines, network, disks, faults, and the audit at the end.
//!
//! One runtime on one thread, whose clock stands still while anything can run and then jumps to the
//! next timer: so a run is a function of its plan. Every process is a `Machine` (see
//! `firepond_core::sys::machine`) and runs what ships: storage engines over chunk stores on
//! simulated disks, the metadata service over the store in memory, clients, and the managers, which
//! are Python behind a trait. What else ships as Python and talks (the agent of a role, the
//! follower of routing) is mirrored here, step by step.
//!
//! Read first: `cluster` (who lives), `strike` (faults), `network` and `weather` (messages),
//! `storage` (a process), `managers` (the manager), `audit` (the end).
//! Invariants: nothing acts in an order that the seed does not decide; two runs of one plan give
//! the same trace, also in different processes.

mod agent;
mod audit;
mod client;
mod cluster;
mod follower;
mod log;
mod manager_link;
mod managers;
mod meta;
mod network;
mod observer;
mod site;
mod storage;
mod strike;
mod trace;
mod weather;

pub use managers::{Managers, Probe};
pub use trace::Trace;

use crate::checkers::check_all;
use crate::history::History;
use crate::plan::{Plan, Process};
use client::StartLine;
use cluster::Cluster;
use firepond_core::sys::random;
use managers::ManagerPort;
use site::Site;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// How long the cluster may take to serve for the first time.
const BEGIN_MAX: Duration = Duration::from_secs(60);
/// How long everything may take to serve again after the last fault.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// How long after that the last operation may take.
const CLIENTS_MAX: Duration = Duration::from_secs(120);
/// How long what is left may take: lazy commits, sweeps, old tombstones.
const REST_MAX: Duration = Duration::from_secs(30);

/// Most tasks of a process at rest: agent, routing, suspicions, committer, housekeeping, scrubber.
const TASKS_MAX_COUNT: usize = 16;
/// As in deploy/systemd: how long a process that ended stays away.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Processes that ended by themselves.
type Exits = mpsc::UnboundedReceiver<Process>;

/// What one seed's run gave.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What happened, in order, readable.
    pub trace: Vec<String>,
    /// The digest of all lines of the trace.
    pub trace_hash: u64,
    /// What must not have happened; empty when all is well.
    pub problems: Vec<String>,
}

/// Makes the managers of a world from their settings and the probe.
pub type ManagersFactory<'a> =
    &'a dyn Fn(&BTreeMap<&'static str, u64>, Probe) -> Result<Box<dyn Managers>, String>;

/// The world of one plan.
pub struct World;

impl World {
    /// Runs the plan from beginning to end.
    pub fn run(plan: &Plan, managers: ManagersFactory<'_>) -> Outcome {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let problems = vec![format!("no runtime: {error}")];
                return Outcome { problems, ..Outcome::default() };
            }
        };
        random::seed_thread(plan.seed);
        log::collect_panics();
        let (site, exits) = runtime.block_on(async { Site::new(plan.seed) });
        let site = Arc::new(site);
        let running = AssertUnwindSafe(|| runtime.block_on(run(plan, &site, exits, managers)));
        // A panic of the world itself is a result, too, and is with the others.
        let mut problems = catch_unwind(running).unwrap_or_default();
        drop(runtime);
        problems.extend(site.problems());
        let panics = log::take_panics();
        problems.extend(panics.into_iter().map(|panic| format!("panic: {panic}")));
        let (trace, trace_hash) = site.trace.take();
        Outcome { trace, trace_hash, problems }
    }
}

/// What is wrong with a run.
async fn run(
    plan: &Plan,
    site: &Arc<Site>,
    exits: Exits,
    managers: ManagersFactory<'_>,
) -> Vec<String> {
    let _logging = tracing::subscriber::set_default(log::LogToTrace(site.trace.clone()));
    plan.describe().iter().for_each(|line| site.trace.line(line));
    let newest = Arc::new(AtomicU32::new(0));
    let (probing, leader) = (Arc::clone(site), Arc::clone(&newest));
    let probe: Probe = Arc::new(move |node, incarnation| {
        let manager = Process::Manager(leader.load(Ordering::Relaxed));
        probing.probe(manager, node, incarnation)
    });
    let problems = match managers(&settings(plan), probe) {
        Ok(managers) => {
            let port = ManagerPort::start(site, managers, newest);
            live(plan, site, exits, port).await
        }
        Err(error) => vec![format!("no managers: {error}")],
    };
    for (_, machine) in site.machines() {
        machine.kill();
    }
    problems
}

/// As in `fs/config/models.py`; what is not here has its default.
fn settings(plan: &Plan) -> BTreeMap<&'static str, u64> {
    let topology = &plan.topology;
    BTreeMap::from([
        ("replicas", u64::from(topology.replica_count)),
        ("storage_nodes_min", u64::from(topology.storage_count)),
        ("chains_per_node", 1),
    ])
}

/// From the first start to the audit; what is wrong.
async fn live(plan: &Plan, site: &Arc<Site>, exits: Exits, port: ManagerPort) -> Vec<String> {
    let plan = Arc::new(plan.clone());
    let trace = site.trace.clone();
    let history = History::new(move |line| trace.line(line));
    let cluster = Arc::new(Cluster::new(Arc::clone(&plan), Arc::clone(site), port, history));
    tokio::spawn(restart(Arc::clone(&cluster), exits));
    cluster.start_manager(0);
    (0..plan.topology.storage_count).for_each(|index| cluster.start_storage(index));
    if plan.topology.metadata {
        cluster.start_meta();
    }
    let mut clients = Clients::start(&cluster);
    let deadline = Instant::now() + BEGIN_MAX;
    if !cluster.settle(deadline).await || !clients.ready(deadline).await {
        return vec!["the cluster never served".to_owned()];
    }
    let begin = Instant::now();
    site.trace.line("the cluster serves");
    clients.begin();
    let faults: Vec<_> = plan
        .faults
        .iter()
        .map(|(at, fault)| strike::schedule(&cluster, begin + *at, *fault))
        .collect();
    let end = begin + plan.lasts;
    sleep_until(end).await;
    for fault in faults {
        timeout_at(end + SETTLE_MAX, fault).await.ok();
    }
    cluster.heal();
    let settled = cluster.settle(Instant::now() + SETTLE_MAX).await.then(|| end.elapsed());
    site.trace.line(format_args!("settled after {settled:?}"));
    clients.end(Instant::now() + CLIENTS_MAX).await;
    cluster.rest().await;
    cluster.check_tasks();
    let audit = cluster.audit(settled).await;
    let (records, blackouts) = cluster.history.take();
    check_all(&plan, &records, &blackouts, &audit)
}

/// Starts processes again that ended by themselves, as systemd does.
async fn restart(cluster: Arc<Cluster>, mut exits: Exits) {
    while let Some(process) = exits.recv().await {
        match process {
            Process::Storage(index) => {
                cluster.kill_storage(index, false);
                sleep(RESTART_PAUSE).await;
                cluster.start_storage(index);
            }
            Process::Meta => {
                cluster.kill_meta();
                sleep(RESTART_PAUSE).await;
                cluster.start_meta();
            }
            Process::Manager(_) | Process::Client(_) => {}
        }
    }
}

/// The clients and their common start.
struct Clients {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    ready: Vec<oneshot::Receiver<()>>,
    begin: Vec<oneshot::Sender<()>>,
}

impl Clients {
    fn start(cluster: &Cluster) -> Clients {
        let mut clients = Clients { tasks: Vec::new(), ready: Vec::new(), begin: Vec::new() };
        for index in 0..cluster.plan.topology.client_count {
            let (ready, is_ready) = oneshot::channel();
            let (begin, begins) = oneshot::channel();
            let start = StartLine { ready, begin: begins };
            let link = cluster.link(Process::Client(index));
            let (site, plan, history) = (&cluster.site, &cluster.plan, &cluster.history);
            clients.tasks.push(client::start(site, link, index, plan, history, start));
            clients.ready.push(is_ready);
            clients.begin.push(begin);
        }
        clients
    }

    async fn ready(&mut self, deadline: Instant) -> bool {
        for ready in self.ready.drain(..) {
            if !matches!(timeout_at(deadline, ready).await, Ok(Ok(()))) {
                return false;
            }
        }
        true
    }

    fn begin(&mut self) {
        for begin in self.begin.drain(..) {
            begin.send(()).ok();
        }
    }

    async fn end(&mut self, deadline: Instant) {
        for task in self.tasks.drain(..) {
            timeout_at(deadline, task).await.ok();
        }
    }
}

impl Cluster {
    /// Waits until everything serves.
    async fn settle(&self, deadline: Instant) -> bool {
        loop {
            let changed = self.observer.changed.notified();
            if self.is_settled() {
                return true;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return self.is_settled();
            }
        }
    }

    /// Ends all faults, and starts whoever is away.
    fn heal(&self) {
        self.site.trace.line("everything is healed");
        self.site.weather.clear();
        for (_, machine) in self.site.machines() {
            machine.set_drift(0);
            machine.thaw();
        }
        for disk in &self.lives.lock().disks {
            disk.disk.set_failing(false);
            disk.disk.set_delay(Duration::ZERO);
            disk.disk.set_capacity_bytes(storage::DISK_BYTES);
            disk.crash_point.stop_at(0);
        }
        if !self.lives.lock().manager {
            self.start_manager(0);
        }
        for index in 0..self.plan.topology.storage_count {
            self.start_storage(index);
        }
        if self.plan.topology.metadata {
            self.start_meta();
        }
    }

    /// Waits until nothing is pending, locked or lent any more.
    async fn rest(&self) {
        let deadline = Instant::now() + REST_MAX;
        loop {
            sleep(Duration::from_millis(1500)).await;
            if self.is_at_rest() || Instant::now() >= deadline {
                return;
            }
        }
    }

    /// A process at rest has its loops and nothing else.
    fn check_tasks(&self) {
        for (process, machine) in self.site.machines() {
            let count = machine.task_count();
            if count > TASKS_MAX_COUNT {
                self.site.problem(format_args!("leaks: {process} at rest has {count} tasks"));
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        self.running_stores().iter().all(|(_, running)| {
            let replicas = running.engine.service().targets.all();
            let idle = replicas.values().all(|one| one.dirty_count() + one.held_count() == 0);
            let agreed = running.store.as_ref().is_none_or(|store| {
                store.audit().is_ok_and(|audit| {
                    audit.used_bytes == audit.record_bytes
                        && audit.used_bytes == audit.accounted_bytes
                })
            });
            idle && agreed && running.transport.buffers().used_bytes() == 0
        })
    }
}
