//! Mistakes that can be planted into the code that ships, to prove that the simulator finds them.
//!
//! Why: a simulator that finds nothing is either looking at sound code or blind. Each mistake is
//! one that replicated stores have made; the place where it would be made asks `planted`, and the
//! simulator must then find a seed that fails.
//! Invariants: without the feature `mistakes` (which only the simulator's build has) `planted` is a
//! constant `false` and costs nothing; with it, a mistake is chosen for one thread, none at first.

/// A mistake of a replicated store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A head judges its place in the chain when an update arrives and never again: it goes on
    /// under the old chain version after it was taken out, and its old successor lets it.
    StandingNotRenewed,
    /// A replica commits under its own chain version although its successor is under a newer one:
    /// it takes the successor's refusal for that reason as "has it already".
    CommitBeforeRouting,
    /// A partial write reaches a replica that is still being synchronised as it came, is applied to
    /// whatever that has, and the result is not compared.
    PartialToSyncing,
    /// A head knows only the writes that it took itself: a retry after a fail-over happens again.
    RetryForgotten,
    /// A head gives up an update that its successor may have, and its version to another one.
    PendingAbandoned,
    /// What is pending when a chain comes back is dropped, as if nobody could have seen it.
    PendingLost,
    /// A node that restarts passes for the one that was there before, and its targets for complete.
    RestartUnnoticed,
    /// The pages of an old version are free before the last reader of that version, or the
    /// checkpoint that writes them, is done.
    PagesFreedEarly,
    /// The last page of a chunk is rewritten where it is.
    TailInPlace,
    /// One bad read of a batch fails all of it.
    BatchFailsAsOne,
}

impl Mistake {
    /// All of them with their names.
    pub const ALL: [(&'static str, Mistake); 10] = [
        ("standing-not-renewed", Mistake::StandingNotRenewed),
        ("commit-before-routing", Mistake::CommitBeforeRouting),
        ("partial-to-syncing", Mistake::PartialToSyncing),
        ("retry-forgotten", Mistake::RetryForgotten),
        ("pending-abandoned", Mistake::PendingAbandoned),
        ("pending-lost", Mistake::PendingLost),
        ("restart-unnoticed", Mistake::RestartUnnoticed),
        ("pages-freed-early", Mistake::PagesFreedEarly),
        ("tail-in-place", Mistake::TailInPlace),
        ("batch-fails-as-one", Mistake::BatchFailsAsOne),
    ];

    /// The mistake of a name.
    pub fn of_name(name: &str) -> Option<Mistake> {
        Mistake::ALL.iter().find(|(known, _)| *known == name).map(|(_, mistake)| *mistake)
    }
}

#[cfg(feature = "mistakes")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mistake>> = const { std::cell::Cell::new(None) };
}

/// Whether this thread makes the mistake.
#[cfg(feature = "mistakes")]
pub fn planted(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}

/// Whether the mistake is made: never, in this build.
#[cfg(not(feature = "mistakes"))]
pub const fn planted(_mistake: Mistake) -> bool {
    false
}

/// Chooses the mistake of this thread.
#[cfg(feature = "mistakes")]
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nobody makes a mistake unless told to. Oracle: `planted` and the names.
    #[test]
    fn none_at_first() {
        for (name, mistake) in Mistake::ALL {
            assert!(!planted(mistake));
            assert_eq!(Mistake::of_name(name), Some(mistake));
        }
    }
}
