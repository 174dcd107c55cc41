//! The service as a process runs it: its own threads, its store, its listener, its background.
//!
//! Invariants: `stop` returns when nothing of the engine runs any more and the store is closed;
//! what was acknowledged before is durable with the embedded store.

use crate::background;
use crate::service::{MetaService, ServiceOptions, ServiceStatus};
use firepond_core::buffer::BufferPool;
use firepond_core::ids::ClientId;
use firepond_core::kv::AnyStore;
use firepond_core::kv::embedded::EmbeddedStore;
use firepond_core::kv::memory::MemoryStore;
use firepond_core::peer::{ChainClient, Peers};
use firepond_core::routing::RoutingHandle;
use firepond_core::sys::{random, task};
use firepond_core::transport::tcp::TcpTransport;
use firepond_core::transport::{Listener, PeerAddress, Transport};
use firepond_core::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Buffers for messages: metadata carries no bulk data.
const BUFFER_BYTES: usize = 64 << 20;
/// How long running operations get to end when the engine stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Which store keeps the namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Forgets everything at the end of the process.
    Memory,
    /// Durable, in the data directory.
    Embedded,
}

/// How an engine is run.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where to listen: "host:port", port 0 picks one.
    pub listen: String,
    /// Where the embedded store is.
    pub data_dir: PathBuf,
    /// Which store.
    pub store: StoreKind,
    /// Threads.
    pub worker_count: usize,
    /// How the service behaves.
    pub service: ServiceOptions,
}

/// A running metadata service.
pub struct MetaEngine {
    runtime: Runtime,
    service: MetaService<AnyStore>,
    store: AnyStore,
    listener: Box<dyn Listener>,
    background: JoinHandle<()>,
}

impl MetaEngine {
    /// Opens the store, listens and serves. Blocks; not to be called from an async task.
    ///
    /// # Errors
    /// `StoreLocked`, `IoFailed`, `StoreCorrupt`, `InvalidArgument` for bad options.
    pub fn start(options: EngineOptions, routing: RoutingHandle) -> Result<MetaEngine> {
        let runtime = task::runtime("firepond-meta", options.worker_count.max(1))
            .map_err(|error| Error::io(&error, "start threads"))?;
        let store = match options.store {
            StoreKind::Memory => AnyStore::Memory(MemoryStore::new()),
            StoreKind::Embedded => AnyStore::Embedded(EmbeddedStore::open(&options.data_dir)?),
        };
        let transport: Arc<dyn Transport> =
            Arc::new(TcpTransport::new(BufferPool::new(BUFFER_BYTES)));
        let peers = Peers::new(Arc::clone(&transport), routing.clone());
        let chunks = Arc::new(ChainClient::new(peers, ClientId(random::u64())));
        let address = PeerAddress(options.listen);
        let serving = runtime.block_on(async {
            let service =
                MetaService::open(store.clone(), routing, chunks, options.service).await?;
            let listener = transport.listen(&address, Arc::new(service.clone())).await?;
            let background = task::spawn(background::run(service.clone()));
            Ok::<_, Error>((service, listener, background))
        });
        let (service, listener, background) = match serving {
            Ok(serving) => serving,
            Err(error) => {
                store.close();
                return Err(error);
            }
        };
        tracing::info!(address = %listener.address(), "metadata service listens");
        Ok(MetaEngine { runtime, service, store, listener, background })
    }

    /// Where it listens, with the port that was picked.
    pub fn data_address(&self) -> String {
        self.listener.address().0.clone()
    }

    /// What it is doing.
    pub fn status(&self) -> ServiceStatus {
        self.service.status()
    }

    /// Stops serving and closes the store. Blocks; not to be called from an async task.
    pub fn stop(self) {
        self.background.abort();
        drop(self.listener);
        self.store.close();
        self.runtime.shutdown_timeout(STOP_TIMEOUT);
    }
}
