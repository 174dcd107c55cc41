//! The records of a range of chunks in order: those of the index, and those that it lacks.
//!
//! Invariants: what lies in memory is taken first, so a record that reaches the index in between is
//! seen there or here; what lay in memory counts, as it was the newest when the scan began: the
//! times in two records say nothing, as the wall clock may have been set back before a restart;
//! what was removed is not shown.

use super::codec::{KIND_CHUNK, chunk_key, decode_chunk_key, decode_record};
use super::core::Core;
use super::log::Records;
use super::record::{ChunkKey, Record};
use firepond_core::Result;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// Shows records in order, from the end if `reverse`, until `visit` says false.
pub(super) fn scan(
    core: &Core,
    range: impl RangeBounds<ChunkKey>,
    reverse: bool,
    visit: &mut dyn FnMut(ChunkKey, Arc<Record>) -> Result<bool>,
) -> Result<()> {
    let mut ahead = core.cache.ahead_of_index(|key| range.contains(key));
    let mut goes_on = true;
    let (from, to) = index_range(&range);
    core.index.scan(&from, &to, reverse, &mut |key, value| {
        let key = decode_chunk_key(&key[1..])?;
        goes_on = show_before(&mut ahead, Some(&key), reverse, visit)?;
        if !goes_on {
            return Ok(false);
        }
        let record = match ahead.remove(&key) {
            Some(newest) => newest,
            None => Some(Arc::new(decode_record(value).map_err(|error| key.describe(error))?)),
        };
        goes_on = record.map_or(Ok(true), |record| visit(key, record))?;
        Ok(goes_on)
    })?;
    if goes_on {
        show_before(&mut ahead, None, reverse, visit)?;
    }
    Ok(())
}

/// Shows the records of memory that come before a key of the index; false when it was enough.
fn show_before(
    ahead: &mut Records,
    key: Option<&ChunkKey>,
    reverse: bool,
    visit: &mut dyn FnMut(ChunkKey, Arc<Record>) -> Result<bool>,
) -> Result<bool> {
    loop {
        let next = if reverse { ahead.last_entry() } else { ahead.first_entry() };
        let Some(next) = next else { return Ok(true) };
        let is_due =
            key.is_none_or(|key| if reverse { next.key() > key } else { next.key() < key });
        if !is_due {
            return Ok(true);
        }
        let (key, record) = next.remove_entry();
        if let Some(record) = record
            && !visit(key, record)?
        {
            return Ok(false);
        }
    }
}

/// The keys of the index from the first one up to but not including the second one.
fn index_range(range: &impl RangeBounds<ChunkKey>) -> (Vec<u8>, Vec<u8>) {
    let behind = |key: &ChunkKey| [&chunk_key(key)[..], &[0]].concat();
    let from = match range.start_bound() {
        Bound::Included(key) => chunk_key(key),
        Bound::Excluded(key) => behind(key),
        Bound::Unbounded => vec![KIND_CHUNK],
    };
    let to = match range.end_bound() {
        Bound::Included(key) => behind(key),
        Bound::Excluded(key) => chunk_key(key),
        Bound::Unbounded => vec![KIND_CHUNK + 1],
    };
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::super::codec::encode_record;
    use super::super::committer::Place;
    use super::super::index_memory::MemoryIndex;
    use super::super::open::open_parts;
    use super::super::types::StoreOptions;
    use super::*;
    use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
    use firepond_core::ids::{ChunkId, TargetId};
    use firepond_core::sys::disk::simulated::{CrashPoint, SimulatedDisk};

    /// Goal: what the index lacks is shown, and hides what the index has, whatever the times in the
    /// records say (seed 224: the clock was set back before a restart, and a list showed old
    /// records). Method: records of an hour ago in memory, newer times in the index. Oracle: what
    /// is shown, in both directions.
    #[test]
    fn memory_counts_whatever_the_time() {
        let crash_point = Arc::new(CrashPoint::default());
        let disk = Arc::new(SimulatedDisk::new(1, 64 << 20, Arc::clone(&crash_point)));
        let index = Arc::new(MemoryIndex::new(crash_point));
        let options = StoreOptions { reserve_bytes: 1 << 20, ..StoreOptions::default() };
        let core = open_parts(disk, index, options, BufferPool::new(BUFFER_MAX_BYTES), None)
            .expect("opens");
        let key = |number| ChunkKey { target: TargetId(1), chunk: ChunkId([number; 16]) };
        let made = |updated_ns| Arc::new(Record { updated_ns, ..Record::default() });
        let indexed =
            [1, 2, 4].map(|number| (chunk_key(&key(number)), Some(encode_record(&made(9)))));
        core.index.write(indexed.to_vec(), false).expect("indexed");
        core.cache.mark_durable(key(1), Some(&made(5)), false, Place::Log);
        core.cache.mark_durable(key(2), None, false, Place::Log);
        core.cache.publish_unwritten(key(3), made(6));
        for reverse in [false, true] {
            let mut shown = Vec::new();
            scan(&core, .., reverse, &mut |key, record| {
                shown.push((key.chunk.0[0], record.updated_ns));
                Ok(true)
            })
            .expect("scanned");
            if reverse {
                shown.reverse();
            }
            assert_eq!(shown, [(1, 5), (3, 6), (4, 9)]);
        }
    }
}
