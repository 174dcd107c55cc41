//! A metadata service over either engine, with chunks that a test can look at and break.

use firepond_core::ids::*;
use firepond_core::kv::{EmbeddedStore, KvStore, MemoryStore};
use firepond_core::layout::FileLayout;
use firepond_core::routing::{
    ChainInfo, ChainTable, ChainTarget, Durability, PublicState, Routing, RoutingHandle,
};
use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::wire::meta::*;
use firepond_core::wire::storage::{ChunkStat, ListChunksReply, TargetSpace};
use firepond_core::{Error, ErrorKind, Result};
use firepond_meta::{ChunkRange, Chunks, MetaService, ServiceOptions};
use parking_lot::Mutex;
use serde_bytes::ByteBuf;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

pub const ROOT: InodeId = InodeId::ROOT;
pub const CHAINS: u32 = 5;
pub const LEASE: Duration = Duration::from_millis(200);

/// Chunks in memory. After `allow` more updates every call fails, as if the chains were gone.
#[derive(Clone, Default)]
pub struct FakeChunks(Arc<FakeInner>);

struct FakeInner {
    lens: Mutex<BTreeMap<(ChainId, ChunkId), u32>>,
    updates_left: AtomicUsize,
}

impl Default for FakeInner {
    fn default() -> FakeInner {
        FakeInner { lens: Mutex::default(), updates_left: AtomicUsize::new(usize::MAX) }
    }
}

impl FakeChunks {
    pub fn allow(&self, updates: usize) {
        self.0.updates_left.store(updates, Ordering::Relaxed);
    }

    /// What a client's write leaves on the chains.
    pub fn write(&self, inode: InodeId, layout: &FileLayout, offset: u64, len: u64) {
        let mut lens = self.0.lens.lock();
        let size = u64::from(layout.chunk_size_bytes);
        for index in offset / size..(offset + len).div_ceil(size) {
            let chunk = ChunkIndex(index as u32);
            let chain = ChainId(layout.chain_slot(chunk, CHAINS) + 1);
            let end = ((offset + len) - index * size).min(size) as u32;
            let slot = lens.entry((chain, ChunkId::file(inode, chunk))).or_default();
            *slot = end.max(*slot);
        }
    }

    /// Index and length of a file's chunks.
    pub fn of(&self, inode: InodeId) -> Vec<(u32, u32)> {
        let lens = self.0.lens.lock();
        let mut found: Vec<(u32, u32)> = lens
            .iter()
            .filter_map(|((_, chunk), len)| {
                let (owner, index) = chunk.file_parts()?;
                (owner == inode).then_some((index.0, *len))
            })
            .collect();
        found.sort_unstable();
        found
    }

    fn take(&self) -> Result<()> {
        let left = &self.0.updates_left;
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            if left == usize::MAX { Some(left) } else { left.checked_sub(1) }
        });
        taken.map(drop).map_err(|_| Error::new(ErrorKind::PeerUnreachable, "the chains are gone"))
    }
}

impl Chunks for FakeChunks {
    fn list(
        &self,
        chain: ChainId,
        range: ChunkRange,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<ListChunksReply>> {
        Box::pin(async move {
            self.take()?;
            let lens = self.0.lens.lock();
            let inside = lens.range((chain, range.from)..(chain, range.to));
            let mut found: Vec<ChunkStat> = inside
                .map(|((_, chunk), len)| ChunkStat {
                    chunk: *chunk,
                    version: ChunkVersion(1),
                    len: *len,
                    checksum: 0,
                    tag: [0; 32],
                })
                .collect();
            if range.reverse {
                found.reverse();
            }
            // Small pages, so that paging is exercised.
            let limit = (range.limit as usize).min(3);
            let more = found.len() > limit;
            found.truncate(limit);
            Ok(ListChunksReply { chunks: found, more })
        })
    }

    fn truncate(
        &self,
        chain: ChainId,
        chunk: ChunkId,
        len: u32,
        _chunk_len_max: u32,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.take()?;
            self.0.lens.lock().insert((chain, chunk), len);
            Ok(())
        })
    }

    fn remove(
        &self,
        chain: ChainId,
        chunk: ChunkId,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.take()?;
            self.0.lens.lock().remove(&(chain, chunk));
            Ok(())
        })
    }

    fn space(&self, _deadline: Instant) -> BoxFuture<'_, Result<Vec<TargetSpace>>> {
        // Two nodes; the disk of node 1 is shared by all its targets.
        let space = |target, node, disk| TargetSpace {
            target: TargetId(target),
            node: NodeId(node),
            disk,
            used_bytes: 1,
            chunk_count: 1,
            disk_total_bytes: 1000,
            disk_free_bytes: 600,
        };
        let of_chain = |chain: u64| [space(chain * 10 + 1, 1, 0), space(chain * 10 + 2, 2, 0)];
        let spaces = (1..=u64::from(CHAINS)).flat_map(of_chain).collect();
        Box::pin(async move { Ok(spaces) })
    }
}

/// A table of chains, each with two targets on two nodes.
pub fn routing() -> RoutingHandle {
    let target = |id, node| ChainTarget {
        target: TargetId(id),
        node: NodeId(node),
        state: PublicState::Serving,
    };
    let chain = |id: u32| ChainInfo {
        id: ChainId(id),
        version: ChainVersion(1),
        durability: Durability::Durable,
        targets: vec![target(u64::from(id) * 10 + 1, 1), target(u64::from(id) * 10 + 2, 2)],
    };
    let mut routing = Routing::default();
    routing.version = RoutingVersion(1);
    routing.chains = (1..=CHAINS).map(chain).collect();
    routing.tables.push(ChainTable {
        id: ChainTableId(1),
        version: ChainTableVersion(1),
        chains: (1..=CHAINS).map(ChainId).collect(),
    });
    routing.reindex();
    let (handle, _suspicions) = RoutingHandle::new();
    assert!(handle.publish(routing));
    handle
}

pub fn options() -> ServiceOptions {
    ServiceOptions { session_lease: LEASE, ..ServiceOptions::default() }
}

pub fn deadline() -> Instant {
    clock::now() + Duration::from_secs(20)
}

/// A service, its chunks, and what keeps it alive.
pub struct World<S: KvStore> {
    pub meta: MetaService<S>,
    pub chunks: FakeChunks,
    pub directory: Option<tempfile::TempDir>,
    requests: Arc<AtomicU64>,
}

pub async fn world<S: KvStore>(store: S, directory: Option<tempfile::TempDir>) -> World<S> {
    let chunks = FakeChunks::default();
    let fake = Arc::new(chunks.clone());
    let meta = MetaService::open(store, routing(), fake, options()).await.unwrap();
    World { meta, chunks, directory, requests: Arc::new(AtomicU64::new(1)) }
}

pub async fn memory() -> World<MemoryStore> {
    world(MemoryStore::new(), None).await
}

pub async fn embedded() -> World<EmbeddedStore> {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path()).unwrap();
    world(store, Some(directory)).await
}

impl World<EmbeddedStore> {
    /// Drops service and store without a goodbye, and opens the directory again.
    pub async fn restart(self) -> World<EmbeddedStore> {
        let World { meta, chunks, directory, requests } = self;
        drop(meta);
        chunks.allow(usize::MAX);
        let path = directory.as_ref().unwrap().path().to_owned();
        let until = deadline();
        let store = loop {
            match EmbeddedStore::open(&path) {
                Ok(store) => break store,
                Err(error) => {
                    assert!(clock::now() < until, "{error}");
                    clock::sleep(Duration::from_millis(5)).await;
                }
            }
        };
        let fake = Arc::new(chunks.clone());
        let meta = MetaService::open(store, routing(), fake, options()).await.unwrap();
        World { meta, chunks, directory, requests }
    }
}

impl<S: KvStore> World<S> {
    pub fn user(&self, uid: u32) -> User<S> {
        self.client(u64::from(uid) + 1000, uid)
    }

    pub fn root(&self) -> User<S> {
        self.user(0)
    }

    pub fn client(&self, client: u64, uid: u32) -> User<S> {
        User {
            meta: self.meta.clone(),
            client: ClientId(client),
            who: Credentials { uid, gid: uid, groups: Vec::new() },
            requests: Arc::clone(&self.requests),
        }
    }

    pub async fn turn(&self) {
        self.meta.turn(deadline()).await.unwrap();
    }

    /// Waits until every client has had its two leases to register.
    pub async fn settle(&self) {
        clock::sleep(2 * LEASE + Duration::from_millis(5)).await;
    }
}

/// A client with credentials.
pub struct User<S: KvStore> {
    pub meta: MetaService<S>,
    pub client: ClientId,
    pub who: Credentials,
    requests: Arc<AtomicU64>,
}

impl<S: KvStore> Clone for User<S> {
    fn clone(&self) -> User<S> {
        User {
            meta: self.meta.clone(),
            client: self.client,
            who: self.who.clone(),
            requests: Arc::clone(&self.requests),
        }
    }
}

pub fn name(text: &str) -> ByteBuf {
    ByteBuf::from(text.as_bytes())
}

impl<S: KvStore> User<S> {
    pub fn next_id(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    pub async fn call(&self, operation: Operation) -> Result<MetaReply> {
        self.retry(self.next_id(), operation).await
    }

    pub async fn retry(&self, request: u64, operation: Operation) -> Result<MetaReply> {
        let credentials = self.who.clone();
        let request = MetaRequest { client: self.client, request, credentials, operation };
        self.meta.call(request, deadline()).await
    }

    async fn attributes_of(&self, operation: Operation) -> Result<Attributes> {
        match self.call(operation).await? {
            MetaReply::Attributes(attributes) => Ok(attributes),
            MetaReply::Opened { attributes, .. } => Ok(attributes),
            other => panic!("not attributes: {other:?}"),
        }
    }

    pub async fn lookup(&self, parent: InodeId, text: &str) -> Result<Attributes> {
        self.attributes_of(Operation::Lookup { parent, name: name(text) }).await
    }

    pub async fn stat(&self, inode: InodeId) -> Result<Attributes> {
        self.attributes_of(Operation::GetAttributes { inode }).await
    }

    pub async fn set(&self, inode: InodeId, changes: AttributeChanges) -> Result<Attributes> {
        self.attributes_of(Operation::SetAttributes { inode, changes }).await
    }

    pub async fn chmod(&self, inode: InodeId, mode: u32) -> Result<Attributes> {
        self.set(inode, AttributeChanges { mode: Some(mode), ..Default::default() }).await
    }

    pub async fn truncate(&self, inode: InodeId, size: u64) -> Result<Attributes> {
        self.set(inode, AttributeChanges { size_bytes: Some(size), ..Default::default() }).await
    }

    /// Creates a file, open for writing as handle 1.
    pub async fn create(&self, parent: InodeId, text: &str, mode: u32) -> Result<Attributes> {
        self.attributes_of(create(parent, text, mode, true)).await
    }

    /// Creates a file that nobody has open.
    pub async fn touch(&self, parent: InodeId, text: &str) -> Result<Attributes> {
        let made = self.create(parent, text, 0o644).await?;
        self.close(made.inode, None).await?;
        Ok(made)
    }

    pub async fn open(&self, inode: InodeId, handle: u64, write: bool) -> Result<Attributes> {
        let open = Operation::Open { inode, handle, read: !write, write, truncate: false };
        self.attributes_of(open).await
    }

    pub async fn close(&self, inode: InodeId, hint: Option<LengthHint>) -> Result<Attributes> {
        let open = OpenFile { inode, handle: 1, write: true };
        self.attributes_of(Operation::Close { open, hint }).await
    }

    pub async fn mkdir(&self, parent: InodeId, text: &str) -> Result<Attributes> {
        let make = Operation::MakeDirectory { parent, name: name(text), mode: 0o755 };
        self.attributes_of(make).await
    }

    pub async fn rmdir(&self, parent: InodeId, text: &str) -> Result<()> {
        self.call(Operation::RemoveDirectory { parent, name: name(text) }).await.map(drop)
    }

    pub async fn unlink(&self, parent: InodeId, text: &str) -> Result<()> {
        self.call(Operation::Unlink { parent, name: name(text) }).await.map(drop)
    }

    pub async fn rename(&self, from: (InodeId, &str), to: (InodeId, &str)) -> Result<()> {
        self.call(rename(from, to, RenameMode::Replace)).await.map(drop)
    }

    pub async fn link(&self, inode: InodeId, parent: InodeId, text: &str) -> Result<Attributes> {
        let link = Operation::Link { inode, new_parent: parent, new_name: name(text) };
        self.attributes_of(link).await
    }

    pub async fn symlink(&self, parent: InodeId, text: &str, to: &str) -> Result<Attributes> {
        let make = Operation::MakeSymlink { parent, name: name(text), target: name(to) };
        self.attributes_of(make).await
    }

    pub async fn page(
        &self,
        inode: InodeId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<DirectoryEntry>, bool)> {
        let after = after.map(name);
        let read = Operation::ReadDirectory { inode, after, limit, attributes: true };
        match self.call(read).await? {
            MetaReply::Entries { entries, more } => Ok((entries, more)),
            other => panic!("not entries: {other:?}"),
        }
    }

    /// All names of a directory.
    pub async fn names(&self, inode: InodeId) -> Vec<String> {
        let (entries, more) = self.page(inode, None, 0).await.unwrap();
        assert!(!more, "a test directory is small");
        entries.iter().map(|one| String::from_utf8_lossy(&one.name).into_owned()).collect()
    }

    pub async fn keep(&self, open_files: Option<Vec<OpenFile>>) -> Result<MetaReply> {
        self.call(Operation::KeepSession { open_files }).await
    }
}

pub fn create(parent: InodeId, text: &str, mode: u32, exclusive: bool) -> Operation {
    Operation::Create {
        parent,
        name: name(text),
        mode,
        handle: 1,
        exclusive,
        write: true,
        chunk_size_bytes: 1 << 16,
        stripe_count: 0,
    }
}

pub fn rename(from: (InodeId, &str), to: (InodeId, &str), mode: RenameMode) -> Operation {
    Operation::Rename {
        parent: from.0,
        name: name(from.1),
        new_parent: to.0,
        new_name: name(to.1),
        mode,
    }
}

pub fn hint(size: u64, version: u64, modified_ns: u64) -> Option<LengthHint> {
    Some(LengthHint { size_bytes: size, truncate_version: version, modified_ns })
}

/// Runs tests over both engines.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::common::memory().await).await; })+
        }
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::common::embedded().await).await; })+
        }
    };
}
