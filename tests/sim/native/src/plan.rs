//! What happens in one seed's world: who takes part, which faults strike and when.
//!
//! Invariants: a plan is a pure function of its seed; any fault may be dropped from it and the rest
//! still makes sense, so that a failing plan can be made smaller.

use std::time::Duration;

/// A process of the world, by kind and index from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// A storage process with one disk.
    Storage(u32),
    /// The metadata process.
    Meta,
    /// A manager process.
    Manager(u32),
    /// A client.
    Client(u32),
}

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Storage processes.
    pub storage_count: u32,
    /// Targets of a chain.
    pub replica_count: u32,
    /// Chains.
    pub chain_count: u32,
    /// Clients.
    pub client_count: u32,
    /// Manager processes that may exist in one run: the first leads, the others stand by.
    pub manager_count: u32,
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A process dies now and starts again later; a wiped storage process has an empty disk then.
    Crash {
        /// Who.
        process: Process,
        /// How long it is away.
        away: Duration,
        /// The disk is replaced by an empty one.
        wipe: bool,
    },
    /// A storage process dies in the middle of a disk operation: the n-th from now on.
    CrashAtOperation {
        /// Which storage process.
        storage: u32,
        /// Which operation, from 1.
        operation: u64,
        /// How long it is away.
        away: Duration,
    },
    /// A process stands still (SIGSTOP) and then goes on as if nothing had been.
    Freeze {
        /// Who.
        process: Process,
        /// How long.
        lasts: Duration,
    },
    /// What one sends to the other does not arrive.
    Cut {
        /// The sender.
        from: Process,
        /// The receiver.
        to: Process,
        /// Nor the other way.
        both_ways: bool,
        /// How long.
        lasts: Duration,
    },
    /// Nobody hears a process, nor does it hear anyone.
    Isolate {
        /// Who.
        process: Process,
        /// How long.
        lasts: Duration,
    },
    /// Messages are late, lost and repeated.
    Storm {
        /// How long.
        lasts: Duration,
        /// The longest delay of a message.
        delay_max: Duration,
        /// Messages in a thousand that are lost.
        lost_per_mille: u32,
        /// Messages in a thousand that come twice.
        repeated_per_mille: u32,
    },
    /// Stored pages of a storage process lose a bit.
    Rot {
        /// Which storage process.
        storage: u32,
        /// How many pages.
        page_count: u32,
    },
    /// A disk has no room.
    FullDisk {
        /// Which storage process.
        storage: u32,
        /// How long.
        lasts: Duration,
    },
    /// Each disk operation takes this long.
    SlowDisk {
        /// Which storage process.
        storage: u32,
        /// How long an operation takes.
        delay: Duration,
        /// How long it is so.
        lasts: Duration,
    },
    /// Writes and syncs fail; the process is started again with the same disk when that ends.
    FailingDisk {
        /// Which storage process.
        storage: u32,
        /// How long.
        lasts: Duration,
    },
    /// A machine's clocks run fast or slow.
    Drift {
        /// Whose.
        process: Process,
        /// By how many millionths.
        parts_per_million: i64,
    },
    /// A machine's wall clock is set.
    Jump {
        /// Whose.
        process: Process,
        /// By how many milliseconds.
        milliseconds: i64,
    },
}

/// All that a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed; also of the network, the disks and the clients.
    pub seed: u64,
    /// Who takes part.
    pub topology: Topology,
    /// What goes wrong, and when after the clients began, in order.
    pub faults: Vec<(Duration, Fault)>,
    /// How long clients work; the last fault comes before.
    pub lasts: Duration,
}
