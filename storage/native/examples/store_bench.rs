//! Measures one chunk store on a directory, beside the raw disk: `store_bench DIRECTORY [engine]`.
#![expect(clippy::disallowed_methods, reason = "looks at real files from outside")]
#![expect(clippy::print_stdout, reason = "a tool that prints a table")]

use firepond_core::Result;
use firepond_core::buffer::BufferPool;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{
    ChainId, ChainVersion, ChangeStamp, ChunkId, ChunkIndex, ChunkVersion, ClientId, InodeId,
    TargetId, WriteId,
};
use firepond_core::payload::Payload;
use firepond_core::routing::Durability;
use firepond_core::sys::clock;
use firepond_core::sys::disk::{Disk, open_disk};
use firepond_core::wire::storage::UpdateKind;
use firepond_storage::store::{ChunkStore, ChunkWrite, ReadVersion, StoreOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TARGET: TargetId = TargetId(1);
const MIB: usize = 1 << 20;
const CHUNK_COUNT: u32 = 1024;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "/tmp/store_bench".into());
    let engine = arguments.next().unwrap_or_else(|| "auto".into());
    let runtime = firepond_core::sys::task::runtime("bench", 2)
        .map_err(|error| firepond_core::Error::io(&error, "start the runtime"))?;
    runtime.block_on(run(Path::new(&directory), &engine))
}

async fn run(directory: &Path, engine: &str) -> Result<()> {
    let disk = open_disk(directory, engine)?;
    let buffers = BufferPool::new(512 << 20);
    println!("engine {}", disk.engine());
    raw_writes(&*disk, &buffers).await?;
    let store = ChunkStore::open(disk, StoreOptions::default(), buffers.clone())?;
    store.create_target(TARGET, ChainId(1))?;
    for (round, depth) in [(1, 1), (2, 8)] {
        whole_chunks(&store, &buffers, round, depth).await?;
    }
    whole_reads(&store).await?;
    hot_reads(&store).await?;
    let written = || device_bytes_written(directory);
    for (depth, commit) in [(1, true), (32, true), (32, false)] {
        overwrites(&store, &buffers, (depth, commit), &written).await?;
    }
    let report = store.compact().await?;
    println!("compaction: {} chunks, {} MiB", report.chunk_count, report.moved_bytes >> 20);
    let status = store.status();
    println!("updates {} in groups {}", status.update_count, status.group_count);
    Ok(())
}

/// 1 MiB writes in order with a sync after each, and without one but at the end.
async fn raw_writes(disk: &dyn Disk, buffers: &BufferPool) -> Result<()> {
    let file = disk.open(Path::new("raw.data"), true)?;
    file.set_len((CHUNK_COUNT as usize * MIB) as u64)?;
    let payload = Payload::from_buffer(buffers.acquire(MIB).await?);
    let start = clock::now();
    for index in 0..u64::from(CHUNK_COUNT) {
        file.write(payload.clone(), 0..MIB, index * MIB as u64).await?;
    }
    file.sync().await?;
    rate("raw direct 1 MiB writes, one sync", CHUNK_COUNT, MIB, start.elapsed());
    let start = clock::now();
    for index in 0..u64::from(CHUNK_COUNT) {
        file.write(payload.clone(), 0..MIB, index * MIB as u64).await?;
        file.sync().await?;
    }
    rate("raw direct 1 MiB writes, a sync each", CHUNK_COUNT, MIB, start.elapsed());
    disk.remove(Path::new("raw.data"))
}

async fn whole_chunks(
    store: &ChunkStore,
    buffers: &BufferPool,
    version: u64,
    depth: u32,
) -> Result<()> {
    let start = clock::now();
    let cpu = cpu_time();
    let mut payload = buffers.acquire(MIB).await?;
    payload.fill(depth as u8);
    let checksum = crc32c(&payload);
    let payload = Payload::from_buffer(payload);
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..depth {
        let (store, payload, next) = (store.clone(), payload.clone(), Arc::clone(&next));
        tasks.push(tokio::spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed) as u32;
                if index >= CHUNK_COUNT {
                    return Ok(());
                }
                let write = update(index, version, 0, payload.clone(), checksum);
                store.apply(TARGET, write).await?;
            }
        }));
    }
    join(tasks).await?;
    rate(&format!("durable 1 MiB chunks, depth {depth}"), CHUNK_COUNT, MIB, start.elapsed());
    println!("    {:.0} us of processor a chunk", micros(cpu_time() - cpu, CHUNK_COUNT));
    Ok(())
}

async fn whole_reads(store: &ChunkStore) -> Result<()> {
    for what in ["cold", "hot"] {
        let (start, cpu) = (clock::now(), cpu_time());
        for index in 0..CHUNK_COUNT {
            store.read(TARGET, chunk(index), ReadVersion::Committed, 0, MIB as u32).await?;
        }
        rate(&format!("1 MiB reads, {what}, depth 1"), CHUNK_COUNT, MIB, start.elapsed());
        println!("    {:.0} us of processor a chunk", micros(cpu_time() - cpu, CHUNK_COUNT));
    }
    Ok(())
}

async fn hot_reads(store: &ChunkStore) -> Result<()> {
    const COUNT: u32 = 200_000;
    let start = clock::now();
    let mut state = 1_u64;
    for _ in 0..COUNT {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let index = (state >> 40) as u32 % CHUNK_COUNT;
        let offset = (state >> 33) as u32 % 256 * 4096;
        store.read(TARGET, chunk(index), ReadVersion::Committed, offset, 4096).await?;
    }
    rate("4 KiB random reads, hot, depth 1", COUNT, 4096, start.elapsed());
    Ok(())
}

/// Aligned overwrites all over the chunks; without `commit` in the two steps that a replica above
/// the tail makes.
async fn overwrites(
    store: &ChunkStore,
    buffers: &BufferPool,
    (depth, commit): (u32, bool),
    written: &dyn Fn() -> u64,
) -> Result<()> {
    let count = if depth == 1 { 4000 } else { 40_000 };
    let mut payload = buffers.acquire(4096).await?;
    payload.fill(9);
    let checksum = crc32c(&payload);
    let payload = Payload::from_buffer(payload);
    let (start, cpu, before) = (clock::now(), cpu_time(), written());
    let mut tasks = Vec::new();
    for task in 0..depth {
        let (store, payload) = (store.clone(), payload.clone());
        tasks.push(tokio::spawn(async move {
            let chunks: Vec<u32> = (0..CHUNK_COUNT).filter(|index| index % depth == task).collect();
            for round in 0..count / depth {
                let index = chunks[round as usize % chunks.len()];
                let state = store.state(TARGET, chunk(index))?;
                let version =
                    state.and_then(|state| state.committed).map_or(1, |v| v.version.0 + 1);
                let offset = (round.wrapping_mul(2_654_435_761) >> 24) << 12;
                let write = update(index, version, offset, payload.clone(), checksum);
                store.apply(TARGET, ChunkWrite { commit, ..write }).await?;
                if !commit {
                    let version = ChunkVersion(version);
                    store.commit(TARGET, chunk(index), version, ChainVersion(1)).await?;
                }
            }
            Ok(())
        }));
    }
    join(tasks).await?;
    let steps = if commit { "" } else { ", two steps" };
    rate(&format!("durable 4 KiB overwrites, depth {depth}{steps}"), count, 4096, start.elapsed());
    println!("    {:.0} us of processor an overwrite", micros(cpu_time() - cpu, count));
    println!("    {} bytes to the device an overwrite", (written() - before) / u64::from(count));
    Ok(())
}

async fn join(tasks: Vec<tokio::task::JoinHandle<Result<()>>>) -> Result<()> {
    for task in tasks {
        task.await.map_err(|error| firepond_core::Error::internal(error.to_string()))??;
    }
    Ok(())
}

fn chunk(index: u32) -> ChunkId {
    ChunkId::file(InodeId(9), ChunkIndex(index))
}

fn update(index: u32, version: u64, offset: u32, payload: Payload, checksum: u32) -> ChunkWrite {
    ChunkWrite {
        chunk: chunk(index),
        kind: UpdateKind::Write,
        offset,
        len: payload.len() as u32,
        chunk_len_max: MIB as u32,
        payload,
        checksum,
        version: ChunkVersion(version),
        chain_version: ChainVersion(1),
        write_id: WriteId { client: ClientId(1), channel: index, sequence: version },
        tag: [0; 32],
        full_chunk: false,
        commit: true,
        recent_writes: vec![],
        durability: Durability::Durable,
        forgotten: ChunkVersion(0),
        stamp: ChangeStamp::new(ChainVersion(1), 1),
    }
}

fn rate(what: &str, count: u32, size: usize, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let mib = f64::from(count) * size as f64 / MIB as f64 / seconds;
    println!("{what:<40} {mib:8.0} MiB/s {:9.0} /s", f64::from(count) / seconds);
}

fn micros(time: Duration, count: u32) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(count)
}

/// Processor time of this process, in ticks of 10 ms.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = text.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
    Duration::from_millis(10 * fields.get(13..15).map_or(0, |times| times.iter().sum()))
}

/// What was written to the device of a directory, by everybody: the page cache is not counted, and
/// what other processes write is.
fn device_bytes_written(directory: &Path) -> u64 {
    let device = std::fs::metadata(directory).map_or(0, |metadata| metadata.dev());
    let (major, minor) = (libc::major(device), libc::minor(device));
    let text = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_ours = |row: &Vec<&str>| row.starts_with(&[&*major.to_string(), &*minor.to_string()]);
    let sectors = rows.into_iter().find(is_ours).and_then(|row| row.get(9)?.parse::<u64>().ok());
    sectors.map_or(0, |sectors| sectors * 512)
}
