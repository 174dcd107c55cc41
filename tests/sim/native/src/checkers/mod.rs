//! What must be true of every run: pure functions over what clients saw and what was found at the
//! end, one rule a file, each with a test that shows it a broken run.
//!
//! A checker returns what is wrong, in words that name the entries of the plan; nothing if all is
//! well. To add one: a file here, a line in `check_all`, and a test in the file that sees it
//! complain.

pub mod agreement;
pub mod audit;
pub mod batches;
pub mod chunk;
pub mod content;
pub mod durability;
pub mod exactly_once;
pub mod files;
pub mod leaks;
pub mod linearisability;
pub mod progress;
pub mod transitions;
pub mod values;

use crate::history::{Blackout, Record};
use crate::plan::Plan;
pub use audit::{Audit, ReplicaAudit, StoreAudit};

/// What is wrong with a run: "checker: what".
pub fn check_all(
    plan: &Plan,
    records: &[Record],
    blackouts: &[Blackout],
    audit: &Audit,
) -> Vec<String> {
    let chunks = chunk::split(records, blackouts);
    let mut problems = Vec::new();
    let mut note = |name: &str, result: Result<(), String>| {
        problems.extend(result.err().map(|what| format!("{name}: {what}")));
    };
    for chunk in &chunks {
        note("linearisability", linearisability::check(chunk));
        note("content", content::check(chunk));
        note("exactly-once", exactly_once::check(chunk));
        note("durability", durability::check(chunk, audit));
    }
    note("batches", batches::check(records));
    note("values", values::check(records));
    note("files", files::check(records));
    note("agreement", agreement::check(audit));
    note("transitions", transitions::check(&audit.routings));
    note("leaks", leaks::check(plan, audit));
    note("progress", progress::check(audit));
    problems
}
