//! What one seed does: the cluster, the faults with their moments, and what clients do.
//!
//! A plan is a pure function of its seed, and is known before the world starts, so that a failing
//! one can be made smaller: every fault and every operation is an *entry* with a number of its own,
//! and any set of entries may be left out (`Plan::without`) without changing the others. A fault
//! therefore carries its own end: leaving it out leaves out both its beginning and its repair.
//!
//! The rule of what may be lost. Replication promises that nothing acknowledged is lost while one
//! complete copy is left, so the world carries out a fault that destroys copies (`Crash` with
//! `wipe`, `Rot`) only if every durable chain of that node has at that moment another complete copy
//! on a disk that is whole and works; else the machine restarts with what it has, and the rot does
//! not happen. Everything else is allowed at any moment, all replicas at once included. Whatever a
//! checker then finds missing is a defect.
//!
//! Plans are biased towards trouble: few chunks, small values, several clients at the same chunk,
//! faults in bursts whose distances are those of the protocol's own timers.

mod dice;
mod faults;
mod topology;
mod workload;

pub use dice::Dice;
pub use faults::{Fault, OPERATION_PATIENCE, Process};
pub use topology::Topology;
pub use workload::{Action, BatchItem, Change, Operation, Place, marker};

use std::collections::BTreeSet;
use std::time::Duration;

/// All that happens in one simulated run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it comes from.
    pub seed: u64,
    /// The machines.
    pub topology: Topology,
    /// Faults and their moments, counted from when the cluster first serves, in order.
    pub faults: Vec<(Duration, Fault)>,
    /// What clients do; each client does its own one after the other.
    pub workload: Vec<Operation>,
    /// When the last fault has ended: whatever is still wrong then is healed and restarted.
    pub lasts: Duration,
}

impl Plan {
    /// The plan of a seed.
    pub fn of_seed(seed: u64) -> Plan {
        let mut dice = Dice::new(seed);
        let topology = Topology::draw(&mut dice);
        let (faults, lasts) = faults::draw(&mut dice, &topology);
        let workload = workload::draw(&mut dice, &topology, faults.len() as u32, lasts);
        Plan { seed, topology, faults, workload, lasts }
    }

    /// How many entries the plan has: its faults from 0 on, then its operations.
    pub fn entry_count(&self) -> u32 {
        (self.faults.len() + self.workload.len()) as u32
    }

    /// The same plan with some entries left out.
    pub fn without(mut self, dropped: &BTreeSet<u32>) -> Plan {
        let mut entry = 0..;
        self.faults.retain(|_| entry.next().is_some_and(|entry| !dropped.contains(&entry)));
        self.workload.retain(|one| !dropped.contains(&one.entry));
        self
    }

    /// The plan for people: the machines, then every entry on a line, a whole plan's by number.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = vec![format!("seed {}: {}", self.seed, self.topology)];
        let faults = self.faults.iter().map(|(at, fault)| format!("at {at:?}: {fault}"));
        lines.extend(faults.chain(self.workload.iter().map(ToString::to_string)));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a plan is a function of its seed, and an entry can be left out without touching the
    /// others. Method: many seeds. Oracle: equality of the descriptions.
    #[test]
    fn pure_and_divisible() {
        for seed in 0..500 {
            let plan = Plan::of_seed(seed);
            assert_eq!(plan.describe(), Plan::of_seed(seed).describe());
            let dropped = BTreeSet::from([plan.entry_count() / 2]);
            let smaller = plan.clone().without(&dropped).describe();
            let lines = plan.describe();
            let at = 1 + plan.entry_count() as usize / 2;
            assert_eq!(smaller, [&lines[..at], &lines[at + 1..]].concat());
        }
    }

    /// Goal: every kind of fault and of operation occurs. Method: many seeds. Oracle: the first
    /// word of the entries.
    #[test]
    fn all_kinds_occur() {
        let mut kinds = BTreeSet::new();
        for seed in 0..300 {
            let plan = Plan::of_seed(seed);
            for line in plan.describe().into_iter().skip(1) {
                let word = line.split(": ").nth(1).and_then(|rest| rest.split(' ').next());
                kinds.insert(word.unwrap_or_default().to_owned());
            }
        }
        let expected = [
            "crash",
            "freeze",
            "cut",
            "isolate",
            "storm",
            "rot",
            "full-disk",
            "slow-disk",
            "failing-disk",
            "drift",
            "jump",
            "take-over",
            "write",
            "replace",
            "create",
            "truncate",
            "remove",
            "read-any",
            "read-one",
            "batch",
            "kv-put",
            "kv-get",
            "kv-delete",
            "file-write",
            "file-read",
            "file-rename",
            "file-unlink",
            "file-truncate",
        ];
        for kind in expected {
            assert!(kinds.contains(kind), "{kind} never occurs: {kinds:?}");
        }
    }
}
