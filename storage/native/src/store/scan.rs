//! The records of a range of chunks in order: those of the index, and those that it lacks.
//!
//! Invariants: what lies in memory is taken first, so a record that reaches the index in between is
//! seen there or here; of two the newer one counts; what was removed is not shown.

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
        let indexed = decode_record(value).map_err(|error| key.describe(error))?;
        let record = match ahead.remove(&key) {
            Some(Some(record)) if record.updated_ns >= indexed.updated_ns => Some(record),
            Some(None) => None,
            _ => Some(Arc::new(indexed)),
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
