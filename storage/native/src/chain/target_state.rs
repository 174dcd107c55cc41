//! The local state of a target: what its node may say of it, from what routing shows.
//!
//! Why a machine: the table decides whether a replica that missed updates may serve, so it stands
//! in one place and is tested row by row.
//!
//! | local now  | what happens                                         | local then |
//! |------------|------------------------------------------------------|------------|
//! | online     | routing shows it serving, under this incarnation     | up-to-date |
//! | online     | the predecessor said that resync is done             | up-to-date |
//! | online     | anything else                                        | online     |
//! | up-to-date | serving; or syncing in the chain version of the done | up-to-date |
//! | up-to-date | offline, last-serving, waiting, no member, or syncing otherwise | offline, online
//! once its work ended |
//! | up-to-date | serving, behind a target that did not serve before it until now | offline, online
//! once routing took it out and its work ended |
//! | any        | it cannot follow, lost an update, or was asked to step down (failed) | offline,
//! online once routing took it out and its work ended |
//! | any        | the disk failed                                      | offline for ever |
//!
//! Why a target that is moved down leaves: updates that it took as one of the first may be on their
//! way; those that now come before it would give their numbers to others. Moved up, or with others
//! gone, it has all that is before it.
//! Invariants: a target is up-to-date only if no committed update can be missing; leaving goes
//! through offline, so that no update of the old time is still at work when it is online again.

use firepond_core::ids::ChainVersion;
use firepond_core::routing::{LocalState, PublicState};

/// What routing shows of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The version of the chain.
    pub chain_version: ChainVersion,
    /// The public state; none when it is no member.
    pub state: Option<PublicState>,
    /// Whether routing knows this life of our node.
    pub incarnation_known: bool,
    /// A target serves before it that did not when it was complete last.
    pub displaced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inner {
    Online,
    UpToDate { resync_done: Option<ChainVersion> },
    Leaving,
    Failed,
    DiskFailed,
}

/// The local state of one target.
#[derive(Debug)]
pub struct TargetState {
    inner: Inner,
}

impl Default for TargetState {
    fn default() -> TargetState {
        TargetState { inner: Inner::Online }
    }
}

impl TargetState {
    /// What is reported to the manager and what decides over serving.
    pub fn local(&self) -> LocalState {
        match self.inner {
            Inner::Online => LocalState::Online,
            Inner::UpToDate { .. } => LocalState::UpToDate,
            Inner::Leaving | Inner::Failed | Inner::DiskFailed => LocalState::Offline,
        }
    }

    /// New routing arrived.
    pub fn routing(&mut self, shown: Shown) {
        use PublicState::{Serving, Syncing};
        if !shown.incarnation_known {
            return;
        }
        self.inner = match (self.inner, shown.state) {
            (Inner::Online, Some(Serving)) => Inner::UpToDate { resync_done: None },
            (Inner::UpToDate { .. }, Some(Serving)) if shown.displaced => Inner::Failed,
            (Inner::UpToDate { .. }, Some(Serving)) => Inner::UpToDate { resync_done: None },
            (Inner::UpToDate { resync_done }, Some(Syncing))
                if resync_done == Some(shown.chain_version) =>
            {
                self.inner
            }
            (Inner::UpToDate { .. }, _) => Inner::Leaving,
            (Inner::Failed, state) if !matches!(state, Some(Serving | Syncing)) => Inner::Leaving,
            (inner, _) => inner,
        };
    }

    /// The predecessor sent everything, under this chain version.
    pub fn resync_done(&mut self, chain_version: ChainVersion) {
        if self.inner == Inner::Online {
            self.inner = Inner::UpToDate { resync_done: Some(chain_version) };
        }
    }

    /// It must leave its chain: an update that others may have was lost here, it cannot follow its
    /// predecessor, or the manager asks it to.
    pub fn failed(&mut self) {
        if self.inner != Inner::DiskFailed {
            self.inner = Inner::Failed;
        }
    }

    /// The disk serves nothing any more.
    pub fn disk_failed(&mut self) {
        self.inner = Inner::DiskFailed;
    }

    /// Whether it waits for its work to end.
    pub fn is_leaving(&self) -> bool {
        self.inner == Inner::Leaving
    }

    /// Nothing of the old time is at work any more.
    pub fn work_ended(&mut self) {
        if self.inner == Inner::Leaving {
            self.inner = Inner::Online;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(version: u32, state: Option<PublicState>) -> Shown {
        let (chain_version, incarnation_known, displaced) = (ChainVersion(version), true, false);
        Shown { chain_version, state, incarnation_known, displaced }
    }

    const UP_TO_DATE: Inner = Inner::UpToDate { resync_done: None };
    const SYNCED: Inner = Inner::UpToDate { resync_done: Some(ChainVersion(5)) };

    /// Goal: the table above, row by row. Oracle: the table.
    #[test]
    fn transitions() {
        use PublicState::{LastServing, Offline, Serving, Syncing, Waiting};
        let rows = [
            (Inner::Online, Some(Serving), UP_TO_DATE),
            (Inner::Online, Some(Syncing), Inner::Online),
            (Inner::Online, Some(Waiting), Inner::Online),
            (Inner::Online, Some(LastServing), Inner::Online),
            (Inner::Online, Some(Offline), Inner::Online),
            (Inner::Online, None, Inner::Online),
            (UP_TO_DATE, Some(Serving), UP_TO_DATE),
            (UP_TO_DATE, Some(Syncing), Inner::Leaving),
            (UP_TO_DATE, Some(Offline), Inner::Leaving),
            (UP_TO_DATE, Some(LastServing), Inner::Leaving),
            (UP_TO_DATE, Some(Waiting), Inner::Leaving),
            (UP_TO_DATE, None, Inner::Leaving),
            (SYNCED, Some(Syncing), SYNCED),
            (SYNCED, Some(Serving), UP_TO_DATE),
            (SYNCED, Some(Waiting), Inner::Leaving),
            (Inner::Leaving, Some(Serving), Inner::Leaving),
            (Inner::Failed, Some(Serving), Inner::Failed),
            (Inner::Failed, Some(Syncing), Inner::Failed),
            (Inner::Failed, Some(Offline), Inner::Leaving),
            (Inner::Failed, Some(LastServing), Inner::Leaving),
            (Inner::DiskFailed, Some(Offline), Inner::DiskFailed),
        ];
        for (before, state, after) in rows {
            let mut target = TargetState { inner: before };
            target.routing(shown(5, state));
            assert_eq!(target.inner, after, "{before:?} sees {state:?}");
        }
    }

    /// Goal: a target that was moved down its chain comes back through a resync, as it may have
    /// updates that those before it lack. Oracle: the states.
    #[test]
    fn displaced_targets_leave() {
        let displaced = Shown { displaced: true, ..shown(5, Some(PublicState::Serving)) };
        let mut target = TargetState { inner: UP_TO_DATE };
        target.routing(displaced);
        assert_eq!(target.local(), LocalState::Offline);
        let mut fresh = TargetState::default();
        fresh.routing(displaced);
        assert_eq!(fresh.local(), LocalState::UpToDate, "it has nothing of its own yet");
    }

    /// Goal: skipped routing cannot hide an absence. Method: done at version 5, then syncing at 9.
    /// Oracle: the target leaves, and is online when its work ended.
    #[test]
    fn syncing_again_is_not_complete() {
        let mut target = TargetState::default();
        target.resync_done(ChainVersion(5));
        assert_eq!(target.local(), LocalState::UpToDate);
        target.routing(shown(9, Some(PublicState::Syncing)));
        assert_eq!(target.local(), LocalState::Offline);
        target.work_ended();
        assert_eq!(target.local(), LocalState::Online);
    }

    /// Goal: a restarted node trusts nothing that was decided for its former life. Oracle: online.
    #[test]
    fn former_incarnation_counts_for_nothing() {
        let mut target = TargetState::default();
        let stale = Shown { incarnation_known: false, ..shown(5, Some(PublicState::Serving)) };
        target.routing(stale);
        assert_eq!(target.local(), LocalState::Online);
    }
}
