//! What becomes of a target's marks, and which resync they allow: pure decisions.

use crate::store::Marks;
use firepond_core::ids::{ChainVersion, ChangeStamp};
use firepond_core::routing::Durability;
use firepond_core::wire::storage::ResyncControl;

/// The marks of a target that a resync made complete.
///
/// It now has what its predecessor has, so it is complete through what that is, and it has
/// forgotten what that has forgotten. Chunks that a release without stamps left here have no
/// entries: a comparison of everything does not rewrite those that agree, so everything up to the
/// end of this chain version stays unknown. What it lost it has again.
pub fn raised(marks: Marks, done: &ResyncControl) -> Marks {
    let purged_through = match marks.is_unknown() {
        true => floor(done.chain_version),
        false => marks.purged_through,
    };
    let theirs = match done.purged_through == ChangeStamp(u64::MAX) {
        true => floor(done.chain_version),
        false => done.purged_through,
    };
    Marks {
        complete_through: marks.complete_through.max(done.complete_through),
        purged_through: purged_through.max(theirs),
        lost_in: ChainVersion(0),
    }
}

/// The marks of a target that a release without stamps filled, once routing shows its chain: every
/// entry that it lacks is of this chain version or an earlier one.
pub fn floored(marks: Marks, chain_version: ChainVersion) -> Marks {
    match marks.is_unknown() {
        true => Marks { purged_through: floor(chain_version), ..marks },
        false => marks,
    }
}

fn floor(chain_version: ChainVersion) -> ChangeStamp {
    ChangeStamp::new(chain_version, u32::MAX)
}

/// From which stamp on changes bring a successor in line; none: everything has to be compared.
pub fn walk_from(ours: Marks, theirs: ChangeStamp, durability: Durability) -> Option<ChangeStamp> {
    let known = theirs.0 != 0 && theirs >= ours.purged_through;
    (known && durability == Durability::Durable).then_some(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::{ChainId, TargetId};

    fn marks(complete: u64, purged: u64) -> Marks {
        Marks {
            complete_through: ChangeStamp(complete),
            purged_through: ChangeStamp(purged),
            lost_in: ChainVersion(0),
        }
    }

    fn done(complete: u64, purged: u64) -> ResyncControl {
        ResyncControl {
            chain: ChainId(1),
            chain_version: ChainVersion(7),
            target: TargetId(1),
            complete_through: ChangeStamp(complete),
            purged_through: ChangeStamp(purged),
            full: false,
        }
    }

    /// Goal: marks after a resync. Oracle: the rows.
    #[test]
    fn marks_after_a_resync() {
        let under_7 = ChangeStamp::new(ChainVersion(7), u32::MAX).0;
        let rows = [
            (marks(5, 2), done(9, 3), marks(9, 3)),
            (marks(5, 4), done(0, 3), marks(5, 4)),
            (marks(0, u64::MAX), done(9, 3), marks(9, under_7)),
            (marks(0, 0), done(9, u64::MAX), marks(9, under_7)),
        ];
        for (before, control, after) in rows {
            assert_eq!(raised(before, &control), after);
        }
        assert_eq!(floored(marks(0, u64::MAX), ChainVersion(7)), marks(0, under_7));
        assert_eq!(floored(marks(5, 2), ChainVersion(7)), marks(5, 2));
    }

    /// Goal: only a successor whose mark is behind all that was forgotten is brought in line by
    /// what changed. Oracle: the rows.
    #[test]
    fn when_changes_are_enough() {
        let from = |ours, theirs, class| walk_from(ours, ChangeStamp(theirs), class);
        assert_eq!(from(marks(9, 3), 5, Durability::Durable), Some(ChangeStamp(5)));
        assert_eq!(from(marks(9, 3), 3, Durability::Durable), Some(ChangeStamp(3)));
        assert_eq!(from(marks(9, 6), 5, Durability::Durable), None, "removals were forgotten");
        assert_eq!(from(marks(9, 0), 0, Durability::Durable), None, "a new disk");
        assert_eq!(from(marks(9, 3), 5, Durability::Cache), None, "memory may be lost");
        assert_eq!(from(Marks::default(), 5, Durability::Durable), None);
    }
}
