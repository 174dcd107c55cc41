//! Storage nodes that keep chunks in a map: enough of the service for the KV tier's client.

use bytes::Bytes;
use firepond_core::buffer::BufferPool;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{
    ChainId, ChainTableId, ChainTableVersion, ChainVersion, ChunkVersion, Incarnation, NamespaceId,
    NodeId, RoutingVersion, TargetId,
};
use firepond_core::payload::Payload;
use firepond_core::peer::Peers;
use firepond_core::routing::{
    ChainInfo, ChainTable, ChainTarget, Durability, NamespaceInfo, NodeInfo, PublicState, Routing,
    RoutingHandle,
};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::memory::{MemoryNetwork, MemoryTransport};
use firepond_core::transport::{
    Handler, IncomingRequest, Listener, OutgoingReply, PeerAddress, Transport,
};
use firepond_core::wire::storage::{
    BatchStatReply, BatchStatRequest, ChunkStat, ReadIo, ReadResult, UpdateKind, UpdateReply,
    UpdateRequest, decode_table, encode_table,
};
use firepond_core::wire::{MessageKind, decode, encode};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Chains of the fake cluster, spread over two nodes.
pub(crate) const CHAIN_COUNT: usize = 5;
pub(crate) const NODE_COUNT: u32 = 2;

/// What the nodes do wrong.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Chunks answer with another tag.
    ForeignTag,
    /// Every request is refused for good.
    Refuse,
}

type Key = (u32, [u8; 16]);

struct State {
    chunks: BTreeMap<Key, (Bytes, [u8; 32])>,
    fault: Fault,
    stat_request_count: u32,
}

struct Node(Arc<Mutex<State>>);

/// A cluster in this process; it ends when it is dropped.
pub(crate) struct FakeCluster {
    state: Arc<Mutex<State>>,
    transport: Arc<MemoryTransport>,
    routing: RoutingHandle,
    _listeners: Vec<Box<dyn Listener>>,
}

impl FakeCluster {
    pub(crate) async fn start() -> FakeCluster {
        let state = Arc::new(Mutex::new(State {
            chunks: BTreeMap::new(),
            fault: Fault::None,
            stat_request_count: 0,
        }));
        let network = MemoryNetwork::new();
        let transport = Arc::new(MemoryTransport::new(&network, BufferPool::new(256 << 20)));
        let mut listeners = Vec::new();
        let mut nodes = Vec::new();
        for id in 1..=NODE_COUNT {
            let address = PeerAddress(format!("node{id}:0"));
            let handler = Arc::new(Node(Arc::clone(&state)));
            let listener = transport.listen(&address, handler).await.expect("listens");
            nodes.push(NodeInfo {
                id: NodeId(id),
                data_address: listener.address().0.clone(),
                admin_address: String::new(),
                roles: vec!["storage".into()],
                incarnation: Incarnation(1),
                alive: true,
            });
            listeners.push(listener);
        }
        let (routing, _suspicions) = RoutingHandle::new();
        routing.publish(routing_of(nodes));
        FakeCluster { state, transport, routing, _listeners: listeners }
    }

    pub(crate) fn peers(&self) -> Peers {
        let transport: Arc<dyn Transport> = self.transport.clone();
        Peers::new(transport, self.routing.clone())
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.state.lock().fault = fault;
    }

    /// `BatchStat` requests so far.
    pub(crate) fn stat_request_count(&self) -> u32 {
        self.state.lock().stat_request_count
    }

    pub(crate) fn chains_used(&self) -> usize {
        let state = self.state.lock();
        state.chunks.keys().map(|(chain, _)| *chain).collect::<BTreeSet<_>>().len()
    }

    pub(crate) fn delete_namespaces(&self) {
        let mut routing = (*self.routing.current()).clone();
        routing.namespaces.clear();
        routing.version.0 += 1;
        assert!(self.routing.publish(routing));
    }
}

fn routing_of(nodes: Vec<NodeInfo>) -> Routing {
    let chain = |number: u32| ChainInfo {
        id: ChainId(number),
        version: ChainVersion(1),
        durability: Durability::Cache,
        targets: vec![ChainTarget {
            target: TargetId(u64::from(number)),
            node: NodeId(1 + number % NODE_COUNT),
            state: PublicState::Serving,
        }],
    };
    let chains: Vec<ChainInfo> = (1..=CHAIN_COUNT as u32).map(chain).collect();
    let table = ChainTableId(2);
    let table_version = ChainTableVersion(1);
    let tables = vec![ChainTable {
        id: table,
        version: table_version,
        chains: chains.iter().map(|chain| chain.id).collect(),
    }];
    let namespaces = vec![NamespaceInfo {
        id: NamespaceId(3),
        name: "tests".into(),
        table,
        table_version,
        class: Durability::Cache,
        capacity_bytes: 1 << 30,
    }];
    let mut routing = Routing::default();
    routing.version = RoutingVersion(1);
    routing.nodes = nodes;
    routing.chains = chains;
    routing.tables = tables;
    routing.namespaces = namespaces;
    routing.reindex();
    routing
}

impl Handler for Node {
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        Box::pin(async move {
            let payload = request.payload.complete().await?.to_vec();
            let mut state = self.0.lock();
            if state.fault == Fault::Refuse {
                return Err(Error::new(ErrorKind::Unsupported, "refused by the test"));
            }
            match request.kind {
                MessageKind::Update => state.update(&decode(&request.body)?, payload.into()),
                MessageKind::BatchRead => state.read(decode_table(&request.body)?),
                MessageKind::BatchStat => Ok(state.stat(decode(&request.body)?)),
                other => Err(Error::new(ErrorKind::Unsupported, format!("{other:?}"))),
            }
        })
    }
}

impl State {
    fn find(&self, chain: u32, chunk: [u8; 16]) -> Option<(Bytes, [u8; 32])> {
        let (bytes, tag) = self.chunks.get(&(chain, chunk))?.clone();
        Some((bytes, if self.fault == Fault::ForeignTag { [0xee; 32] } else { tag }))
    }

    fn update(&mut self, update: &UpdateRequest, payload: Bytes) -> Result<OutgoingReply> {
        assert_eq!(crc32c(&payload), update.checksum, "the checksum is that of the payload");
        let key = (update.chain.0, update.chunk.0);
        match update.kind {
            UpdateKind::Create if self.chunks.contains_key(&key) => {
                return Err(Error::new(ErrorKind::ChunkExists, "exists"));
            }
            UpdateKind::Create => drop(self.chunks.insert(key, (payload.clone(), update.tag))),
            UpdateKind::Remove => drop(self.chunks.remove(&key)),
            other => return Err(Error::new(ErrorKind::Unsupported, format!("{other:?}"))),
        }
        Ok(OutgoingReply::body(encode(&UpdateReply {
            version: ChunkVersion(1),
            chain_version: ChainVersion(1),
            checksum: update.checksum,
            len: payload.len() as u32,
        })))
    }

    fn read(&self, rows: &[ReadIo]) -> Result<OutgoingReply> {
        let mut results = Vec::new();
        let mut payload = Vec::new();
        for row in rows {
            let found = self.find(row.chain.get(), row.chunk);
            let status = if found.is_some() { 0 } else { ErrorKind::ChunkNotFound as u16 };
            let (bytes, tag) = found.unwrap_or_default();
            let part = bytes.slice(..bytes.len().min(row.len.get() as usize));
            results.push(ReadResult {
                status: status.into(),
                reserved: 0.into(),
                len: (part.len() as u32).into(),
                checksum: crc32c(&part).into(),
                chunk_len: (bytes.len() as u32).into(),
                version: 1.into(),
                tag,
                reserved_more: [0; 16],
            });
            payload.push(Payload::from_bytes(part));
        }
        Ok(OutgoingReply { body: encode_table(&results), payload })
    }

    fn stat(&mut self, request: BatchStatRequest) -> OutgoingReply {
        self.stat_request_count += 1;
        let results = request.queries.into_iter().map(|query| {
            let stat = |chunk: firepond_core::ids::ChunkId| {
                let found = self.find(query.chain.0, chunk.0);
                let version = ChunkVersion(u64::from(found.is_some()));
                let (bytes, tag) = found.unwrap_or_default();
                let (len, checksum) = (bytes.len() as u32, crc32c(&bytes));
                ChunkStat { chunk, version, len, checksum, tag }
            };
            Ok(query.chunks.iter().copied().map(stat).collect())
        });
        let results = results.collect();
        OutgoingReply::body(encode(&BatchStatReply { results, failed: vec![] }))
    }
}
