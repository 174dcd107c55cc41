//! One storage node of the harness: service, housekeeping, heartbeats.

use super::gate::GatedTransport;
use super::manager::Manager;
use super::memory_store::MemoryStore;
use super::weather::Weather;
use super::{CHAIN, pool};
use firepond_core::ids::{Incarnation, NodeId, TargetId};
use firepond_core::peer::Peers;
use firepond_core::routing::{LocalState, PublicState, RoutingHandle};
use firepond_core::sys::clock;
use firepond_core::transport::memory::{MemoryNetwork, MemoryTransport};
use firepond_core::transport::{Listener, PeerAddress, Transport};
use firepond_storage::chain::replica::Place;
use firepond_storage::chain::space::Promised;
use firepond_storage::chain::{Node, Replica};
use firepond_storage::service::{Housekeeping, StorageService};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const HEARTBEAT: Duration = Duration::from_millis(50);
pub const LEASE: Duration = Duration::from_millis(500);

pub struct TestNode {
    pub id: NodeId,
    pub store: MemoryStore,
    pub replica: Arc<Replica<MemoryStore>>,
    pub service: Arc<StorageService<MemoryStore>>,
    pub routing: RoutingHandle,
    pub open: watch::Sender<bool>,
    listener: Option<Box<dyn Listener>>,
    tasks: Vec<JoinHandle<()>>,
}

impl TestNode {
    pub async fn start(
        network: &MemoryNetwork,
        weather: &Weather,
        id: u32,
        store: MemoryStore,
        manager: &Arc<Mutex<Manager>>,
    ) -> TestNode {
        let (routing, _suspicions) = RoutingHandle::new();
        let (open, gate) = watch::channel(true);
        let inner = Arc::new(MemoryTransport::new(network, pool()));
        let rate = weather.resync_bytes_per_second();
        let (name, weather) = (format!("node{id}"), weather.clone());
        let transport: Arc<dyn Transport> =
            Arc::new(GatedTransport { inner, open: gate, name, weather });
        let peers = Peers::new(Arc::clone(&transport), routing.clone());
        let incarnation = Incarnation(manager.lock().next_incarnation());
        let node = Arc::new(Node::new(NodeId(id), incarnation, peers));
        let service = Arc::new(StorageService::new(Arc::clone(&node), 64 << 20));
        let place = Place {
            target: TargetId(u64::from(id)),
            chain: CHAIN,
            backend: store.clone(),
            promised: Promised::default(),
            disk_index: 0,
            served: store.served(),
        };
        let replica = Arc::new(Replica::new(node, place).expect("the store opens"));
        service.targets.insert(Arc::clone(&replica));
        let address = PeerAddress(format!("node{id}:0"));
        let listener =
            transport.listen(&address, Arc::clone(&service) as _).await.expect("listens");
        let data_address = listener.address().0.clone();
        manager.lock().register(id, incarnation, data_address.clone(), routing.clone());
        let housekeeping = Housekeeping::new(Arc::clone(&service), rate);
        let pulse = Pulse {
            replica: Arc::clone(&replica),
            manager: Arc::clone(manager),
            open: open.subscribe(),
            address: data_address,
            routing: routing.clone(),
        };
        let tasks = vec![tokio::spawn(housekeeping.run()), tokio::spawn(pulse.run())];
        let listener = Some(listener);
        TestNode { id: NodeId(id), store, replica, service, routing, open, listener, tasks }
    }

    pub fn is_alive(&self) -> bool {
        self.listener.is_some()
    }

    /// As kill -9: whatever still runs of it can neither talk nor touch the disk.
    pub fn kill(&mut self) {
        self.store = self.store.crash();
        self.open.send_replace(false);
        self.listener = None;
        self.replica.node.lease_lost();
        self.tasks.drain(..).for_each(|task| task.abort());
    }

    pub fn summary(&self) -> String {
        let standing = self.replica.standing();
        let dirty = self.replica.dirty_count();
        format!("{}: {:?} {:?} dirty {dirty}", self.id, standing.state, standing.local)
    }

    /// Dead, or serving with nothing pending.
    pub fn is_settled(&self) -> bool {
        let standing = self.replica.standing();
        let serving = standing.state == Some(PublicState::Serving)
            && standing.local == LocalState::UpToDate
            && standing.lease;
        !self.is_alive() || (serving && self.replica.dirty_count() == 0)
    }
}

/// The heartbeats of a node.
struct Pulse {
    replica: Arc<Replica<MemoryStore>>,
    manager: Arc<Mutex<Manager>>,
    open: watch::Receiver<bool>,
    address: String,
    routing: RoutingHandle,
}

impl Pulse {
    async fn run(self) {
        // A node that registered again waits for the routing in which it did.
        let mut awaited = 0;
        loop {
            let id = self.replica.node.id.0;
            let hears = *self.open.borrow() && !self.manager.lock().is_cut(id);
            if hears && self.routing.current().version.0 >= awaited {
                awaited = self.beat(id);
            }
            clock::sleep(HEARTBEAT).await;
        }
    }

    /// The version of routing to wait for before the next one.
    fn beat(&self, id: u32) -> u64 {
        let node = &self.replica.node;
        let token = node.heartbeat_begin();
        let (local, chain_version, _) = self.replica.report();
        let mut manager = self.manager.lock();
        if manager.heartbeat(id, node.incarnation, local, chain_version) {
            node.heartbeat_end(token, LEASE);
            return 0;
        }
        node.lease_lost();
        manager.register(id, node.incarnation, self.address.clone(), self.routing.clone());
        manager.version()
    }
}
