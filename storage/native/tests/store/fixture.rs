//! Stores to test: on real directories and on simulated machines.

use firepond_core::Result;
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::checksum::crc32c;
use firepond_core::ids::{
    ChainId, ChainVersion, ChangeStamp, ChunkId, ChunkIndex, ChunkVersion, ClientId, InodeId,
    TargetId, WriteId,
};
use firepond_core::payload::Payload;
use firepond_core::routing::Durability;
use firepond_core::sys::clock;
use firepond_core::sys::disk::open_disk;
use firepond_core::sys::disk::simulated::{CrashPoint, SimulatedDisk};
use firepond_core::wire::storage::UpdateKind;
use firepond_storage::store::{ChunkStore, ChunkWrite, MemoryIndex, ReadVersion, StoreOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const TARGET: TargetId = TargetId(1);
pub(crate) const CHUNK_BYTES: u32 = 1 << 20;

pub(crate) fn options() -> StoreOptions {
    StoreOptions { reserve_bytes: 1 << 20, log_bytes: 256 << 10, ..StoreOptions::default() }
}

pub(crate) fn buffers() -> BufferPool {
    BufferPool::new(2 * BUFFER_MAX_BYTES)
}

pub(crate) fn open(directory: &Path, engine: &str) -> ChunkStore {
    open_with(directory, engine, options())
}

pub(crate) fn open_with(directory: &Path, engine: &str, options: StoreOptions) -> ChunkStore {
    let disk = open_disk(directory, engine).expect("directory");
    let store = ChunkStore::open(disk, options, buffers()).expect("store opens");
    store.create_target(TARGET, ChainId(1)).expect("target");
    store
}

/// A machine whose disk and index crash together.
pub(crate) struct Machine {
    pub(crate) crash_point: Arc<CrashPoint>,
    pub(crate) disk: SimulatedDisk,
    pub(crate) index: Arc<MemoryIndex>,
}

impl Machine {
    pub(crate) fn new(seed: u64, capacity_bytes: u64) -> Machine {
        let crash_point = Arc::new(CrashPoint::default());
        Machine {
            disk: SimulatedDisk::new(seed, capacity_bytes, Arc::clone(&crash_point)),
            index: Arc::new(MemoryIndex::new(Arc::clone(&crash_point))),
            crash_point,
        }
    }

    pub(crate) fn open(&self) -> Result<ChunkStore> {
        self.open_with(options())
    }

    pub(crate) fn open_with(&self, options: StoreOptions) -> Result<ChunkStore> {
        let disk = Arc::new(self.disk.clone());
        let index = Arc::clone(&self.index);
        let store = ChunkStore::open_with_index(disk, index, options, buffers())?;
        store.create_target(TARGET, ChainId(1))?;
        Ok(store)
    }

    pub(crate) fn crash(&self, keep: usize) {
        self.index.crash(keep);
        self.disk.crash();
    }
}

pub(crate) fn chunk(number: u32) -> ChunkId {
    ChunkId::file(InodeId(7), ChunkIndex(number))
}

pub(crate) fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) | 1 << 40;
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

/// A write that a lone replica would make: committed at once.
pub(crate) fn write(number: u32, version: u64, offset: u32, data: &[u8]) -> ChunkWrite {
    ChunkWrite {
        chunk: chunk(number),
        kind: UpdateKind::Write,
        offset,
        len: data.len() as u32,
        chunk_len_max: CHUNK_BYTES,
        payload: Payload::from_bytes(data.to_vec().into()),
        checksum: crc32c(data),
        version: ChunkVersion(version),
        chain_version: ChainVersion(1),
        write_id: WriteId { client: ClientId(1), channel: number, sequence: version },
        tag: [0; 32],
        full_chunk: false,
        commit: true,
        recent_writes: vec![],
        durability: Durability::Durable,
        forgotten: ChunkVersion(0),
        stamp: ChangeStamp::new(ChainVersion(1), 1),
    }
}

pub(crate) fn pending(write: ChunkWrite) -> ChunkWrite {
    ChunkWrite { commit: false, ..write }
}

pub(crate) fn truncate(number: u32, version: u64, len: u32) -> ChunkWrite {
    ChunkWrite { kind: UpdateKind::Truncate, len, ..write(number, version, 0, b"") }
}

pub(crate) fn punch(number: u32, version: u64, offset: u32, len: u32) -> ChunkWrite {
    ChunkWrite { kind: UpdateKind::PunchHole, len, ..write(number, version, offset, b"") }
}

pub(crate) fn remove(number: u32, version: u64) -> ChunkWrite {
    ChunkWrite { kind: UpdateKind::Remove, ..write(number, version, 0, b"") }
}

pub(crate) async fn read(store: &ChunkStore, number: u32, which: ReadVersion) -> Result<Vec<u8>> {
    let image = store.read(TARGET, chunk(number), which, 0, u32::MAX).await?;
    assert_eq!(image.checksum, crc32c(image.payload.filled()), "the checksum is of these bytes");
    assert_eq!(image.chunk_len as usize, image.payload.len());
    Ok(image.payload.filled().to_vec())
}

pub(crate) async fn committed(store: &ChunkStore, number: u32) -> Vec<u8> {
    read(store, number, ReadVersion::Committed).await.expect("readable")
}

/// Nothing leaked: what the records name is what is taken, and what is accounted for.
pub(crate) async fn settle(store: &ChunkStore) {
    let deadline = clock::now() + Duration::from_secs(20);
    loop {
        let audit = store.audit().expect("audit");
        let is_even = audit.record_bytes == audit.used_bytes;
        if is_even && audit.record_bytes == audit.accounted_bytes {
            return;
        }
        assert!(clock::now() < deadline, "space leaked: {audit:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
