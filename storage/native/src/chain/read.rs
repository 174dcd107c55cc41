//! Which version of a chunk a replica may show (CRAQ's apportioned query).
//!
//! Why: a replica that is one update behind must not answer with the old version after somebody saw
//! the new one elsewhere. The tail commits first, so it knows; everyone else asks it when in doubt.
//! Source: Terrace and Freedman, "Object Storage on CRAQ", USENIX ATC 2009, section 2.3.
//! Invariants: a clean chunk is served at once. A tail shows its committed version only if the
//! pending one was made while it already was the tail: an older one may have been committed by the
//! tail before it, and one that goes to a syncing successor may be shown there any moment; both are
//! settled first. An update that is being stored counts as pending: those below may be faster.

use super::role::Standing;
use crate::store::{ChunkState, VersionState};
use firepond_core::Result;
use firepond_core::ids::ChunkVersion;
use firepond_core::routing::ChainTarget;

/// What to do with a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadPlan {
    /// Show the committed version.
    Committed,
    /// Ask this target, then see `after_answer`.
    AskTail(ChainTarget),
    /// Bring the pending version to an end, then plan again.
    Settle,
}

/// What the tail's answer means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// Show this version; none: the chunk does not exist.
    Version(Option<VersionState>),
    /// It is neither the committed nor the pending one any more: plan again.
    Again,
}

/// How to read a chunk in this state; `arriving`: an update of it is perhaps being stored.
///
/// # Errors
/// `TargetNotServing`, `LeaseExpired`.
pub fn plan(standing: &Standing, state: Option<&ChunkState>, arriving: bool) -> Result<ReadPlan> {
    standing.check_read()?;
    let pending = state.and_then(|state| state.pending);
    if pending.is_none() && !arriving {
        return Ok(ReadPlan::Committed);
    }
    if let Some(tail) = standing.tail.filter(|_| !standing.is_tail()) {
        return Ok(ReadPlan::AskTail(tail));
    }
    let of_now = |one: VersionState| one.chain_version == standing.chain_version;
    let own = pending.is_some_and(of_now) && standing.successor.is_none();
    Ok(if own { ReadPlan::Committed } else { ReadPlan::Settle })
}

/// What to show after the tail said that `version` is committed (0: none is).
pub fn after_answer(state: Option<&ChunkState>, version: ChunkVersion) -> Chosen {
    let committed = state.and_then(|state| state.committed);
    let pending = state.and_then(|state| state.pending);
    let exists = |one: VersionState| Some(one).filter(|one| !one.removed);
    if version == ChunkVersion(0) && committed.and_then(exists).is_none() {
        return Chosen::Version(None);
    }
    match [committed, pending].into_iter().flatten().find(|one| one.version == version) {
        Some(found) => Chosen::Version(exists(found)),
        None => Chosen::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::super::role::tests::standing;
    use super::*;
    use firepond_core::ids::{ChainVersion, ChangeStamp, WriteId};
    use firepond_core::routing::PublicState::{Serving, Syncing};

    fn version(number: u64, chain_version: u32, removed: bool) -> VersionState {
        VersionState {
            version: ChunkVersion(number),
            chain_version: ChainVersion(chain_version),
            write_id: WriteId::default(),
            len: 4,
            checksum: 9,
            removed,
        }
    }

    fn state(committed: Option<VersionState>, pending: Option<VersionState>) -> ChunkState {
        let (tag, updated_ns, stamp) = ([0; 32], 0, ChangeStamp(0));
        let (recent_writes, forgotten) = (vec![], ChunkVersion(0));
        ChunkState { committed, pending, recent_writes, forgotten, tag, updated_ns, stamp }
    }

    /// Goal: every plan of the module's head. Oracle: the rows.
    #[test]
    fn plans() {
        let clean = state(Some(version(3, 4, false)), None);
        let dirty = state(Some(version(3, 4, false)), Some(version(4, 4, false)));
        let inherited = state(Some(version(3, 3, false)), Some(version(4, 3, false)));
        let pair = [(1, Serving), (2, Serving)];
        let head = standing(4, &pair, 1);
        let tail = standing(4, &pair, 2);
        let feeding = standing(4, &[(1, Serving), (2, Serving), (3, Syncing)], 2);
        let asked = head.tail.expect("a tail");
        let rows = [
            (&head, None, false, ReadPlan::Committed),
            (&head, Some(&clean), false, ReadPlan::Committed),
            (&head, Some(&clean), true, ReadPlan::AskTail(asked)),
            (&head, None, true, ReadPlan::AskTail(asked)),
            (&head, Some(&dirty), true, ReadPlan::AskTail(asked)),
            (&tail, Some(&dirty), true, ReadPlan::Committed),
            (&tail, Some(&clean), true, ReadPlan::Settle),
            (&tail, Some(&inherited), true, ReadPlan::Settle),
            (&feeding, Some(&dirty), true, ReadPlan::Settle),
            (&feeding, Some(&clean), true, ReadPlan::Settle),
        ];
        for (standing, state, arriving, expected) in rows {
            let found = plan(standing, state, arriving).expect("serves");
            assert_eq!(found, expected, "{standing:?}");
        }
        assert!(plan(&standing(4, &[(1, Serving), (2, Syncing)], 2), None, false).is_err());
    }

    /// Goal: exactly the tail's version is shown, or the read begins again. Oracle: the rows.
    #[test]
    fn answers() {
        let dirty = state(Some(version(3, 4, false)), Some(version(4, 4, true)));
        let shown = |number| after_answer(Some(&dirty), ChunkVersion(number));
        assert_eq!(shown(3), Chosen::Version(Some(version(3, 4, false))));
        assert_eq!(shown(4), Chosen::Version(None));
        assert_eq!(shown(5), Chosen::Again);
        assert_eq!(shown(0), Chosen::Again);
        let created = state(None, Some(version(1, 4, false)));
        assert_eq!(after_answer(Some(&created), ChunkVersion(0)), Chosen::Version(None));
    }
}
