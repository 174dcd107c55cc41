//! The metadata process: the shipping service over a store in memory that outlives it, as an
//! external database would.

use super::agent::{Agent, Assignment, Report, Role, allocate_node_id};
use super::follower;
use super::manager_link::ManagerLink;
use super::network::SimulatedTransport;
use super::site::Site;
use crate::plan::Process;
use firepond_core::Result;
use firepond_core::ids::{ClientId, Incarnation, NodeId};
use firepond_core::kv::MemoryStore;
use firepond_core::peer::{ChainClient, Peers};
use firepond_core::sys::machine::Machine;
use firepond_core::sys::{random, task};
use firepond_core::transport::{PeerAddress, Transport};
use firepond_meta::{MetaService, ServiceOptions, run_background};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// What outlives the process.
#[derive(Clone, Default)]
pub(super) struct MetaState {
    store: MemoryStore,
    node: Arc<Mutex<Option<u32>>>,
}

/// Starts a life of the metadata process.
pub(super) fn start(site: &Arc<Site>, link: ManagerLink, state: &MetaState) -> Machine {
    let machine = site.boot(Process::Meta);
    let (site, state, itself) = (Arc::clone(site), state.clone(), machine.clone());
    machine.spawn(async move {
        if let Err(error) = run(&site, Arc::new(link), state, &itself).await {
            site.exits(Process::Meta, &error);
        }
    });
    machine
}

async fn run(
    site: &Arc<Site>,
    link: Arc<ManagerLink>,
    state: MetaState,
    machine: &Machine,
) -> Result<()> {
    let incarnation = site.next_incarnation();
    let wake = Arc::new(Notify::new());
    let routing = follower::start(&link, incarnation, Arc::clone(&wake));
    let known = *state.node.lock();
    let node = match known {
        Some(node) => node,
        None => allocate_node_id(&link).await,
    };
    *state.node.lock() = Some(node);
    site.name_node(node, Process::Meta, incarnation);
    let transport: Arc<dyn Transport> =
        Arc::new(SimulatedTransport::new(site, Process::Meta, machine));
    let peers = Peers::new(Arc::clone(&transport), routing.clone());
    let chunks = Arc::new(ChainClient::new(peers, ClientId(random::u64())));
    let options = ServiceOptions {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
        ..ServiceOptions::default()
    };
    let service = MetaService::open(state.store, routing.clone(), chunks, options).await?;
    let address = PeerAddress(format!("{}:7000", Process::Meta));
    let listener = transport.listen(&address, Arc::new(service.clone())).await?;
    task::spawn(run_background(service));
    let agent = Agent {
        link,
        role: Arc::new(MetaRole(listener.address().0.clone())),
        node,
        incarnation,
        admin_address: format!("{}:1", Process::Meta),
        routing,
        wake,
        assigned: Arc::default(),
    };
    let fatal = agent.run().await;
    drop(listener);
    Err(fatal)
}

/// As `MetaRole` in `fs/service/roles.py`.
struct MetaRole(String);

impl Role for MetaRole {
    fn name(&self) -> &'static str {
        "meta"
    }

    fn data_address(&self) -> String {
        self.0.clone()
    }

    fn report(&self) -> Report {
        Report::default()
    }

    fn assign(&self, _: &[Assignment]) -> Result<()> {
        Ok(())
    }

    fn step_down(&self, _: &[u64]) {}

    fn drop_targets(&self, _: &[u64]) -> Result<()> {
        Ok(())
    }

    fn lease_begin(&self) -> u64 {
        0
    }

    fn lease_end(&self, _: u64, _: Duration) {}

    fn lease_lost(&self) {}
}
