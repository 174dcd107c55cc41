//! The world of one seed: machines, network, disks, faults, and the audit at the end.

use crate::plan::Plan;

/// What one seed's run gave.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What happened, in order, readable.
    pub trace: Vec<String>,
    /// The digest of all lines of the trace.
    pub trace_hash: u64,
    /// What must not have happened; empty when all is well.
    pub problems: Vec<String>,
}

/// The world of one plan.
pub struct World;

impl World {
    /// Runs the plan from beginning to end.
    pub fn run(plan: &Plan) -> Outcome {
        let _ = plan;
        Outcome::default()
    }
}
