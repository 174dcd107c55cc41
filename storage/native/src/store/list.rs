//! `list`: the chunks of a target in order.

use super::core::Core;
use super::record::ChunkKey;
use super::scan::scan;
use super::types::ChunkState;
use firepond_core::Result;
use firepond_core::ids::{ChunkId, TargetId};

/// At most `limit` chunks from `from` up to but not including `to`, from the end if `reverse`.
pub(super) fn list(
    core: &Core,
    target: TargetId,
    from: ChunkId,
    to: ChunkId,
    limit: usize,
    reverse: bool,
) -> Result<Vec<(ChunkId, ChunkState)>> {
    let mut found = Vec::new();
    if from >= to || limit == 0 {
        return Ok(found);
    }
    let range = ChunkKey { target, chunk: from }..ChunkKey { target, chunk: to };
    scan(core, range, reverse, &mut |key, record| {
        found.push((key.chunk, record.state()));
        Ok(found.len() < limit)
    })?;
    Ok(found)
}
