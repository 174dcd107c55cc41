//! How much memory an open store takes: a bound that settings give, whatever the chunks are.
#![expect(clippy::print_stderr, reason = "a measurement")]

use firepond_core::Result;
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::ids::{
    ChainId, ChainVersion, ChangeStamp, ChunkId, ChunkIndex, ChunkVersion, ClientId, InodeId,
    TargetId, WriteId,
};
use firepond_core::payload::Payload;
use firepond_core::routing::Durability;
use firepond_core::sys::disk::open_disk;
use firepond_core::wire::storage::UpdateKind;
use firepond_storage::store::{ChunkStore, ChunkWrite, ReadVersion, StoreOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

const TARGET: TargetId = TargetId(1);
const CACHE_BYTES: usize = 4 << 20;
/// Bytes that the index's tree may hold beside the cache: its blocks and its tables in memory.
const INDEX_BYTES: usize = 96 << 20;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts what is allocated.
struct Counting;

// SAFETY: hands everything to the system's allocator, unchanged; the counters are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn open(directory: &Path) -> Result<ChunkStore> {
    let options =
        StoreOptions { cache_bytes: CACHE_BYTES, reserve_bytes: 1 << 20, ..Default::default() };
    let store = ChunkStore::open(
        open_disk(directory, "auto")?,
        options,
        BufferPool::new(BUFFER_MAX_BYTES),
    )?;
    store.create_target(TARGET, ChainId(1))?;
    Ok(store)
}

fn chunk(number: u32) -> ChunkId {
    ChunkId::file(InodeId(7), ChunkIndex(number))
}

fn extend(number: u32, version: u64, len: u32) -> ChunkWrite {
    ChunkWrite {
        chunk: chunk(number),
        kind: UpdateKind::Truncate,
        offset: 0,
        len,
        chunk_len_max: 1 << 20,
        payload: Payload::empty(),
        checksum: 0,
        version: ChunkVersion(version),
        chain_version: ChainVersion(1),
        write_id: WriteId { client: ClientId(1), channel: number, sequence: version },
        tag: [0; 32],
        full_chunk: false,
        commit: true,
        recent_writes: vec![],
        durability: Durability::Cache,
        forgotten: ChunkVersion(0),
        stamp: ChangeStamp(0),
    }
}

/// Goal: memory is bounded by settings, not by how many chunks there are: while they are written,
/// while the store opens, and while all of them are looked at. Method: an allocator that counts,
/// more chunks than would fit in the bound. Oracle: the peak of each phase.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_by_settings() {
    let count = std::env::var("FIREPOND_TEST_CHUNK_COUNT").ok().and_then(|text| text.parse().ok());
    let count: u32 = count.unwrap_or(150_000);
    let directory = tempfile::tempdir().expect("directory");
    let base = NOW.load(Ordering::Relaxed);
    let peak = |phase: &str| {
        let peak = PEAK.swap(NOW.load(Ordering::Relaxed), Ordering::Relaxed) - base;
        eprintln!("{phase}: {} KiB at most, {count} chunks", peak >> 10);
        assert!(peak < CACHE_BYTES + INDEX_BYTES, "{phase} took {peak} bytes");
    };
    let store = open(directory.path()).expect("opens");
    for number in 0..count {
        // Records of a kilobyte: without a bound these would be far more than the bound.
        store.apply(TARGET, extend(number, 1, 1 << 20)).await.expect("extend");
    }
    store.close();
    drop(store);
    peak("writing");
    let store = open(directory.path()).expect("opens again");
    assert_eq!(store.space(TARGET).chunk_count, u64::from(count));
    peak("opening");
    for number in 0..count {
        let read = store.read(TARGET, chunk(number), ReadVersion::Committed, 4096, 1).await;
        assert_eq!(read.expect("readable").payload.filled(), [0]);
    }
    assert!(store.status().cached_bytes <= CACHE_BYTES);
    peak("reading");
}
