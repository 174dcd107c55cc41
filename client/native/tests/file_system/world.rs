//! A cluster in memory: the real metadata service, one storage node, two chains, a client.

use crate::storage::{Shared, Storage};
use firepond_client::file_system::{
    CreateOptions, FileSystem, FileSystemOptions, OpenFile, OpenOptions,
};
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::ids::{
    ChainId, ChainTableId, ChainTableVersion, ChainVersion, ClientId, Incarnation, InodeId, NodeId,
    RoutingVersion, TargetId,
};
use firepond_core::kv::MemoryStore;
use firepond_core::peer::{ChainClient, Peers};
use firepond_core::routing::{
    ChainInfo, ChainTable, ChainTarget, Durability, NodeInfo, PublicState, Routing, RoutingHandle,
};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::memory::{MemoryNetwork, MemoryTransport};
use firepond_core::transport::{
    Handler, IncomingRequest, Listener, OutgoingReply, PeerAddress, SinkSlice, Transport,
};
use firepond_core::wire::meta::Credentials;
use firepond_core::{Error, ErrorKind, Result};
use firepond_meta::{LayoutDefaults, MetaService, ServiceOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a chunk in these tests.
pub(crate) const CHUNK: usize = 64 << 10;

/// The cluster. Dropping it ends its services.
pub(crate) struct World {
    pub(crate) storage: Arc<Storage>,
    pub(crate) meta_faults: Arc<MetaFaults>,
    network: MemoryNetwork,
    routing: RoutingHandle,
    _listeners: Vec<Box<dyn Listener>>,
}

/// What goes wrong between a client and the metadata service.
#[derive(Default)]
pub(crate) struct MetaFaults {
    /// So many requests are answered, but the answer is lost.
    pub(crate) lose_replies: AtomicU32,
}

struct FaultyMeta(MetaService<MemoryStore>, Arc<MetaFaults>);

impl Handler for FaultyMeta {
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        Box::pin(async move {
            let reply = self.0.handle(request).await;
            let lose = |left: u32| left.checked_sub(1);
            let lost = self.1.lose_replies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose);
            match lost {
                Ok(_) => Err(Error::new(ErrorKind::PeerUnreachable, "the reply was lost")),
                Err(_) => reply,
            }
        })
    }
}

impl World {
    pub(crate) async fn new() -> World {
        let network = MemoryNetwork::new();
        let (routing, _) = RoutingHandle::new();
        routing.publish(routing_of_two_chains());
        let storage = Arc::new(Storage::default());
        let meta_faults = Arc::new(MetaFaults::default());
        let transport = transport(&network);
        let stored = Arc::new(Shared(Arc::clone(&storage)));
        let storage_address = PeerAddress("storage".into());
        let mut listeners =
            vec![transport.listen(&storage_address, stored).await.expect("listens")];
        let peers = Peers::new(transport.clone(), routing.clone());
        let chunks = Arc::new(ChainClient::new(peers, ClientId(7)));
        let layout = LayoutDefaults { chunk_size_bytes: CHUNK as u32, ..LayoutDefaults::default() };
        let options = ServiceOptions { layout, ..ServiceOptions::default() };
        let meta = MetaService::open(MemoryStore::new(), routing.clone(), chunks, options);
        let meta = FaultyMeta(meta.await.expect("opens"), Arc::clone(&meta_faults));
        let address = PeerAddress("meta".into());
        listeners.push(transport.listen(&address, Arc::new(meta)).await.expect("listens"));
        World { storage, meta_faults, network, routing, _listeners: listeners }
    }

    /// A client process of its own.
    pub(crate) fn client(&self, options: FileSystemOptions) -> FileSystem {
        let peers = Peers::new(transport(&self.network), self.routing.clone());
        FileSystem::new(peers, options)
    }
}

fn transport(network: &MemoryNetwork) -> Arc<dyn Transport> {
    Arc::new(MemoryTransport::new(network, BufferPool::new(2 * BUFFER_MAX_BYTES)))
}

fn routing_of_two_chains() -> Routing {
    let node = |id: u32, name: &str| NodeInfo {
        id: NodeId(id),
        data_address: name.to_owned(),
        admin_address: String::new(),
        roles: vec![name.to_owned()],
        incarnation: Incarnation(1),
        alive: true,
    };
    let chain = |id: u32| ChainInfo {
        id: ChainId(id),
        version: ChainVersion(1),
        durability: Durability::Durable,
        targets: vec![ChainTarget {
            target: TargetId(u64::from(id)),
            node: NodeId(1),
            state: PublicState::Serving,
        }],
    };
    let mut routing = Routing::default();
    routing.version = RoutingVersion(1);
    routing.nodes = vec![node(1, "storage"), node(2, "meta")];
    routing.chains = vec![chain(1), chain(2)];
    routing.tables = vec![ChainTable {
        id: ChainTableId(1),
        version: ChainTableVersion(1),
        chains: vec![ChainId(1), ChainId(2)],
    }];
    routing.reindex();
    routing
}

/// The user of these tests.
pub(crate) fn root() -> Credentials {
    Credentials::default()
}

/// A new file, open for reading and writing.
pub(crate) async fn create(files: &FileSystem, name: &str) -> Arc<OpenFile> {
    let options = CreateOptions { mode: 0o644, read: true, write: true, ..Default::default() };
    let created = files.create(&root(), InodeId::ROOT, name.as_bytes(), options).await;
    created.expect("creates").0
}

/// An existing file, open for reading and maybe writing.
pub(crate) async fn open(files: &FileSystem, name: &str, write: bool) -> Arc<OpenFile> {
    let found = files.lookup(&root(), InodeId::ROOT, name.as_bytes()).await.expect("exists");
    let options = OpenOptions { read: true, write, truncate: false };
    files.open(&root(), found.inode, options).await.expect("opens")
}

/// All bytes of a range.
pub(crate) async fn read(file: &OpenFile, offset: u64, len: usize) -> Vec<u8> {
    let payloads = file.read(offset, len).await.expect("reads");
    payloads.iter().flat_map(|payload| payload.filled().to_vec()).collect()
}

/// Memory for one read, in slices of given lengths.
pub(crate) struct Memory(Arc<Vec<u8>>);

impl Memory {
    pub(crate) fn new(len: usize) -> Memory {
        Memory(Arc::new(vec![b'?'; len]))
    }

    pub(crate) fn sinks(&self, lens: &[usize]) -> Vec<SinkSlice> {
        let mut at = 0;
        let slices = lens.iter().map(|len| {
            let owner = Arc::clone(&self.0);
            // SAFETY: the vector is not looked at before the read has ended, and slices are
            // disjoint.
            let slice = unsafe { SinkSlice::new(owner.as_ptr().add(at).cast_mut(), *len, owner) };
            at += len;
            slice
        });
        slices.collect()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
