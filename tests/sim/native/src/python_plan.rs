//! Plans, mistakes and the checker's list of transitions for Python.

use crate::checkers::transitions::ALLOWED;
use crate::plan::Plan;
use firepond_core::routing::PublicState;
use firepond_core::sys::mistake::Mistake;
use pyo3::prelude::*;

/// The plan for people: the machines, then an entry a line.
#[pyfunction]
pub(crate) fn describe(seed: u64, dropped: Vec<u32>) -> Vec<String> {
    Plan::of_seed(seed).without(&dropped.into_iter().collect()).describe()
}

/// How many entries the plan of a seed has.
#[pyfunction]
pub(crate) fn entry_count(seed: u64) -> u32 {
    Plan::of_seed(seed).entry_count()
}

/// The names of the mistakes that can be planted.
#[pyfunction]
pub(crate) fn mistakes() -> Vec<&'static str> {
    Mistake::ALL.iter().map(|(name, _)| *name).collect()
}

/// The changes of a public state that the checker lets pass.
#[pyfunction]
pub(crate) fn transitions() -> Vec<(&'static str, &'static str)> {
    let name = |state: PublicState| match state {
        PublicState::Serving => "serving",
        PublicState::LastServing => "last-serving",
        PublicState::Syncing => "syncing",
        PublicState::Waiting => "waiting",
        PublicState::Offline => "offline",
    };
    ALLOWED.iter().map(|(from, to)| (name(*from), name(*to))).collect()
}
