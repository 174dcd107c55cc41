//! The machines of a plan.

use super::dice::Dice;
use std::fmt;

/// How many of what there is.
///
/// Chains follow from it as in every cluster: the manager makes one durable chain of
/// `replica_count` targets headed by each storage node, and one chain of class `cache` with one
/// target on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Storage nodes, 1 to 5.
    pub storage_count: u32,
    /// Replicas of a durable chain, 1 to 3.
    pub replica_count: u32,
    /// Manager processes, 1 or 2.
    pub manager_count: u32,
    /// Whether there is a metadata server.
    pub metadata: bool,
    /// Client machines.
    pub client_count: u32,
    /// Durable chains that the workload uses, 1 to 3: slots of the file table.
    pub chain_count: u32,
    /// Whether clients use the KV tier.
    pub kv: bool,
}

impl Topology {
    pub(super) fn draw(dice: &mut Dice) -> Topology {
        let storage_count = dice.pick(&[1, 2, 2, 3, 3, 3, 3, 3, 4, 5]);
        let replica_count = dice.pick(&[1, 2, 2, 3, 3, 3, 3]).min(storage_count);
        Topology {
            storage_count,
            replica_count,
            manager_count: dice.pick(&[1, 1, 2]),
            metadata: dice.chance(25),
            client_count: dice.pick(&[2, 2, 3, 3, 4]),
            chain_count: dice.pick(&[1, 1, 2, 3]).min(storage_count),
            kv: dice.chance(30),
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} storage nodes, {} replicas, {} managers, {} clients on {} chains{}{}",
            self.storage_count,
            self.replica_count,
            self.manager_count,
            self.client_count,
            self.chain_count,
            if self.metadata { ", metadata" } else { "" },
            if self.kv { ", kv" } else { "" },
        )
    }
}
