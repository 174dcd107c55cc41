//! `list`: the chunks of a target in order, as the index and the records before it have them.

use super::codec::{chunk_key, decode_chunk_key, decode_record};
use super::core::Core;
use super::record::ChunkKey;
use super::types::ChunkState;
use firepond_core::Result;
use firepond_core::ids::{ChunkId, TargetId};
use std::collections::BTreeMap;

/// At most `limit` chunks from `from` up to but not including `to`, from the end if `reverse`.
pub(super) fn list(
    core: &Core,
    target: TargetId,
    from: ChunkId,
    to: ChunkId,
    limit: usize,
    reverse: bool,
) -> Result<Vec<(ChunkId, ChunkState)>> {
    let (first, end) = (ChunkKey { target, chunk: from }, ChunkKey { target, chunk: to });
    if from >= to || limit == 0 {
        return Ok(Vec::new());
    }
    // First those that the index lacks: one that is written in between is then seen twice, not
    // never.
    let unwritten = core.cache.unwritten(|key| (first..end).contains(key));
    let mut found = BTreeMap::new();
    core.index.scan(&chunk_key(&first), &chunk_key(&end), reverse, &mut |key, value| {
        let key = decode_chunk_key(&key[1..])?;
        let record = decode_record(value).map_err(|error| key.describe(error))?;
        found.insert(key.chunk, record.state());
        Ok(found.len() < limit)
    })?;
    for (key, record) in unwritten {
        let is_older = found
            .get(&key.chunk)
            .is_some_and(|state: &ChunkState| state.updated_ns > record.updated_ns);
        if !is_older {
            found.insert(key.chunk, record.state());
        }
    }
    let chunks = found.into_iter();
    Ok(if reverse { chunks.rev().take(limit).collect() } else { chunks.take(limit).collect() })
}
