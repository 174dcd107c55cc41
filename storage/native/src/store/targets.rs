//! Targets: made, marked and removed.
//!
//! Invariants: a target's record is durable when a call returns; a removed target's chunks are
//! unreachable at once and their space comes back in the background; its id can be used again when
//! they are gone.

use super::changes::{Marks, marks_change};
use super::codec::{encode_target, target_key};
use super::core::{Core, Target, Usage};
use super::types::{NamespaceUsage, TargetRecord, TargetUsage};
use firepond_core::ids::{ChainId, ChainVersion, TargetId};
use firepond_core::sys::random;
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::sync::Arc;

impl Target {
    pub(super) fn new(record: TargetRecord) -> Target {
        Target { record: Mutex::new(Some(record)), ..Target::default() }
    }
}

/// All targets, in order.
pub(super) fn all(core: &Core) -> Vec<TargetRecord> {
    core.targets.read().values().filter_map(|target| *target.record.lock()).collect()
}

/// Makes a target; one that exists for the same chain is returned as it is.
pub(super) fn create(core: &Core, target: TargetId, chain: ChainId) -> Result<TargetRecord> {
    core.check_disk()?;
    let _change = core.target_change.lock();
    if let Ok(existing) = core.target(target)
        && let Some(record) = *existing.record.lock()
    {
        if record.chain == chain {
            return Ok(record);
        }
        return Err(Error::invalid("the target belongs to another chain")
            .with("target", target.0)
            .with("chain", record.chain.0));
    }
    if core.garbage.lock().contains(&target) {
        return Err(Error::new(ErrorKind::ChunkBusy, "the old target's chunks are being removed")
            .with("target", target.0));
    }
    let record = TargetRecord { target, chain, generation: random::u64(), served: false };
    write(core, target, Some(&record), Some(Some(&Marks::EMPTY)))?;
    let made = Target::new(record);
    *made.marks.lock() = Marks::EMPTY;
    core.targets.write().insert(target, Arc::new(made));
    Ok(record)
}

/// Remembers that the target was complete and served.
pub(super) fn mark_served(core: &Core, target: TargetId) -> Result<()> {
    core.check_disk()?;
    let _change = core.target_change.lock();
    let entry = core.target(target)?;
    let Some(record) = *entry.record.lock() else { return Ok(()) };
    if record.served {
        return Ok(());
    }
    let record = TargetRecord { served: true, ..record };
    write(core, target, Some(&record), None)?;
    *entry.record.lock() = Some(record);
    Ok(())
}

/// Remembers durably in which version of its chain a target lost an update.
pub(super) fn set_lost_in(core: &Core, target: TargetId, lost_in: ChainVersion) -> Result<()> {
    core.check_disk()?;
    let _change = core.target_change.lock();
    let entry = core.target(target)?;
    let Some(record) = *entry.record.lock() else { return Ok(()) };
    let mut marks = entry.marks.lock();
    let next = Marks { lost_in, ..*marks };
    write(core, target, Some(&record), Some(Some(&next)))?;
    // A group that is on its way may carry older marks: the next one sets them right.
    let (key, value) = marks_change(target, Some(&next));
    core.lazy.lock().insert(key, value);
    *marks = next;
    Ok(())
}

/// Forgets a target; absent is fine.
pub(super) fn remove(core: &Core, target: TargetId) -> Result<()> {
    core.check_disk()?;
    let _change = core.target_change.lock();
    if core.target(target).is_err() {
        return Ok(());
    }
    write(core, target, None, Some(None))?;
    core.targets.write().remove(&target);
    core.pending.lock().retain(|key| key.target != target);
    core.garbage.lock().insert(target);
    Ok(())
}

/// What a target uses.
pub(super) fn usage(core: &Core, target: TargetId) -> TargetUsage {
    let Ok(target) = core.target(target) else { return TargetUsage::default() };
    let usages = target.usages.lock();
    usages.values().map(shown).fold(TargetUsage::default(), |sum, one| TargetUsage {
        used_bytes: sum.used_bytes + one.used_bytes,
        chunk_count: sum.chunk_count + one.chunk_count,
    })
}

/// What each KV namespace uses of a target; the rest is files.
pub(super) fn namespaces(core: &Core, target: TargetId) -> Vec<NamespaceUsage> {
    let Ok(target) = core.target(target) else { return Vec::new() };
    let usages = target.usages.lock();
    let pairs = usages.iter().filter_map(|(namespace, usage)| Some(((*namespace)?, usage)));
    pairs.map(|(namespace, usage)| NamespaceUsage { namespace, usage: shown(usage) }).collect()
}

fn shown(usage: &Usage) -> TargetUsage {
    let positive = |value: i64| u64::try_from(value).unwrap_or(0);
    TargetUsage {
        used_bytes: positive(usage.units) * super::page::PAGE_BYTES as u64,
        chunk_count: positive(usage.chunk_count),
    }
}

fn write(
    core: &Core,
    target: TargetId,
    record: Option<&TargetRecord>,
    marks: Option<Option<&Marks>>,
) -> Result<()> {
    let mut changes = vec![(target_key(target), record.map(encode_target))];
    changes.extend(marks.map(|marks| marks_change(target, marks)));
    changes.extend(record.is_none().then(|| super::scrub_place::removal(target)));
    // What waits for a group is older.
    let mut lazy = core.lazy.lock();
    changes.iter().for_each(|(key, _)| drop(lazy.remove(key)));
    drop(lazy);
    core.index.write(changes, true).map_err(|error| core.fail_disk(&error))
}
