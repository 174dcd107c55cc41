//! The service: takes requests, runs operations, answers.
//!
//! Why a changing operation runs as its own task: the caller's connection may break at any time,
//! and what was begun (a commit, a cut) is then finished all the same.
//! Invariants: a reading operation never commits; times never go back within one process.

use crate::background;
use crate::chunks::Chunks;
use crate::counters::{Counters, OperationStatus};
use crate::inode_ids::InodeIds;
use crate::layouts::{LayoutDefaults, Layouts};
use crate::locks::InodeLocks;
use crate::ops;
use crate::ops::stat_file_system::SpaceCache;
use crate::sessions::Sessions;
use crate::view::{Effects, View};
use firepond_core::ids::{ClientId, Incarnation, NodeId};
use firepond_core::kv::KvStore;
use firepond_core::routing::RoutingHandle;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::sys::task;
use firepond_core::transport::{Handler, IncomingRequest, OutgoingReply};
use firepond_core::wire::meta::{Credentials, MetaReply, MetaRequest, Operation};
use firepond_core::wire::{self, MessageKind, Pong};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How a metadata service behaves.
#[derive(Clone, Copy, Debug)]
pub struct ServiceOptions {
    /// Who this is.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// What a file gets unless its creator says otherwise.
    pub layout: LayoutDefaults,
    /// How long a client's session lives without a sign of life.
    pub session_lease: Duration,
    /// Owner of the root directory, when it is made.
    pub root_uid: u32,
    /// Group of the root directory, when it is made.
    pub root_gid: u32,
}

impl Default for ServiceOptions {
    fn default() -> ServiceOptions {
        ServiceOptions {
            node: NodeId(0),
            incarnation: Incarnation(0),
            layout: LayoutDefaults::default(),
            session_lease: Duration::from_secs(15),
            root_uid: 0,
            root_gid: 0,
        }
    }
}

/// Who asks, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) client: ClientId,
    pub(crate) request: u64,
    pub(crate) credentials: Credentials,
    pub(crate) deadline: Instant,
}

impl Caller {
    /// The service itself.
    pub(crate) fn internal(deadline: Instant) -> Caller {
        Caller { client: ClientId(0), request: 0, credentials: Credentials::default(), deadline }
    }
}

/// The metadata service over one store. Cloning is cheap; clones are the same service.
pub struct MetaService<S: KvStore>(Arc<Inner<S>>);

impl<S: KvStore> Clone for MetaService<S> {
    fn clone(&self) -> MetaService<S> {
        MetaService(Arc::clone(&self.0))
    }
}

struct Inner<S> {
    store: S,
    routing: RoutingHandle,
    chunks: Arc<dyn Chunks>,
    options: ServiceOptions,
    ids: InodeIds,
    layouts: Layouts,
    sessions: Sessions,
    locks: InodeLocks,
    space: SpaceCache,
    counters: Counters,
    last_time_ns: AtomicU64,
    backlog: AtomicUsize,
    garbage: Notify,
}

/// What the service is doing, for status pages.
#[derive(Clone, Debug)]
pub struct ServiceStatus {
    /// Inodes in use.
    pub inode_count: u64,
    /// Clients with a session.
    pub client_count: usize,
    /// Files that living clients have open.
    pub open_file_count: usize,
    /// Files without a name that wait for collection.
    pub collect_backlog: usize,
    /// Transactions that had to run again.
    pub conflict_count: u64,
    /// Operations by kind.
    pub operations: Vec<OperationStatus>,
}

impl<S: KvStore> MetaService<S> {
    /// Opens the namespace in a store; makes the root directory at the first start.
    ///
    /// # Errors
    /// What the store answers; `InvalidArgument` for a bad default chunk size.
    pub async fn open(
        store: S,
        routing: RoutingHandle,
        chunks: Arc<dyn Chunks>,
        options: ServiceOptions,
    ) -> Result<MetaService<S>> {
        crate::layouts::check_chunk_size(options.layout.chunk_size_bytes)?;
        let meta = MetaService(Arc::new(Inner {
            store,
            routing,
            chunks,
            options,
            ids: InodeIds::new(),
            layouts: Layouts::new(options.layout),
            sessions: Sessions::new(options.session_lease),
            locks: InodeLocks::default(),
            space: SpaceCache::default(),
            counters: Counters::default(),
            last_time_ns: AtomicU64::new(0),
            backlog: AtomicUsize::new(0),
            garbage: Notify::new(),
        }));
        if crate::root::ensure(&meta).await? {
            meta.sessions().settled_from_start();
        }
        background::count_inodes(&meta).await?;
        Ok(meta)
    }

    /// Answers one request.
    ///
    /// # Errors
    /// What the operation answers.
    pub async fn call(&self, request: MetaRequest, deadline: Instant) -> Result<MetaReply> {
        let begun = clock::now();
        let MetaRequest { client, request, credentials, operation } = request;
        let index = ops::index_of(&operation);
        let caller = Caller { client, request, credentials, deadline };
        self.sessions().touch(client);
        let reply = if ops::only_reads(&operation) {
            ops::dispatch(self, &caller, operation).await
        } else {
            self.call_apart(caller, operation).await
        };
        self.counters().operation(index, clock::now() - begun, reply.is_err());
        reply
    }

    async fn call_apart(&self, caller: Caller, operation: Operation) -> Result<MetaReply> {
        let meta = self.clone();
        let work = task::spawn(async move { ops::dispatch(&meta, &caller, operation).await });
        work.await.unwrap_or_else(|error| Err(task::unfinished(&error)))
    }

    /// One turn of the background work: finishes truncations, prunes sessions, collects garbage,
    /// forgets old requests. `run_background` calls the same in a loop.
    ///
    /// # Errors
    /// What the store answers; the next turn tries again.
    pub async fn turn(&self, deadline: Instant) -> Result<()> {
        background::one_turn(self, 0, deadline).await
    }

    /// What the service is doing.
    pub fn status(&self) -> ServiceStatus {
        let (client_count, open_file_count) = self.sessions().counts();
        ServiceStatus {
            inode_count: self.counters().inode_count(),
            client_count,
            open_file_count,
            collect_backlog: self.0.backlog.load(Ordering::Relaxed),
            conflict_count: self.counters().conflicts(),
            operations: self.counters().status(),
        }
    }

    pub(crate) fn store(&self) -> &S {
        &self.0.store
    }

    pub(crate) fn routing(&self) -> &RoutingHandle {
        &self.0.routing
    }

    pub(crate) fn chunks(&self) -> &dyn Chunks {
        &*self.0.chunks
    }

    pub(crate) fn options(&self) -> &ServiceOptions {
        &self.0.options
    }

    pub(crate) fn ids(&self) -> &InodeIds {
        &self.0.ids
    }

    pub(crate) fn layouts(&self) -> &Layouts {
        &self.0.layouts
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(crate) fn locks(&self) -> &InodeLocks {
        &self.0.locks
    }

    pub(crate) fn space(&self) -> &SpaceCache {
        &self.0.space
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Wakes the collector.
    pub(crate) fn garbage(&self) -> &Notify {
        &self.0.garbage
    }

    pub(crate) fn set_backlog(&self, count: usize) {
        self.0.backlog.store(count, Ordering::Relaxed);
    }

    /// The time, in nanoseconds since 1970, later than at any call before.
    pub(crate) fn now_ns(&self) -> u64 {
        let wall_ns = clock::unix_time_ns();
        let previous = self.0.last_time_ns.fetch_max(wall_ns, Ordering::Relaxed);
        if wall_ns > previous {
            return wall_ns;
        }
        self.0.last_time_ns.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Does what follows from a committed transaction.
    pub(crate) fn after_commit(&self, effects: Effects) {
        self.counters().inodes(effects.inodes_delta);
        if effects.garbage {
            self.garbage().notify_one();
        }
    }

    /// A view for an operation that only reads.
    pub(crate) fn reading(&self) -> View<S::Transaction> {
        View::reading(self.store().begin())
    }

    async fn answer(&self, request: IncomingRequest) -> Result<OutgoingReply> {
        let body = match request.kind {
            MessageKind::Ping => {
                let ServiceOptions { node, incarnation, .. } = *self.options();
                wire::encode(&Pong { node, incarnation })
            }
            MessageKind::Meta => {
                let reply = self.call(wire::decode(&request.body)?, request.deadline).await?;
                wire::encode(&reply)
            }
            kind => {
                return Err(Error::new(ErrorKind::Unsupported, "not a metadata request")
                    .with("kind", format!("{kind:?}")));
            }
        };
        Ok(OutgoingReply::body(body))
    }
}

impl<S: KvStore> Handler for MetaService<S> {
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        Box::pin(self.answer(request))
    }
}
