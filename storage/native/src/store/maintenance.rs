//! What the committer does once a second: forget old tombstones, remove the chunks of targets that
//! are gone, watch the space.
//!
//! Invariants: a bounded number of records a round; a chunk that somebody holds is left for the
//! next round.

use super::codec::{KIND_TOMBSTONE, decode_tombstone_key, tombstone_key};
use super::core::Core;
use super::job::Job;
use super::record::ChunkKey;
use super::scan::scan;
use firepond_core::ids::{ChunkId, TargetId};
use firepond_core::sys::clock;
use firepond_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Records of one round.
const ROUND_MAX_COUNT: usize = 1024;

/// The jobs of one round.
pub(super) fn run(core: &Arc<Core>) -> Vec<Job> {
    if core.check_disk().is_err() {
        return Vec::new();
    }
    let round = || -> Result<Vec<Job>> {
        core.starved.store(core.space.is_starved()?, Ordering::Relaxed);
        core.space.shrink()?;
        let mut jobs = aged_tombstones(core)?;
        jobs.extend(garbage_chunks(core)?);
        Ok(jobs)
    };
    round().unwrap_or_else(|error: Error| {
        core.fail_disk(&error);
        Vec::new()
    })
}

fn aged_tombstones(core: &Arc<Core>) -> Result<Vec<Job>> {
    let age_ns = u64::try_from(core.options.tombstone_age.as_nanos()).unwrap_or(u64::MAX);
    // The wall clock may have been set between two lives, so a tombstone of an earlier life is as
    // old as this one at most.
    if clock::now() < core.opened_at + core.options.tombstone_age {
        return Ok(Vec::new());
    }
    let Some(oldest_kept_ns) = clock::steady_unix_ns().checked_sub(age_ns) else {
        return Ok(Vec::new());
    };
    let first = ChunkKey { target: TargetId(0), chunk: ChunkId([0; 16]) };
    let (from, to) = (vec![KIND_TOMBSTONE], tombstone_key(oldest_kept_ns, &first));
    let mut entries = Vec::new();
    core.index.scan(&from, &to, false, &mut |key, _| {
        entries.push((key.to_vec(), decode_tombstone_key(key)?));
        Ok(entries.len() < ROUND_MAX_COUNT)
    })?;
    let mut jobs = Vec::new();
    let (mut changes, mut marks_changes) = (Vec::new(), BTreeMap::new());
    for (entry, (updated_ns, key)) in entries {
        let Some(guard) = core.locks.try_lock(key) else { continue };
        let record = core.lookup(&key)?;
        let is_same = record
            .as_ref()
            .is_some_and(|record| record.is_tombstone() && record.updated_ns == updated_ns);
        if let Some(record) = record.filter(|_| is_same) {
            // Before the removals are: who missed them must not be brought in line by what changed.
            let purged = super::changes::purged(core, key.target, record.stamp);
            marks_changes.extend(purged);
            jobs.push(Job { _guard: Some(guard), ..Job::new(key, Some(&record), None) });
        }
        changes.push((entry, None));
    }
    let forgets = !marks_changes.is_empty();
    changes.extend(marks_changes);
    if !changes.is_empty() {
        // Lost at a crash, an entry is found again and removed then; a mark must not be lost.
        core.index.write(changes, forgets)?;
    }
    Ok(jobs)
}

fn garbage_chunks(core: &Arc<Core>) -> Result<Vec<Job>> {
    let Some(target) = core.garbage.lock().first().copied() else { return Ok(Vec::new()) };
    let whole = [ChunkId([0; 16]), ChunkId([0xff; 16])].map(|chunk| ChunkKey { target, chunk });
    let mut chunks = Vec::new();
    scan(core, whole[0]..=whole[1], false, &mut |key, _| {
        chunks.push(key);
        Ok(chunks.len() < ROUND_MAX_COUNT)
    })?;
    if chunks.is_empty() {
        core.garbage.lock().remove(&target);
    }
    let mut jobs = Vec::new();
    for key in chunks {
        // A newer record that waits for its group would come back after the removal.
        let guard = core.locks.try_lock(key).filter(|_| !core.cache.is_unwritten(&key));
        if let (Some(guard), Some(record)) = (guard, core.lookup(&key)?) {
            jobs.push(Job { _guard: Some(guard), ..Job::new(key, Some(&record), None) });
        }
    }
    Ok(jobs)
}
