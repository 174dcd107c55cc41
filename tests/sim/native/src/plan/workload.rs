//! What clients do.

use super::dice::Dice;
use super::topology::Topology;
use std::fmt;
use std::time::Duration;

/// A chunk that clients work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The slot of the file table that names the chain.
    pub slot: u32,
    /// Which chunk of it.
    pub number: u32,
}

/// A change of a chunk. Its bytes follow from the entry of the operation.
#[expect(missing_docs, reason = "offsets, lengths, places and names need no words")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes at an offset; a gap before them reads as zeros.
    Write { offset: u32, len: u32 },
    /// The whole chunk.
    Replace { len: u32 },
    /// The whole chunk, if there is none.
    Create { len: u32 },
    /// The length; what is new reads as zeros.
    Truncate { len: u32 },
    /// The chunk is gone.
    Remove,
}

/// One read of a batch.
#[expect(missing_docs, reason = "offsets, lengths, places and names need no words")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchItem {
    /// The whole chunk.
    Whole(Place),
    /// A part of it.
    Part { place: Place, offset: u32, len: u32 },
    /// A chunk that never was: its error must not touch the others.
    Absent { slot: u32 },
    /// A chain that does not exist.
    NoChain,
}

/// What a client does.
#[expect(missing_docs, reason = "offsets, lengths, places and names need no words")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Changes a chunk.
    Update { place: Place, change: Change },
    /// Reads a chunk of whichever replica answers.
    ReadAny { place: Place, prefer_head: bool },
    /// Reads a chunk of the n-th member of its chain, whatever that is.
    ReadOne { place: Place, member: u32 },
    /// Reads several in one batch.
    Batch(Vec<BatchItem>),
    /// Publishes a value.
    KvPut { key: u32, len: u32 },
    /// Reads values.
    KvGet { keys: Vec<u32> },
    /// Removes a value.
    KvDelete { key: u32 },
    /// Creates or opens a file, writes pieces at offsets, then fsync or close.
    FileWrite { file: u32, pieces: Vec<(u32, u32)>, close: bool },
    /// Opens a file and reads all of it.
    FileRead { file: u32 },
    /// Renames a file over another name.
    FileRename { file: u32, to: u32 },
    /// Removes a name.
    FileUnlink { file: u32 },
    /// Sets the length.
    FileTruncate { file: u32, len: u32 },
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number in the plan, and the marker of what it writes.
    pub entry: u32,
    /// Who.
    pub client: u32,
    /// The pause before it, after the client's operation before.
    pub pause: Duration,
    /// How long the client waits for its end; then its outcome is unknown.
    pub patience: Duration,
    /// What.
    pub action: Action,
}

/// Chunks of a chain, keys and files that are used: few, so that operations meet.
const CHUNKS_COUNT: u32 = 3;
const KEYS_COUNT: u32 = 3;
const FILES_COUNT: u32 = 3;

/// What a plan's operations are like.
struct Flavour {
    len_max: u32,
    burst_ms: u64,
    chunks_count: u32,
    files_percent: u64,
    kv_percent: u64,
}

pub(super) fn draw(
    dice: &mut Dice,
    topology: &Topology,
    first: u32,
    lasts: Duration,
) -> Vec<Operation> {
    let count: u32 = dice.pick(&[10, 20, 30, 40, 60]);
    // The operations of a client spread over the time of the faults.
    let each = u64::from(count / topology.client_count + 1);
    // Bursts, with pauses between them in which faults strike.
    let burst_ms = (5 * lasts.as_millis() as u64 / each).max(2);
    let flavour = Flavour {
        // One page, the edge of a page, several pages.
        len_max: dice.pick(&[24, 48, 48, 64, 64, 9_000]),
        burst_ms,
        chunks_count: 1 + dice.below(CHUNKS_COUNT),
        files_percent: if topology.metadata { 35 } else { 0 },
        kv_percent: if topology.kv { 25 } else { 0 },
    };
    let draw_one = |at: u32| Operation {
        entry: first + at,
        client: dice.below(topology.client_count),
        pause: pause(dice, &flavour),
        patience: patience(dice),
        action: action(dice, topology, &flavour),
    };
    (0..count).map(draw_one).collect()
}

fn pause(dice: &mut Dice, flavour: &Flavour) -> Duration {
    match dice.chance(60) {
        true => dice.millis_below(4),
        false => dice.millis_below(flavour.burst_ms),
    }
}

/// Most operations have time to outlive the faults; some are given up soon.
fn patience(dice: &mut Dice) -> Duration {
    match dice.range(0..4) {
        0 => Duration::from_millis(20 + dice.range(0..2_000)),
        _ => Duration::from_secs(60),
    }
}

fn action(dice: &mut Dice, topology: &Topology, flavour: &Flavour) -> Action {
    if dice.chance(flavour.files_percent) {
        return file_action(dice, flavour);
    }
    if dice.chance(flavour.kv_percent) {
        return kv_action(dice, flavour);
    }
    let place = place(dice, topology, flavour);
    match dice.range(0..100) {
        0..52 => Action::Update { place, change: change(dice, flavour) },
        52..70 => Action::ReadAny { place, prefer_head: dice.chance(30) },
        70..92 => Action::ReadOne { place, member: dice.below(topology.replica_count) },
        _ => {
            let count = 2 + dice.below(4);
            Action::Batch((0..count).map(|_| batch_item(dice, topology, flavour)).collect())
        }
    }
}

fn place(dice: &mut Dice, topology: &Topology, flavour: &Flavour) -> Place {
    let slot = dice.below(topology.chain_count);
    Place { slot, number: dice.below(flavour.chunks_count) }
}

fn change(dice: &mut Dice, flavour: &Flavour) -> Change {
    let len = 1 + dice.below(flavour.len_max);
    match dice.range(0..100) {
        0..50 => Change::Write { offset: dice.below(flavour.len_max), len },
        50..68 => Change::Replace { len },
        68..78 => Change::Create { len },
        78..88 => Change::Truncate { len: dice.below(flavour.len_max) },
        _ => Change::Remove,
    }
}

fn batch_item(dice: &mut Dice, topology: &Topology, flavour: &Flavour) -> BatchItem {
    let place = place(dice, topology, flavour);
    match dice.range(0..8) {
        0 => BatchItem::Absent { slot: place.slot },
        1 => BatchItem::NoChain,
        2..4 => {
            let offset = dice.below(flavour.len_max);
            BatchItem::Part { place, offset, len: 1 + dice.below(flavour.len_max) }
        }
        _ => BatchItem::Whole(place),
    }
}

fn kv_action(dice: &mut Dice, flavour: &Flavour) -> Action {
    let key = dice.below(KEYS_COUNT);
    match dice.range(0..10) {
        0..5 => Action::KvPut { key, len: 8 + dice.below(flavour.len_max) },
        5..9 => {
            let first = dice.below(KEYS_COUNT);
            Action::KvGet { keys: (first..KEYS_COUNT).collect() }
        }
        _ => Action::KvDelete { key },
    }
}

fn file_action(dice: &mut Dice, flavour: &Flavour) -> Action {
    let file = dice.below(FILES_COUNT);
    match dice.range(0..20) {
        0..9 => {
            let count = 1 + dice.below(3);
            let mut piece = || (dice.below(4 * flavour.len_max), 1 + dice.below(flavour.len_max));
            let pieces = (0..count).map(|_| piece()).collect();
            Action::FileWrite { file, pieces, close: dice.chance(60) }
        }
        9..15 => Action::FileRead { file },
        15..17 => Action::FileRename { file, to: dice.below(FILES_COUNT) },
        17 => Action::FileUnlink { file },
        _ => Action::FileTruncate { file, len: dice.below(3 * flavour.len_max) },
    }
}

/// The bytes that an operation writes: its own, so that whoever sees them knows whence they are.
pub fn marker(entry: u32, len: u32) -> Vec<u8> {
    let cell = format!("[{entry:05}]");
    cell.bytes().cycle().take(len as usize).collect()
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "chunk {}.{}", self.slot, self.number)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Update { place, change } => match change {
                Change::Write { offset, len } => {
                    write!(formatter, "write {len} bytes at {offset} of {place}")
                }
                Change::Replace { len } => write!(formatter, "replace {place} by {len} bytes"),
                Change::Create { len } => write!(formatter, "create {place} with {len} bytes"),
                Change::Truncate { len } => write!(formatter, "truncate {place} to {len} bytes"),
                Change::Remove => write!(formatter, "remove {place}"),
            },
            Action::ReadAny { place, prefer_head } => {
                let first = if *prefer_head { ", the head first" } else { "" };
                write!(formatter, "read-any {place}{first}")
            }
            Action::ReadOne { place, member } => {
                write!(formatter, "read-one {place} of member {member}")
            }
            Action::Batch(items) => write!(formatter, "batch {items:?}"),
            Action::KvPut { key, len } => write!(formatter, "kv-put key {key}, {len} bytes"),
            Action::KvGet { keys } => write!(formatter, "kv-get keys {keys:?}"),
            Action::KvDelete { key } => write!(formatter, "kv-delete key {key}"),
            Action::FileWrite { file, pieces, close } => {
                let how = if *close { "close" } else { "fsync" };
                write!(formatter, "file-write {file} (offset, len) {pieces:?}, {how}")
            }
            Action::FileRead { file } => write!(formatter, "file-read {file}"),
            Action::FileRename { file, to } => write!(formatter, "file-rename {file} to {to}"),
            Action::FileUnlink { file } => write!(formatter, "file-unlink {file}"),
            Action::FileTruncate { file, len } => {
                write!(formatter, "file-truncate {file} to {len} bytes")
            }
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { entry, client, pause, patience, action } = self;
        write!(formatter, "[{entry}] client-{client} after {pause:?} within {patience:?}: {action}")
    }
}
