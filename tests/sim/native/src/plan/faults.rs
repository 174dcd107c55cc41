//! Faults and their moments.

use super::dice::Dice;
use super::topology::Topology;
use std::fmt;
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

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The other manager process takes a term while the one that led still runs.
    TakeOver,
}

/// The longest time between the first fault and the last.
const SPAN_MAX_MS: u64 = 9_000;
/// After the last fault's end.
const QUIET: Duration = Duration::from_millis(200);
/// By when a crash at a disk operation happens even if there are fewer operations.
pub const OPERATION_PATIENCE: Duration = Duration::from_secs(2);

/// Faults in bursts, and when the last of them has ended.
pub(super) fn draw(dice: &mut Dice, topology: &Topology) -> (Vec<(Duration, Fault)>, Duration) {
    // One plan in sixteen has no faults: the rules hold in fair weather, too.
    let count = if dice.chance(6) { 0 } else { dice.range(1..10) };
    let mut at_ms = dice.range(20..1_500);
    let mut faults = Vec::new();
    for _ in 0..count {
        let at = Duration::from_millis(at_ms);
        if dice.chance(5) {
            // All at once, back one after the other.
            let process = |storage| (at, Process::Storage(storage));
            let all = (0..topology.storage_count).map(process);
            faults.extend(all.map(|(at, process)| (at, crash(dice, process, 0))));
        } else {
            faults.push((at, draw_one(dice, topology)));
        }
        // The protocol's own times: a message, a heartbeat, a lease.
        let pause_ms = dice.pick(&[2, 20, 60, 300, 700, 2_500]);
        at_ms = (at_ms + dice.range(0..pause_ms)).min(SPAN_MAX_MS);
    }
    let ends = faults.iter().map(|(at, fault)| *at + length(fault));
    let end = ends.max().unwrap_or(Duration::from_secs(1)) + QUIET;
    (faults, end)
}

fn draw_one(dice: &mut Dice, topology: &Topology) -> Fault {
    let storage = dice.below(topology.storage_count);
    let node = Process::Storage(storage);
    match dice.range(0..100) {
        0..17 => crash(dice, node, 12),
        17..27 => {
            let operation = 1 + u64::from(dice.below(40));
            Fault::CrashAtOperation { storage, operation, away: away(dice) }
        }
        27..35 => Fault::Freeze { process: any(dice, topology), lasts: span(dice) },
        35..45 => {
            let (from, to) = pair(dice, topology);
            Fault::Cut { from, to, both_ways: dice.chance(40), lasts: span(dice) }
        }
        45..51 => Fault::Isolate { process: any(dice, topology), lasts: span(dice) },
        51..63 => storm(dice),
        63..68 => Fault::Rot { storage, page_count: 1 + dice.below(8) },
        68..73 => Fault::FullDisk { storage, lasts: span(dice) },
        73..79 => Fault::SlowDisk { storage, delay: dice.millis_below(250), lasts: span(dice) },
        79..82 => Fault::FailingDisk { storage, lasts: span(dice) },
        82..86 => {
            let parts_per_million = dice.range(0..100_000) as i64 - 50_000;
            Fault::Drift { process: any(dice, topology), parts_per_million }
        }
        86..89 => {
            let seconds = dice.pick(&[-7_200, -60, -1, 1, 60, 7_200, 100_000]);
            Fault::Jump { process: any(dice, topology), milliseconds: seconds * 1000 }
        }
        89..93 if topology.manager_count > 1 => Fault::TakeOver,
        89..97 => {
            let manager = dice.below(topology.manager_count);
            crash(dice, Process::Manager(manager), 0)
        }
        _ if topology.metadata => crash(dice, Process::Meta, 0),
        _ => crash(dice, node, 12),
    }
}

fn crash(dice: &mut Dice, process: Process, wiped_percent: u64) -> Fault {
    Fault::Crash { process, away: away(dice), wipe: dice.chance(wiped_percent) }
}

fn storm(dice: &mut Dice) -> Fault {
    Fault::Storm {
        delay_max: Duration::from_millis(dice.pick(&[1, 5, 20, 60, 400])),
        repeated_per_mille: dice.pick(&[0, 0, 50, 150, 300]),
        lost_per_mille: dice.pick(&[0, 0, 20, 50, 120]),
        lasts: span(dice),
    }
}

/// Shorter than a probe, than a lease, or longer.
fn away(dice: &mut Dice) -> Duration {
    let bound = dice.pick(&[60, 400, 1_500, 5_000]);
    dice.millis_below(bound)
}

fn span(dice: &mut Dice) -> Duration {
    let bound = dice.pick(&[300, 1_500, 6_000]);
    dice.millis_below(bound)
}

fn any(dice: &mut Dice, topology: &Topology) -> Process {
    match dice.range(0..12) {
        0 => Process::Manager(dice.below(topology.manager_count)),
        1 => Process::Client(dice.below(topology.client_count)),
        2 if topology.metadata => Process::Meta,
        _ => Process::Storage(dice.below(topology.storage_count)),
    }
}

/// Two processes between which a cut matters.
fn pair(dice: &mut Dice, topology: &Topology) -> (Process, Process) {
    let one = Process::Storage(dice.below(topology.storage_count));
    let other = match dice.range(0..4) {
        0 => Process::Manager(dice.below(topology.manager_count)),
        1 => Process::Client(dice.below(topology.client_count)),
        _ => Process::Storage(dice.below(topology.storage_count)),
    };
    // A process always reaches itself.
    let other = if one == other { Process::Client(0) } else { other };
    if dice.chance(50) { (one, other) } else { (other, one) }
}

/// How long after its moment a fault still has something to do.
fn length(fault: &Fault) -> Duration {
    match *fault {
        Fault::Crash { away, .. } => away,
        Fault::CrashAtOperation { away, .. } => OPERATION_PATIENCE + away,
        Fault::Freeze { lasts, .. }
        | Fault::Cut { lasts, .. }
        | Fault::Isolate { lasts, .. }
        | Fault::Storm { lasts, .. }
        | Fault::FullDisk { lasts, .. }
        | Fault::SlowDisk { lasts, .. }
        | Fault::FailingDisk { lasts, .. } => lasts,
        Fault::Rot { .. } | Fault::Drift { .. } | Fault::Jump { .. } | Fault::TakeOver => {
            Duration::ZERO
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Process::Manager(index) => write!(formatter, "manager-{index}"),
            Process::Storage(index) => write!(formatter, "storage-{index}"),
            Process::Meta => formatter.write_str("meta"),
            Process::Client(index) => write!(formatter, "client-{index}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash { process, away, wipe } => {
                let how = if *wipe { ", its disk wiped" } else { "" };
                write!(formatter, "crash {process} for {away:?}{how}")
            }
            Fault::CrashAtOperation { storage, operation, away } => write!(
                formatter,
                "crash storage-{storage} at its disk operation {operation} for {away:?}"
            ),
            Fault::Freeze { process, lasts } => write!(formatter, "freeze {process} for {lasts:?}"),
            Fault::Cut { from, to, both_ways, lasts } => {
                let arrow = if *both_ways { "<->" } else { "->" };
                write!(formatter, "cut {from} {arrow} {to} for {lasts:?}")
            }
            Fault::Isolate { process, lasts } => {
                write!(formatter, "isolate {process} for {lasts:?}")
            }
            Fault::Storm { lasts, delay_max, lost_per_mille, repeated_per_mille } => write!(
                formatter,
                "storm of delays up to {delay_max:?}, {repeated_per_mille} per mille repeated, \
                 {lost_per_mille} lost for {lasts:?}"
            ),
            Fault::Rot { storage, page_count } => {
                write!(formatter, "rot in {page_count} pages of storage-{storage}")
            }
            Fault::FullDisk { storage, lasts } => {
                write!(formatter, "full-disk storage-{storage} for {lasts:?}")
            }
            Fault::SlowDisk { storage, delay, lasts } => {
                write!(formatter, "slow-disk storage-{storage} by {delay:?} for {lasts:?}")
            }
            Fault::FailingDisk { storage, lasts } => {
                write!(formatter, "failing-disk storage-{storage} for {lasts:?}")
            }
            Fault::Drift { process, parts_per_million } => {
                write!(formatter, "drift of {process} by {parts_per_million} ppm")
            }
            Fault::Jump { process, milliseconds } => {
                write!(formatter, "jump of {process} by {milliseconds} ms")
            }
            Fault::TakeOver => formatter.write_str("take-over by the other manager"),
        }
    }
}
