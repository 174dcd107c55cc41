//! `audit`: what the records name, what is not free and what the targets account for.
//!
//! Why: the three are kept apart, for speed, and must agree whenever nothing is under way; a
//! difference is space that is lost until the store is opened again. For tests and simulations.

use super::codec::{chunk_key, decode_chunk_key, decode_record};
use super::core::Core;
use super::page::PAGE_BYTES;
use super::record::{ChunkKey, units_of};
use super::types::StoreAudit;
use firepond_core::Result;
use firepond_core::ids::{ChunkId, TargetId};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Looks at every record.
pub(super) fn audit(core: &Core) -> Result<StoreAudit> {
    let mut units: BTreeMap<ChunkKey, u64> = BTreeMap::new();
    let first = ChunkKey { target: TargetId(0), chunk: ChunkId([0; 16]) };
    let last = ChunkKey { target: TargetId(u64::MAX), chunk: ChunkId([0xff; 16]) };
    core.index.scan(&chunk_key(&first), &chunk_key(&last), false, &mut |key, value| {
        let key = decode_chunk_key(&key[1..])?;
        let record = decode_record(value).map_err(|error| key.describe(error))?;
        units.insert(key, units_of(Some(&record)));
        Ok(true)
    })?;
    for (key, record) in core.cache.unwritten(|_| true) {
        units.insert(key, units_of(Some(&record)));
    }
    let targets = core.targets.read();
    let usages = targets.keys().map(|target| super::targets::usage(core, *target).used_bytes);
    Ok(StoreAudit {
        record_bytes: units.values().sum::<u64>() * PAGE_BYTES as u64,
        used_bytes: core.space.used_bytes(),
        accounted_bytes: usages.sum(),
        rotten_count: core.rotten_count.load(Ordering::Relaxed),
    })
}
