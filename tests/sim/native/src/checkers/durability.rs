//! Durability: what was acknowledged is there at the end, on every serving replica.

use super::audit::Audit;
use super::chunk::Chunk;
use crate::workload::chunk_id;
use firepond_core::routing::Durability;

/// What of a chunk was acknowledged and is gone.
pub fn check(chunk: &Chunk, audit: &Audit) -> Result<(), String> {
    let acknowledged = chunk.updates.iter().filter_map(|one| Some((one.version?, one.entry)));
    let Some((newest, entry)) = acknowledged.max() else { return Ok(()) };
    let Some(chain) = audit.file_chains.get(chunk.place.slot as usize) else { return Ok(()) };
    let id = chunk_id(chunk.place.number);
    for replica in audit.replicas.iter().filter(|one| one.chain == *chain && one.serving) {
        if replica.durability == Durability::Cache || newest == 0 {
            continue;
        }
        let found = replica.chunks.iter().find(|(chunk, _, _)| *chunk == id);
        let committed = found.and_then(|(_, state, _)| state.committed);
        let version = committed.map_or(0, |one| one.version.0);
        let (place, target) = (chunk.place, replica.target);
        if version < newest {
            return Err(format!(
                "{place}: [{entry}] was acknowledged as version {newest}, {target} has {version}"
            ));
        }
        let exists = committed.is_some_and(|one| !one.removed);
        if exists && found.is_some_and(|(_, _, bytes)| bytes.is_none()) {
            return Err(format!("{place}: {target} cannot read version {version}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::agreement::tests::{audit, replica};
    use super::super::linearisability::tests::{chunk, update};
    use super::*;
    use crate::plan::Change;

    /// Goal: a replica that lacks an acknowledged version, or cannot read it, is found. Oracle: the
    /// rows.
    #[test]
    fn finds_what_is_gone() {
        let made = update(5, (1, 2), Change::Replace { len: 1 }, Some(3));
        let chunk = chunk(vec![made], vec![]);
        assert!(check(&chunk, &audit(vec![replica(1, 3, 7), replica(2, 4, 7)])).is_ok());
        let behind = check(&chunk, &audit(vec![replica(1, 3, 7), replica(2, 2, 7)]));
        assert!(behind.expect_err("behind").contains("has 2"));
        let mut unreadable = replica(1, 3, 7);
        unreadable.chunks[0].2 = None;
        assert!(check(&chunk, &audit(vec![unreadable])).is_err());
        let mut empty = replica(1, 3, 7);
        empty.chunks.clear();
        assert!(check(&chunk, &audit(vec![empty])).is_err());
    }
}
