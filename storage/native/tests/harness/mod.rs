//! Several storage nodes, a manager and clients in one process and one thread, over a network in
//! memory: the code that ships, under a clock that jumps and randomness from a seed.
//!
//! The manager here is a model of the real one's state table for one chain; leases are real.

#![allow(clippy::allow_attributes, reason = "expect would fail where nothing is to be excused")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(missing_docs, clippy::unwrap_used, reason = "a test's helper")]

pub mod gate;
pub mod manager;
mod memory_chunk;
pub mod memory_store;
pub mod node;
pub mod weather;

use bytes::Bytes;
use firepond_core::buffer::BufferPool;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{ChainId, ChunkId, ChunkIndex, ClientId, InodeId};
use firepond_core::payload::Payload;
use firepond_core::peer::{ChainClient, ChunkRead, ChunkUpdate, Peers, ReadOutcome};
use firepond_core::routing::RoutingHandle;
use firepond_core::sys::clock::{self, now};
use firepond_core::transport::memory::{MemoryNetwork, MemoryTransport};
use firepond_core::wire::storage::{UpdateKind, UpdateReply};
use firepond_core::{ErrorKind, Result};
use firepond_storage::chain::Backend;
use firepond_storage::store::ChunkState;
use gate::GatedTransport;
use manager::Manager;
use memory_store::MemoryStore;
use node::TestNode;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use weather::Weather;

pub const CHAIN: ChainId = ChainId(1);
pub const CHUNK_MAX: u32 = 1 << 20;

/// A cluster with one chain; node and target n are the n-th replica, from 1.
pub struct Cluster {
    pub network: MemoryNetwork,
    pub weather: Weather,
    pub nodes: Vec<TestNode>,
    pub manager: Arc<Mutex<Manager>>,
    client_count: u64,
}

pub fn pool() -> BufferPool {
    BufferPool::new(128 << 20)
}

pub fn chunk(index: u32) -> ChunkId {
    ChunkId::file(InodeId(9), ChunkIndex(index))
}

/// An update with these bytes at an offset.
pub fn update(chunk: ChunkId, kind: UpdateKind, offset: u32, bytes: &[u8]) -> ChunkUpdate {
    let payload = Bytes::copy_from_slice(bytes);
    ChunkUpdate {
        chunk,
        kind,
        offset,
        len: bytes.len() as u32,
        checksum: crc32c(bytes),
        payload: Payload::from_bytes(payload),
        chunk_len_max: CHUNK_MAX,
        tag: [7; 32],
    }
}

/// An update without payload.
pub fn bare(chunk: ChunkId, kind: UpdateKind, len: u32) -> ChunkUpdate {
    ChunkUpdate { len, ..update(chunk, kind, 0, b"") }
}

impl Cluster {
    /// Nodes that serve one chain.
    pub async fn start(replica_count: u64) -> Cluster {
        let network = MemoryNetwork::new();
        let manager = Arc::new(Mutex::new(Manager::new(replica_count)));
        let weather = Weather::default();
        let mut nodes = Vec::new();
        for id in 1..=replica_count {
            let (id, store) = (id as u32, MemoryStore::new());
            nodes.push(TestNode::start(&network, &weather, id, store, &manager).await);
        }
        let cluster = Cluster { network, weather, nodes, manager, client_count: 0 };
        cluster.manager.lock().create_chain();
        cluster.wait_serving().await;
        cluster
    }

    /// A client with its own routing and connections.
    pub fn client(&mut self) -> TestClient {
        self.client_count += 1;
        let (routing, _suspicions) = RoutingHandle::new();
        self.manager.lock().follow(routing.clone());
        let inner = Arc::new(MemoryTransport::new(&self.network, pool()));
        let (name, weather) = (format!("client{}", self.client_count), self.weather.clone());
        let (switch, open) = watch::channel(true);
        let transport = Arc::new(GatedTransport { inner, open, name, weather });
        let id = ClientId(1000 + self.client_count);
        let chains = ChainClient::new(Peers::new(transport, routing), id);
        TestClient { chains, _switch: Arc::new(switch) }
    }

    /// Kills a node; the manager sees it at once or never, as it is told.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
        self.manager.lock().node_gone(index as u64 + 1);
    }

    /// Starts a dead node again over what its disk kept.
    pub async fn restart(&mut self, index: usize) {
        let store = self.nodes[index].store.clone();
        let id = index as u32 + 1;
        let (network, weather) = (&self.network, &self.weather);
        self.nodes[index] = TestNode::start(network, weather, id, store, &self.manager).await;
    }

    /// Waits until every living node serves and nothing is pending.
    pub async fn wait_serving(&self) {
        let deadline = now() + Duration::from_secs(120);
        loop {
            let states: Vec<_> = self.nodes.iter().map(TestNode::summary).collect();
            let ready = self.nodes.iter().all(TestNode::is_settled);
            if ready {
                return;
            }
            assert!(now() < deadline, "not serving in time: {states:?}");
            clock::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All replicas have the same committed chunks, and nothing is pending.
    pub fn assert_replicas_agree(&self) {
        let (from, to) = (ChunkId([0; 16]), ChunkId([0xff; 16]));
        let list = |node: &TestNode| {
            let rows = node.store.list(node.replica.target, from, to, 1 << 20, false);
            rows.expect("a living store").into_iter().map(comparable).collect::<Vec<_>>()
        };
        let mut living = self.nodes.iter().filter(|node| node.is_alive());
        let first = list(living.next().expect("a living node"));
        for other in living {
            assert_eq!(first, list(other), "replicas differ from node {}", other.id.0);
        }
    }
}

type Comparable = (ChunkId, u64, u32, u32, bool, Vec<u64>);

fn comparable((chunk, state): (ChunkId, ChunkState)) -> Comparable {
    assert!(state.pending.is_none(), "{chunk} is still pending: {state:?}");
    let one = state.committed.expect("committed");
    let newest = state.recent_writes.iter().rev().take(1).map(|one| one.version.0).collect();
    (chunk, one.version.0, one.len, one.checksum, one.removed, newest)
}

/// A client of the chain.
#[derive(Clone)]
pub struct TestClient {
    pub chains: ChainClient,
    _switch: Arc<watch::Sender<bool>>,
}

impl TestClient {
    pub async fn write(&self, chunk: ChunkId, offset: u32, bytes: &[u8]) -> Result<UpdateReply> {
        self.send(update(chunk, UpdateKind::Write, offset, bytes)).await
    }

    pub async fn send(&self, update: ChunkUpdate) -> Result<UpdateReply> {
        self.chains.update(CHAIN, update, now() + Duration::from_secs(60)).await
    }

    /// Reads a whole chunk from any replica.
    pub async fn read(&self, chunk: ChunkId) -> Result<ReadOutcome> {
        let read = ChunkRead {
            chain: CHAIN,
            chunk,
            offset: 0,
            len: CHUNK_MAX,
            sink: None,
            prefer_head: false,
        };
        let deadline = now() + Duration::from_secs(60);
        self.chains.batch_read(vec![read], deadline).await.remove(0)
    }

    /// The bytes of a chunk; none when it does not exist.
    pub async fn bytes(&self, chunk: ChunkId) -> Option<Vec<u8>> {
        match self.read(chunk).await {
            Ok(outcome) => Some(outcome.bytes.complete().await.expect("complete").to_vec()),
            Err(error) if error.kind() == ErrorKind::ChunkNotFound => None,
            Err(error) => panic!("read failed: {error}"),
        }
    }
}
