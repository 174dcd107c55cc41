//! Which updates a chunk accepts: pure decisions, without I/O.
//!
//! Invariants: versions are dense (an update makes `committed + 1`), except for a full chunk, which
//! replaces whatever is there; the same write id at the same version is the same update.

use super::record::Record;
use super::types::{ChunkWrite, VersionState};
use firepond_core::buffer::BUFFER_MAX_BYTES;
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::wire::storage::UpdateKind;
use firepond_core::{Error, ErrorKind, Result};
use std::time::Duration;

/// What to do with an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It was applied before and is committed.
    Committed(VersionState),
    /// It was applied before and is pending.
    Pending(VersionState),
    /// Apply it.
    Apply,
}

/// Checks what does not depend on the chunk.
pub(super) fn check_arguments(write: &ChunkWrite) -> Result<()> {
    let invalid = |what: &str| {
        Err(Error::invalid(what)
            .with("kind", format_args!("{:?}", write.kind))
            .with("offset", write.offset)
            .with("len", write.len)
            .with("payload_len", write.payload.len())
            .with("chunk_len_max", write.chunk_len_max))
    };
    let end = u64::from(write.offset) + u64::from(write.len);
    if end > u64::from(write.chunk_len_max) || write.chunk_len_max as usize > BUFFER_MAX_BYTES {
        return invalid("the update reaches beyond the chunk");
    }
    if write.kind == UpdateKind::Fence {
        return invalid("a fence is the head's to resolve");
    }
    let payload_len = if write.kind.has_payload() { write.len as usize } else { 0 };
    if write.payload.len() != payload_len {
        return invalid("the payload does not have the length of the update");
    }
    let is_whole = matches!(write.kind, UpdateKind::Replace | UpdateKind::Create)
        || (write.full_chunk && write.kind == UpdateKind::Write);
    if is_whole && write.offset != 0 {
        return invalid("a whole chunk starts at offset 0");
    }
    if write.full_chunk && matches!(write.kind, UpdateKind::Truncate | UpdateKind::PunchHole) {
        return invalid("a change of a part is not a full chunk");
    }
    if write.version.0 == 0 {
        return invalid("versions start at 1");
    }
    Ok(())
}

/// Checks the update against the chunk.
pub(super) fn decide(
    record: Option<&Record>,
    write: &ChunkWrite,
    now_ns: u64,
    tombstone_age: Duration,
) -> Result<Decision> {
    if write.full_chunk {
        return Ok(Decision::Apply);
    }
    let committed = record.and_then(|record| record.committed.as_ref()).map(|v| v.state);
    let pending = record.and_then(|record| record.pending.as_ref()).map(|v| v.state);
    let is_same =
        |state: &VersionState| state.version == write.version && state.write_id == write.write_id;
    if let Some(state) = committed.filter(is_same) {
        return Ok(Decision::Committed(state));
    }
    if let Some(state) = pending {
        return match write.version.cmp(&state.version) {
            _ if is_same(&state) => Ok(Decision::Pending(state)),
            std::cmp::Ordering::Greater => Err(gap(write, Some(state))),
            _ => Err(stale(write, state)),
        };
    }
    let current = committed.map_or(0, |state| state.version.0);
    match (write.version.0, committed) {
        (version, Some(state))
            if version <= current && !is_forgotten(record, now_ns, tombstone_age) =>
        {
            Err(stale(write, state))
        }
        (version, _) if version > current + 1 && !planted(Mistake::PartialToSyncing) => {
            Err(gap(write, committed))
        }
        _ => check_kind(record, write),
    }
}

/// A tombstone so old that another replica may have purged it and begun at version 1 again.
fn is_forgotten(record: Option<&Record>, now_ns: u64, tombstone_age: Duration) -> bool {
    record.is_some_and(|record| {
        let age = Duration::from_nanos(now_ns.saturating_sub(record.updated_ns));
        record.is_tombstone() && age >= tombstone_age / 2
    })
}

fn check_kind(record: Option<&Record>, write: &ChunkWrite) -> Result<Decision> {
    let existing = record.and_then(Record::existing);
    match existing {
        Some(version) if write.kind == UpdateKind::Create => {
            Err(Error::new(ErrorKind::ChunkExists, "the chunk exists")
                .with("version", version.state.version.0))
        }
        _ => Ok(Decision::Apply),
    }
}

fn gap(write: &ChunkWrite, have: Option<VersionState>) -> Error {
    Error::new(ErrorKind::UpdateGap, "an earlier update is missing")
        .with("version", write.version.0)
        .with("have", have.map_or(0, |state| state.version.0))
}

fn stale(write: &ChunkWrite, have: VersionState) -> Error {
    Error::new(ErrorKind::UpdateStale, "the chunk is further, or took another update")
        .with("version", write.version.0)
        .with("write_id", write.write_id)
        .with("have", have.version.0)
        .with("have_write_id", have.write_id)
}
