//! Agreement: at the end all serving replicas of a chain have the same chunks, byte for byte, with
//! the same versions and the same remembered writes, and nothing is pending.

use super::audit::{Audit, ReplicaAudit};
use bytes::Bytes;
use firepond_core::ids::{ChunkId, ChunkVersion, WriteId};
use firepond_storage::store::ChunkState;
use std::collections::BTreeMap;

/// What must be equal of a chunk.
type Essence = (ChunkVersion, WriteId, u32, u32, Vec<(WriteId, ChunkVersion)>, Option<Bytes>);

/// Where replicas differ.
pub fn check(audit: &Audit) -> Result<(), String> {
    for replica in audit.replicas.iter().filter(|one| one.serving) {
        let target = replica.target;
        if replica.pending_count > 0 {
            return Err(format!("{target} has {} pending versions", replica.pending_count));
        }
        let same_chain = |one: &&ReplicaAudit| one.serving && one.chain == replica.chain;
        let Some(first) = audit.replicas.iter().find(same_chain) else { continue };
        let (ours, theirs) = (essences(replica), essences(first));
        for chunk in ours.keys().chain(theirs.keys()) {
            let (one, other) = (ours.get(chunk), theirs.get(chunk));
            if one != other {
                let other_target = first.target;
                return Err(format!(
                    "{chunk:?} at {target} is {one:?}, and at {other_target} {other:?}"
                ));
            }
        }
    }
    Ok(())
}

/// The chunks that exist. A tombstone may be older on one replica than on another, or purged.
fn essences(replica: &ReplicaAudit) -> BTreeMap<ChunkId, Essence> {
    let essence = |state: &ChunkState, bytes: &Option<Bytes>| -> Option<Essence> {
        let one = state.committed.filter(|one| !one.removed)?;
        let recent = state.recent_writes.iter().map(|recent| (recent.write_id, recent.version));
        let mut recent: Vec<_> = recent.collect();
        recent.sort_by_key(|(_, version)| *version);
        Some((one.version, one.write_id, one.checksum, one.len, recent, bytes.clone()))
    };
    let found = replica.chunks.iter();
    found.filter_map(|(chunk, state, bytes)| Some((*chunk, essence(state, bytes)?))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::workload::chunk_id;
    use firepond_core::ids::{ChainId, ChainVersion, ChangeStamp, TargetId};
    use firepond_core::routing::Durability;
    use firepond_storage::store::VersionState;

    /// A replica of chain 1 with one chunk.
    pub(in super::super) fn replica(target: u64, version: u64, checksum: u32) -> ReplicaAudit {
        let committed = VersionState {
            version: ChunkVersion(version),
            chain_version: ChainVersion(1),
            write_id: WriteId::default(),
            len: 1,
            checksum,
            removed: false,
        };
        let state = ChunkState {
            committed: Some(committed),
            pending: None,
            recent_writes: vec![],
            forgotten: Default::default(),
            tag: [0; 32],
            updated_ns: 0,
            stamp: ChangeStamp::default(),
        };
        ReplicaAudit {
            chain: ChainId(1),
            durability: Durability::Durable,
            target: TargetId(target),
            serving: true,
            chunks: vec![(chunk_id(0), state, Some(Bytes::from_static(b"x")))],
            pending_count: 0,
            locked_count: 0,
        }
    }

    /// An audit of these replicas.
    pub(in super::super) fn audit(replicas: Vec<ReplicaAudit>) -> Audit {
        Audit { replicas, file_chains: vec![ChainId(1)], ..Audit::default() }
    }

    /// Goal: every difference is found. Oracle: the rows.
    #[test]
    fn finds_differences() {
        assert!(check(&audit(vec![replica(1, 3, 7), replica(2, 3, 7)])).is_ok());
        assert!(check(&audit(vec![replica(1, 3, 7), replica(2, 4, 7)])).is_err());
        assert!(check(&audit(vec![replica(1, 3, 7), replica(2, 3, 8)])).is_err());
        let mut other = replica(2, 3, 7);
        other.chunks[0].2 = None;
        assert!(check(&audit(vec![replica(1, 3, 7), other.clone()])).is_err());
        other.serving = false;
        assert!(check(&audit(vec![replica(1, 3, 7), other])).is_ok(), "it does not serve");
        let mut pending = replica(2, 3, 7);
        pending.pending_count = 1;
        assert!(check(&audit(vec![pending])).is_err());
    }
}
