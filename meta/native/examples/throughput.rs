//! Creates and lookups a second on the embedded store: one at a time, and 32 at once.
//!
//! Prints the ratio to what a bare fdatasync of the same directory allows, since a durable create
//! can never be faster than that when it is alone.

#![expect(clippy::disallowed_methods, reason = "looks at real files from outside")]
#![expect(clippy::print_stdout, reason = "this is a program that prints")]

use firepond_core::ids::{ChainId, ChainTableId, ChainTableVersion, ClientId, RoutingVersion};
use firepond_core::ids::{ChunkId, InodeId};
use firepond_core::kv::EmbeddedStore;
use firepond_core::routing::{ChainTable, Routing, RoutingHandle};
use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::wire::meta::{Credentials, MetaRequest, Operation};
use firepond_core::wire::storage::{ListChunksReply, TargetSpace};
use firepond_core::{Error, Result};
use firepond_meta::{ChunkRange, Chunks, MetaService, ServiceOptions};
use serde_bytes::ByteBuf;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// No chunks: nothing is written here.
struct NoChunks;

impl Chunks for NoChunks {
    fn list(
        &self,
        _: ChainId,
        _: ChunkRange,
        _: Instant,
    ) -> BoxFuture<'_, Result<ListChunksReply>> {
        Box::pin(async { Ok(ListChunksReply { chunks: Vec::new(), more: false }) })
    }

    fn truncate(
        &self,
        _: ChainId,
        _: ChunkId,
        _: u32,
        _: u32,
        _: Instant,
    ) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn remove(&self, _: ChainId, _: ChunkId, _: Instant) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn space(&self, _: Instant) -> BoxFuture<'_, Result<Vec<TargetSpace>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

type Service = MetaService<EmbeddedStore>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let directory = tempfile::tempdir().map_err(|error| Error::io(&error, "make a directory"))?;
    let bare = fdatasyncs_per_second(directory.path())?;
    let (routing, _suspicions) = RoutingHandle::new();
    let mut snapshot = Routing::default();
    snapshot.version = RoutingVersion(1);
    let chains = (1..=8).map(ChainId).collect();
    let (id, version) = (ChainTableId(1), ChainTableVersion(1));
    snapshot.tables.push(ChainTable { id, version, chains });
    routing.publish(snapshot);
    let store = EmbeddedStore::open(&directory.path().join("store"))?;
    let options = ServiceOptions::default();
    let meta = MetaService::open(store, routing, Arc::new(NoChunks), options).await?;
    println!("bare fdatasync          {bare:>9.0} /s");
    for depth in [1, 32] {
        let rate = measure(&meta, depth, 1000 * depth.min(8), create).await?;
        println!(
            "create  depth {depth:<2}        {rate:>9.0} /s  {:.2} of a bare fdatasync",
            rate / bare
        );
    }
    for depth in [1, 32] {
        let rate = measure(&meta, depth, 50_000, lookup).await?;
        println!("lookup  depth {depth:<2}        {rate:>9.0} /s");
    }
    println!("transactions run again  {:>9}", meta.status().conflict_count);
    Ok(())
}

fn fdatasyncs_per_second(directory: &std::path::Path) -> Result<f64> {
    let path = directory.join("bare");
    let failed = |error| Error::io(&error, "write");
    let mut file = std::fs::File::create(path).map_err(failed)?;
    let begun = clock::now();
    for _ in 0..300 {
        file.write_all(&[1; 512]).map_err(failed)?;
        file.sync_data().map_err(failed)?;
    }
    Ok(300.0 / (clock::now() - begun).as_secs_f64())
}

fn create(depth: usize, at: usize) -> Operation {
    Operation::Create {
        parent: InodeId::ROOT,
        name: ByteBuf::from(format!("file-{depth}-{at}").into_bytes()),
        mode: 0o644,
        handle: at as u64,
        exclusive: true,
        write: true,
        chunk_size_bytes: 0,
        stripe_count: 0,
    }
}

fn lookup(_depth: usize, at: usize) -> Operation {
    let name = ByteBuf::from(format!("file-32-{}", at % 8000).into_bytes());
    Operation::Lookup { parent: InodeId::ROOT, name }
}

async fn measure(
    meta: &Service,
    depth: usize,
    count: usize,
    operation: fn(usize, usize) -> Operation,
) -> Result<f64> {
    let begun = clock::now();
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    for lane in 0..depth {
        let meta = meta.clone();
        tasks.spawn(async move {
            for at in (lane..count).step_by(depth) {
                let request = MetaRequest {
                    client: ClientId(depth as u64),
                    request: at as u64,
                    credentials: Credentials::default(),
                    operation: operation(depth, at),
                };
                meta.call(request, clock::now() + Duration::from_secs(30)).await?;
            }
            Ok(())
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.map_err(|error| Error::internal(error.to_string()))??;
    }
    Ok(count as f64 / (clock::now() - begun).as_secs_f64())
}
