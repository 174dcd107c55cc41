//! Opening: from the index to a store that serves.
//!
//! What a crash leaves is right by construction: a record is written only after its pages are
//! durable, and pages that no record names are free. So opening reads the records once and repairs
//! nothing.
//! Invariants: one process a directory; two records that name one page are corruption.

use super::cache::RecordCache;
use super::cached_writes::CachedWrites;
use super::codec::{
    KIND_CHUNK, KIND_FORMAT, KIND_TARGET, corrupt, decode_chunk_key, decode_record, decode_target,
};
use super::core::{Core, Target};
use super::epochs::Epochs;
use super::index::ChunkIndex;
use super::index_fjall::FjallIndex;
use super::log::{Log, Mark};
use super::log_replay::replay;
use super::space::Space;
use super::types::StoreOptions;
use arc_swap::ArcSwapOption;
use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
use firepond_core::sys::clock;
use firepond_core::sys::directory::DirectoryLock;
use firepond_core::sys::disk::Disk;
use firepond_core::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

/// The version of the directory's format: 2 has a log.
const FORMAT_VERSION: u8 = 2;

/// Names within the directory.
const DATA_FILE: &str = "chunks.data";
const LOG_FILE: &str = "chunks.log";
const INDEX_DIRECTORY: &str = "index";

/// Bytes between disk and disk at a time.
const SCRATCH_BYTES: usize = BUFFER_MAX_BYTES;

/// Opens a real directory.
pub(super) fn open_directory(
    disk: Arc<dyn Disk>,
    options: StoreOptions,
    buffers: BufferPool,
) -> Result<Core> {
    let lock = DirectoryLock::take(disk.root())?;
    let index = FjallIndex::open(&disk.root().join(INDEX_DIRECTORY))?;
    open_parts(disk, Arc::new(index), options, buffers, Some(lock))
}

/// Opens a store from its parts.
pub(super) fn open_parts(
    disk: Arc<dyn Disk>,
    index: Arc<dyn ChunkIndex>,
    options: StoreOptions,
    buffers: BufferPool,
    lock: Option<DirectoryLock>,
) -> Result<Core> {
    let mark = check_format(&*index)?;
    let file = disk.open(Path::new(DATA_FILE), true)?;
    let cached_writes = CachedWrites::new(disk.open(Path::new(DATA_FILE), false)?);
    let log_file = disk.open(Path::new(LOG_FILE), true)?;
    let replayed = replay(&*log_file, mark, &*file, &*index)?;
    let log = Log::new(log_file, options.log_bytes, replayed, replayed != mark)?;
    let space = Space::open(Arc::clone(&disk), Arc::clone(&file), options.reserve_bytes)?;
    let core = Core {
        cache: RecordCache::new(options.cache_bytes),
        disk,
        file,
        cached_writes,
        index,
        options,
        buffers,
        scratch: BufferPool::new(SCRATCH_BYTES),
        space,
        fresh: Default::default(),
        locks: Arc::default(),
        epochs: Epochs::default(),
        queue: Default::default(),
        log: tokio::sync::Mutex::new(log),
        targets: Default::default(),
        target_change: Default::default(),
        garbage: Default::default(),
        lazy: Default::default(),
        pending: Default::default(),
        fragmented: Default::default(),
        unsynced: false.into(),
        starved: false.into(),
        failed: ArcSwapOption::empty(),
        opened_at: clock::now(),
        rotten_count: 0.into(),
        group_count: 0.into(),
        update_count: 0.into(),
        _directory_lock: lock,
    };
    load_targets(&core)?;
    super::changes::load(&core)?;
    load_chunks(&core)?;
    Ok(core)
}

/// Refuses what a newer release wrote, and brings an older directory up to this one.
fn check_format(index: &dyn ChunkIndex) -> Result<Mark> {
    let found = index.get(&[KIND_FORMAT])?;
    let mark = Mark::load(index)?;
    match (found.as_deref(), mark) {
        (Some([FORMAT_VERSION]), Some(mark)) => Ok(mark),
        (None | Some([1]), None) => {
            let mark = Mark::fresh();
            let format = (vec![KIND_FORMAT], Some(vec![FORMAT_VERSION]));
            index.write(vec![format, mark.change()], true)?;
            Ok(mark)
        }
        (Some([other]), _) if *other > FORMAT_VERSION => {
            Err(Error::new(ErrorKind::Unsupported, "a directory of a newer release")
                .with("format_version", other))
        }
        _ => Err(corrupt("the format record does not decode")),
    }
}

fn load_targets(core: &Core) -> Result<()> {
    core.index.scan(&[KIND_TARGET], &[KIND_TARGET + 1], false, &mut |key, value| {
        let record = decode_target(key, value)?;
        core.targets.write().insert(record.target, Arc::new(Target::new(record)));
        Ok(true)
    })
}

fn load_chunks(core: &Core) -> Result<()> {
    core.index.scan(&[KIND_CHUNK], &[KIND_CHUNK + 1], false, &mut |key, value| {
        let key = decode_chunk_key(&key[1..])?;
        let record = decode_record(value).map_err(|error| key.describe(error))?;
        for extent in super::record::released_by(Some(&record), None) {
            core.space.claim(&extent).map_err(|error| key.describe(error))?;
        }
        if core.targets.read().contains_key(&key.target) {
            core.account(&key, None, Some(&record), &[]);
            core.note_pieces(key, &record);
            if record.pending.is_some() {
                core.pending.lock().insert(key);
            }
        } else {
            core.garbage.lock().insert(key.target);
        }
        Ok(true)
    })
}
