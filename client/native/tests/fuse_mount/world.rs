//! A cluster in this process: the real metadata service on a store in memory, and storage nodes
//! that keep chunks in a map.

use firepond_client::file_system::{FileSystem, FileSystemOptions};
use firepond_client::fuse::{Mount, MountOptions};
use firepond_core::buffer::BufferPool;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{
    ChainId, ChainTableId, ChainTableVersion, ChainVersion, ChunkId, ChunkVersion, Incarnation,
    NodeId, RoutingVersion, TargetId,
};
use firepond_core::payload::Payload;
use firepond_core::peer::Peers;
use firepond_core::routing::{
    ChainInfo, ChainTable, ChainTarget, Durability, NodeInfo, PublicState, Routing, RoutingHandle,
};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::tcp::TcpTransport;
use firepond_core::transport::{
    Handler, IncomingRequest, Listener, OutgoingReply, PeerAddress, Transport,
};
use firepond_core::wire::storage::{
    ChunkStat, ListChunksReply, ListChunksRequest, ReadIo, ReadResult, SpaceReply, TargetSpace,
    UpdateKind, UpdateReply, UpdateRequest, decode_table, encode_table,
};
use firepond_core::wire::{MessageKind, decode, encode};
use firepond_core::{Error, ErrorKind, Result};
use firepond_meta::{EngineOptions, MetaEngine, ServiceOptions, StoreKind};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

const CHAIN_COUNT: u32 = 4;
const META_NODE: NodeId = NodeId(100);
const STORAGE_NODE: NodeId = NodeId(1);
const SPACE_BYTES: u64 = 1 << 40;

type Chunks = BTreeMap<(ChainId, ChunkId), Vec<u8>>;

#[derive(Default)]
struct Storage(Mutex<Chunks>);

/// A mounted file system; taken away when it is dropped.
pub(crate) struct World {
    mount: Mount,
    runtime: Runtime,
    meta: Option<MetaEngine>,
    directory: tempfile::TempDir,
    _listener: Box<dyn Listener>,
}

impl World {
    pub(crate) fn start() -> World {
        let runtime = firepond_core::sys::task::runtime("world", 2).expect("a runtime");
        let _inside = runtime.enter();
        let transport: Arc<dyn Transport> = Arc::new(TcpTransport::new(BufferPool::new(256 << 20)));
        let (routing, _suspicions) = RoutingHandle::new();
        let any = PeerAddress("127.0.0.1:0".into());
        let storage = transport.listen(&any, Arc::new(Storage::default()));
        let listener = runtime.block_on(storage).expect("listens");
        routing.publish(routing_of(1, &listener.address().0, "127.0.0.1:1"));
        let options = EngineOptions {
            listen: any.0,
            data_dir: PathBuf::new(),
            store: StoreKind::Memory,
            worker_count: 1,
            service: ServiceOptions { node: META_NODE, ..ServiceOptions::default() },
        };
        let meta = MetaEngine::start(options, routing.clone()).expect("starts");
        routing.publish(routing_of(2, &listener.address().0, &meta.data_address()));
        let peers = Peers::new(transport, routing);
        let file_system = FileSystem::new(peers, FileSystemOptions::default());
        let directory = tempfile::tempdir().expect("a directory");
        let options = MountOptions::default();
        let mount = Mount::start(file_system, runtime.handle().clone(), directory.path(), options)
            .expect("mounts");
        World { mount, runtime, meta: Some(meta), directory, _listener: listener }
    }

    /// The mount point.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn mount(&self) -> &Mount {
        &self.mount
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.mount.unmount(true);
        let ended = self.mount.wait(Duration::from_secs(20));
        let _inside = self.runtime.enter();
        self.meta.take().into_iter().for_each(MetaEngine::stop);
        if !std::thread::panicking() {
            assert!(ended.expect("a clean end"), "the mount ended");
        }
    }
}

fn routing_of(version: u64, storage_address: &str, meta_address: &str) -> Routing {
    let node = |id, address: &str, role: &str| NodeInfo {
        id,
        data_address: address.into(),
        admin_address: String::new(),
        roles: vec![role.into()],
        incarnation: Incarnation(0),
        alive: true,
    };
    let chain = |number: u32| ChainInfo {
        id: ChainId(number),
        version: ChainVersion(1),
        durability: Durability::Durable,
        targets: vec![ChainTarget {
            target: TargetId(u64::from(number)),
            node: STORAGE_NODE,
            state: PublicState::Serving,
        }],
    };
    let chains: Vec<ChainInfo> = (1..=CHAIN_COUNT).map(chain).collect();
    let mut routing = Routing::default();
    routing.version = RoutingVersion(version);
    routing.nodes =
        vec![node(STORAGE_NODE, storage_address, "storage"), node(META_NODE, meta_address, "meta")];
    routing.tables = vec![ChainTable {
        id: ChainTableId(1),
        version: ChainTableVersion(1),
        chains: chains.iter().map(|chain| chain.id).collect(),
    }];
    routing.chains = chains;
    routing.reindex();
    routing
}

impl Handler for Storage {
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        Box::pin(async move {
            let payload = request.payload.complete().await?.to_vec();
            let mut chunks = self.0.lock();
            match request.kind {
                MessageKind::Update => update(&mut chunks, &decode(&request.body)?, &payload),
                MessageKind::BatchRead => read(&chunks, decode_table(&request.body)?),
                MessageKind::ListChunks => Ok(list(&chunks, &decode(&request.body)?)),
                MessageKind::Space => Ok(space(&chunks)),
                other => Err(Error::new(ErrorKind::Unsupported, format!("{other:?}"))),
            }
        })
    }
}

fn update(chunks: &mut Chunks, update: &UpdateRequest, payload: &[u8]) -> Result<OutgoingReply> {
    let key = (update.chain, update.chunk);
    let (offset, len) = (update.offset as usize, update.len as usize);
    match update.kind {
        UpdateKind::Write => {
            assert_eq!(crc32c(payload), update.checksum, "the checksum is that of the payload");
            let chunk = chunks.entry(key).or_default();
            chunk.resize(chunk.len().max(offset + len), 0);
            chunk[offset..offset + len].copy_from_slice(payload);
        }
        UpdateKind::Replace | UpdateKind::Create => drop(chunks.insert(key, payload.to_vec())),
        UpdateKind::PunchHole | UpdateKind::Fence => {
            let chunk = chunks.entry(key).or_default();
            let end = (offset + len).min(chunk.len());
            chunk[offset.min(end)..end].fill(0);
        }
        UpdateKind::Truncate => chunks.entry(key).or_default().resize(len, 0),
        UpdateKind::Remove => drop(chunks.remove(&key)),
    }
    let bytes = chunks.get(&key).map_or(&[][..], |chunk| chunk);
    Ok(OutgoingReply::body(encode(&UpdateReply {
        version: ChunkVersion(1),
        chain_version: ChainVersion(1),
        checksum: crc32c(bytes),
        len: bytes.len() as u32,
    })))
}

fn read(chunks: &Chunks, rows: &[ReadIo]) -> Result<OutgoingReply> {
    let mut results = Vec::new();
    let mut payload = Vec::new();
    for row in rows {
        let found = chunks.get(&(ChainId(row.chain.get()), ChunkId(row.chunk)));
        let status = if found.is_some() { 0 } else { ErrorKind::ChunkNotFound as u16 };
        let bytes = found.map_or(&[][..], |chunk| chunk);
        let from = bytes.len().min(row.offset.get() as usize);
        let to = bytes.len().min(from + row.len.get() as usize);
        let part = bytes[from..to].to_vec();
        results.push(ReadResult {
            status: status.into(),
            reserved: 0.into(),
            len: (part.len() as u32).into(),
            checksum: crc32c(&part).into(),
            chunk_len: (bytes.len() as u32).into(),
            version: 1.into(),
            tag: [0; 32],
            reserved_more: [0; 16],
        });
        payload.push(Payload::from_bytes(part.into()));
    }
    Ok(OutgoingReply { body: encode_table(&results), payload })
}

fn list(chunks: &Chunks, request: &ListChunksRequest) -> OutgoingReply {
    let range = (request.chain, request.from)..(request.chain, request.to);
    let stat = |((_, chunk), bytes): (&(ChainId, ChunkId), &Vec<u8>)| ChunkStat {
        chunk: *chunk,
        version: ChunkVersion(1),
        len: bytes.len() as u32,
        checksum: crc32c(bytes),
        tag: [0; 32],
    };
    let mut found: Vec<ChunkStat> = chunks.range(range).map(stat).collect();
    if request.reverse {
        found.reverse();
    }
    let more = found.len() > request.limit as usize;
    found.truncate(request.limit as usize);
    OutgoingReply::body(encode(&ListChunksReply { chunks: found, more }))
}

fn space(chunks: &Chunks) -> OutgoingReply {
    let targets = (1..=CHAIN_COUNT).map(|number| TargetSpace {
        target: TargetId(u64::from(number)),
        node: STORAGE_NODE,
        used_bytes: 0,
        chunk_count: chunks.len() as u64,
        disk: 1,
        disk_total_bytes: SPACE_BYTES,
        disk_free_bytes: SPACE_BYTES / 2,
    });
    OutgoingReply::body(encode(&SpaceReply { targets: targets.collect() }))
}
