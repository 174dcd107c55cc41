//! Client processes: the shipping clients, and the workload that uses them.

use super::follower;
use super::manager_link::ManagerLink;
use super::network::SimulatedTransport;
use super::site::Site;
use crate::history::History;
use crate::plan::{Plan, Process};
use crate::workload::{self, Handles};
use firepond_client::file_system::{FileSystem, FileSystemOptions};
use firepond_client::kv::KvCache;
use firepond_core::ids::ClientId;
use firepond_core::peer::{ChainClient, Peers};
use firepond_core::sys::clock::now;
use firepond_core::sys::random;
use firepond_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a client may wait for the cluster before it begins.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const NAMESPACE: &str = "values";
const NAMESPACE_BYTES: u64 = 1 << 20;

#[derive(Serialize)]
struct CreateNamespace {
    name: &'static str,
    class: &'static str,
    capacity_bytes: u64,
}

#[derive(Deserialize)]
struct Created {}

/// Where a client says that it is ready, and waits for all others.
pub(super) struct StartLine {
    pub(super) ready: oneshot::Sender<()>,
    pub(super) begin: oneshot::Receiver<()>,
}

/// Starts a client; the task ends with its last operation.
pub(super) fn start(
    site: &Arc<Site>,
    link: ManagerLink,
    index: u32,
    plan: &Arc<Plan>,
    history: &History,
    start: StartLine,
) -> JoinHandle<()> {
    let process = Process::Client(index);
    let machine = site.boot(process);
    let transport = SimulatedTransport::new(site, process, &machine);
    let (site, plan, history) = (Arc::clone(site), Arc::clone(plan), history.clone());
    machine.spawn(async move {
        let link = Arc::new(link);
        let routing = follower::start(&link, 0, Arc::default());
        let peers = Peers::new(Arc::new(transport), routing);
        match open(&link, peers, &plan).await {
            Ok(handles) => {
                start.ready.send(()).ok();
                start.begin.await.ok();
                workload::run(handles, &plan, index, &history).await;
            }
            Err(error) => site.problem(format_args!("{process} cannot begin: {error}")),
        }
    })
}

async fn open(link: &ManagerLink, peers: Peers, plan: &Plan) -> Result<Handles> {
    let deadline = now() + READY_TIMEOUT;
    loop {
        let current = peers.routing().current();
        if !current.tables.is_empty() {
            break;
        }
        peers.routing().wait_newer(current.version, deadline).await?;
    }
    let kv = match plan.topology.kv {
        true => Some(open_values(link, &peers).await?),
        false => None,
    };
    let options = FileSystemOptions { dirty_max_bytes: 64 << 20, ..FileSystemOptions::default() };
    let files = plan.topology.metadata.then(|| FileSystem::new(peers.clone(), options));
    let chains = ChainClient::new(peers, ClientId(random::u64()));
    Ok(Handles { chains, kv, files })
}

async fn open_values(link: &ManagerLink, peers: &Peers) -> Result<KvCache> {
    let deadline = now() + READY_TIMEOUT;
    let body = CreateNamespace { name: NAMESPACE, class: "cache", capacity_bytes: NAMESPACE_BYTES };
    loop {
        let created: Result<Created> = link.call("create_namespace", &body, REQUEST_TIMEOUT).await;
        match created {
            Ok(Created {}) => break,
            Err(error) if now() >= deadline => return Err(error),
            Err(_) => firepond_core::sys::clock::sleep(Duration::from_millis(100)).await,
        }
    }
    let opened = KvCache::open(peers.clone(), NAMESPACE, deadline).await;
    opened.map_err(|error: Error| error.with("namespace", NAMESPACE))
}
