//! Calls to peers by node or chain, with retries that respect deadlines and routing.
//!
//! Why here and not in the client: the metadata service removes and lists chunks with the very same
//! rules, and replicas talk to each other through `Peers`.
//! Invariants: routing is read again at every try; an update keeps its write id over all its tries;
//! no try outlives the caller's deadline. Locks: `connections`, held only to look up or insert.

mod chain_client;
mod channels;
mod hedge;
mod join;
mod latency;
mod read;
mod read_plan;
mod retry;
mod stat;
mod update;

pub use chain_client::{ChainClient, ChunkRead, ChunkUpdate, ReadOutcome};
pub use latency::ReadCounts;

use crate::ids::NodeId;
use crate::routing::RoutingHandle;
use crate::transport::{Connection, PeerAddress, Reply, Request, Transport};
use crate::{Error, ErrorKind, Result};
use latency::Latencies;
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Connections beyond what routing knows that are kept before stale ones are dropped.
const CONNECTIONS_STALE_MAX: usize = 64;

/// Connections by address, made lazily, shared by everyone in the process. Cloning is cheap.
#[derive(Clone)]
pub struct Peers(Arc<PeersInner>);

struct PeersInner {
    transport: Arc<dyn Transport>,
    routing: RoutingHandle,
    connections: RwLock<HashMap<PeerAddress, Arc<dyn Connection>>>,
    latencies: Latencies,
}

impl Peers {
    /// Peers over one transport, found through one routing.
    pub fn new(transport: Arc<dyn Transport>, routing: RoutingHandle) -> Peers {
        let (connections, latencies) = (RwLock::default(), Latencies::default());
        Peers(Arc::new(PeersInner { transport, routing, connections, latencies }))
    }

    /// Read requests since this was made, and how many were hedged.
    pub fn read_counts(&self) -> ReadCounts {
        self.0.latencies.counts()
    }

    /// How long nodes take to answer.
    fn latencies(&self) -> &Latencies {
        &self.0.latencies
    }

    /// Where nodes and chains are looked up.
    pub fn routing(&self) -> &RoutingHandle {
        &self.0.routing
    }

    /// What carries the calls.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.0.transport
    }

    /// Calls a node at its data port. A node that cannot be reached is reported to the manager.
    ///
    /// # Errors
    /// As `Connection::call`; `PeerUnreachable` also when the node has no data port.
    pub async fn call_node(&self, node: NodeId, request: Request) -> Result<Reply> {
        let address = self.0.routing.current().data_address(node)?;
        if address.0.is_empty() {
            return Err(Error::new(ErrorKind::PeerUnreachable, "the node has no data port")
                .with("node", node));
        }
        let result = self.call_address(&address, request).await;
        result.map_err(|error| {
            if error.kind() == ErrorKind::PeerUnreachable {
                self.0.routing.suspect(node);
            }
            error.with("node", node)
        })
    }

    /// Calls whoever listens at an address.
    ///
    /// # Errors
    /// As `Connection::call`.
    pub async fn call_address(&self, address: &PeerAddress, request: Request) -> Result<Reply> {
        let connection = self.connection(address);
        connection.call(request).await
    }

    fn connection(&self, address: &PeerAddress) -> Arc<dyn Connection> {
        if let Some(connection) = self.0.connections.read().get(address) {
            return Arc::clone(connection);
        }
        let mut connections = self.0.connections.write();
        self.drop_stale(&mut connections);
        let fresh = || self.0.transport.connect(address);
        Arc::clone(connections.entry(address.clone()).or_insert_with(fresh))
    }

    /// Forgets peers that left the cluster, so that restarts on new ports do not pile up.
    fn drop_stale(&self, connections: &mut HashMap<PeerAddress, Arc<dyn Connection>>) {
        let routing = self.0.routing.current();
        if connections.len() < routing.nodes.len() + CONNECTIONS_STALE_MAX {
            return;
        }
        let known: HashSet<&str> =
            routing.nodes.iter().map(|node| node.data_address.as_str()).collect();
        connections.retain(|address, _| known.contains(address.0.as_str()));
        self.0.latencies.retain(|node| routing.node(node).is_ok());
    }
}
