//! A chain of replicas that keep what they saw and fail as they are told.

mod hedging;

use bytes::Bytes;
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::checksum::crc32c;
use firepond_core::ids::{
    ChainId, ChainVersion, ChunkId, ChunkIndex, ChunkVersion, ClientId, Incarnation, InodeId,
    NodeId, RoutingVersion, TargetId, WriteId,
};
use firepond_core::payload::Payload;
use firepond_core::peer::{ChainClient, ChunkRead, ChunkUpdate, Peers};
use firepond_core::routing::{
    ChainInfo, ChainTarget, Durability, NodeInfo, PublicState, Routing, RoutingHandle, Suspicion,
};
use firepond_core::sys::clock::{Instant, now};
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
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The one chain.
pub(crate) const CHAIN: ChainId = ChainId(9);
/// The index of a chunk that no replica has.
pub(crate) const MISSING: u32 = 999_999;

/// One replica.
#[derive(Default)]
pub(crate) struct Replica(Mutex<State>);

#[derive(Default)]
struct State {
    updates: Vec<UpdateRequest>,
    batch_lens: Vec<usize>,
    failures: VecDeque<ErrorKind>,
    refused: HashMap<ChunkId, ErrorKind>,
    silent: bool,
    corrupting: bool,
    delay: Duration,
}

impl Replica {
    pub(crate) fn fail_next(&self, kind: ErrorKind) {
        self.0.lock().failures.push_back(kind);
    }

    pub(crate) fn refuse_chunk(&self, chunk: ChunkId, kind: ErrorKind) {
        self.0.lock().refused.insert(chunk, kind);
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.0.lock().silent = silent;
    }

    pub(crate) fn set_delay_ms(&self, delay_ms: u64) {
        self.0.lock().delay = Duration::from_millis(delay_ms);
    }

    pub(crate) fn set_corrupting(&self, corrupting: bool) {
        self.0.lock().corrupting = corrupting;
    }

    pub(crate) fn write_ids(&self) -> Vec<WriteId> {
        self.0.lock().updates.iter().map(|update| update.write_id).collect()
    }

    pub(crate) fn chain_versions(&self) -> Vec<u32> {
        self.0.lock().updates.iter().map(|update| update.chain_version.0).collect()
    }

    pub(crate) fn batch_lens(&self) -> Vec<usize> {
        self.0.lock().batch_lens.clone()
    }

    async fn answer(&self, request: IncomingRequest) -> Result<OutgoingReply> {
        let reply = self.record(&request);
        let delay = self.0.lock().delay;
        tokio::time::sleep(delay).await;
        if self.0.lock().silent {
            std::future::pending::<()>().await;
        }
        reply
    }

    fn record(&self, request: &IncomingRequest) -> Result<OutgoingReply> {
        match request.kind {
            MessageKind::Update => {
                let mut state = self.0.lock();
                state.updates.push(decode(&request.body)?);
                if let Some(kind) = state.failures.pop_front() {
                    return Err(Error::new(kind, "told to"));
                }
                Ok(OutgoingReply::body(encode(&UpdateReply {
                    version: ChunkVersion(1),
                    chain_version: ChainVersion(1),
                    checksum: 0,
                    len: 0,
                })))
            }
            MessageKind::BatchRead => self.read(decode_table(&request.body)?),
            MessageKind::BatchStat => {
                let asked: BatchStatRequest = decode(&request.body)?;
                let stat = |chunk: &ChunkId| ChunkStat {
                    chunk: *chunk,
                    version: ChunkVersion(1),
                    len: 16,
                    checksum: 0,
                    tag: [0; 32],
                };
                let queries = asked.queries.iter();
                let results = queries.map(|query| Ok(query.chunks.iter().map(stat).collect()));
                let results = results.collect();
                Ok(OutgoingReply::body(encode(&BatchStatReply { results, failed: vec![] })))
            }
            kind => Err(Error::invalid(format!("unexpected: {kind:?}"))),
        }
    }

    fn read(&self, rows: &[ReadIo]) -> Result<OutgoingReply> {
        let mut state = self.0.lock();
        state.batch_lens.push(rows.len());
        let mut results = Vec::new();
        let mut payload = Vec::new();
        for row in rows {
            let id = ChunkId(row.chunk);
            let missing = (id == chunk(MISSING)).then_some(ErrorKind::ChunkNotFound);
            let refusal = missing.or(state.refused.get(&id).copied());
            let bytes = if refusal.is_some() { vec![] } else { contents(&id) };
            results.push(ReadResult {
                status: refusal.map_or(0, |kind| kind as u16).into(),
                reserved: 0.into(),
                len: (bytes.len() as u32).into(),
                checksum: (crc32c(&bytes) ^ u32::from(state.corrupting)).into(),
                chunk_len: 16.into(),
                version: 1.into(),
                tag: [0; 32],
                reserved_more: [0; 16],
            });
            payload.push(Payload::from_bytes(bytes.into()));
        }
        Ok(OutgoingReply { body: encode_table(&results), payload })
    }
}

struct Shared(Arc<Replica>);

impl Handler for Shared {
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        Box::pin(self.0.answer(request))
    }
}

/// Replicas, a network, routing.
pub(crate) struct World {
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) suspicions: mpsc::Receiver<Suspicion>,
    listeners: Vec<Option<Box<dyn Listener>>>,
    routing: RoutingHandle,
    client: ChainClient,
    version: u32,
}

impl World {
    pub(crate) async fn new(count: usize) -> World {
        let network = MemoryNetwork::new();
        let transport = || MemoryTransport::new(&network, BufferPool::new(2 * BUFFER_MAX_BYTES));
        let (routing, suspicions) = RoutingHandle::new();
        let replicas: Vec<_> = (0..count).map(|_| Arc::new(Replica::default())).collect();
        let mut listeners = Vec::new();
        for (index, replica) in replicas.iter().enumerate() {
            let handler = Arc::new(Shared(Arc::clone(replica)));
            let address = PeerAddress(format!("replica-{index}"));
            listeners.push(Some(transport().listen(&address, handler).await.expect("listens")));
        }
        let peers = Peers::new(Arc::new(transport()), routing.clone());
        let client = ChainClient::new(peers, ClientId(42));
        let mut world = World { replicas, suspicions, listeners, routing, client, version: 0 };
        world.publish(&(0..count).collect::<Vec<_>>());
        world
    }

    pub(crate) fn client(&self) -> ChainClient {
        self.client.clone()
    }

    /// Ends a replica's process.
    pub(crate) fn stop(&mut self, index: usize) {
        self.listeners[index] = None;
    }

    /// Publishes newer routing in which these replicas serve, in this order, and the others are
    /// dead.
    pub(crate) fn publish(&mut self, serving: &[usize]) {
        self.publish_with(serving, &[], Durability::Durable);
    }

    /// As `publish`, with replicas that are away, of a chain of some class.
    pub(crate) fn publish_with(
        &mut self,
        serving: &[usize],
        away: &[usize],
        durability: Durability,
    ) {
        self.version += 1;
        let node = |index: usize| NodeInfo {
            id: NodeId(index as u32 + 1),
            data_address: format!("replica-{index}"),
            admin_address: String::new(),
            roles: vec!["storage".to_owned()],
            incarnation: Incarnation(1),
            alive: serving.contains(&index),
        };
        let target = |(index, state): (&usize, PublicState)| ChainTarget {
            target: TargetId(*index as u64 + 100),
            node: NodeId(*index as u32 + 1),
            state,
        };
        let serving = serving.iter().map(|index| (index, PublicState::Serving));
        let away = away.iter().map(|index| (index, PublicState::Offline));
        let mut routing = Routing::default();
        routing.version = RoutingVersion(u64::from(self.version));
        routing.nodes = (0..self.replicas.len()).map(node).collect();
        routing.chains = vec![ChainInfo {
            id: CHAIN,
            version: ChainVersion(self.version),
            durability,
            targets: serving.chain(away).map(target).collect(),
        }];
        routing.reindex();
        assert!(self.routing.publish(routing));
    }
}

/// A chunk by a number.
pub(crate) fn chunk(index: u32) -> ChunkId {
    ChunkId::file(InodeId(5), ChunkIndex(index))
}

/// What every replica has of a chunk.
pub(crate) fn contents(chunk: &ChunkId) -> Vec<u8> {
    chunk.0.iter().rev().copied().collect()
}

/// A read of a chunk's begin.
pub(crate) fn read(chunk: ChunkId, len: u32) -> ChunkRead {
    ChunkRead { chain: CHAIN, chunk, offset: 0, len, sink: None, prefer_head: false }
}

/// A write of some bytes.
pub(crate) fn update(bytes: &'static [u8]) -> ChunkUpdate {
    ChunkUpdate {
        chunk: chunk(0),
        kind: UpdateKind::Write,
        offset: 0,
        len: bytes.len() as u32,
        payload: Payload::from_bytes(Bytes::from_static(bytes)),
        checksum: crc32c(bytes),
        chunk_len_max: 1 << 20,
        tag: [0; 32],
    }
}

/// So many milliseconds from now.
pub(crate) fn deadline(ms: u64) -> Instant {
    now() + Duration::from_millis(ms)
}
