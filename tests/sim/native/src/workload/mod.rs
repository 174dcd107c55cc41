//! Clients at work: each does its operations of the plan, one after the other, and records what it
//! did and saw.
//!
//! Why over the shipping clients: retries, fail-over and write ids are theirs, and are what is
//! tested. Invariants: everything that an operation writes is made of its own marker; an operation
//! ends at its deadline.

mod chunks;
mod files;
mod values;

use crate::history::{Begun, Deed, History, Outcome};
use crate::plan::{Action, Fault, Operation, Plan, Process};
use firepond_client::file_system::FileSystem;
use firepond_client::kv::KvCache;
use firepond_core::ids::{ChainTableId, ChunkId, ChunkIndex, InodeId};
use firepond_core::peer::ChainClient;
use firepond_core::sys::clock::{self, Instant, now};
use std::time::Duration;

/// The chain table of files.
pub const FILE_TABLE: ChainTableId = ChainTableId(1);
/// The inode of the first chunk of the workload: beyond all that a metadata server gives out here.
const FIRST_INODE: u64 = 1 << 40;
/// No chunk of the workload gets longer.
pub const CHUNK_MAX_BYTES: u32 = 64 << 10;
/// By how much an operation may pass its deadline, while its client runs.
const LATE_MAX: Duration = Duration::from_secs(2);

/// What a client machine works with.
pub struct Handles {
    /// Chunks.
    pub chains: ChainClient,
    /// Values, if the plan has them.
    pub kv: Option<KvCache>,
    /// Files, if the plan has them.
    pub files: Option<FileSystem>,
}

/// The id of a chunk of the workload.
pub fn chunk_id(number: u32) -> ChunkId {
    ChunkId::file(InodeId(FIRST_INODE + u64::from(number)), ChunkIndex(0))
}

/// The number of a chunk of the workload.
pub fn chunk_number(chunk: ChunkId) -> Option<u32> {
    let (inode, _) = chunk.file_parts()?;
    u32::try_from(inode.0.checked_sub(FIRST_INODE)?).ok()
}

struct Client<'a> {
    handles: &'a Handles,
    history: &'a History,
}

/// Does all operations of a client.
pub async fn run(handles: Handles, plan: &Plan, client: u32, history: &History) {
    let worker = Client { handles: &handles, history };
    let late_max = LATE_MAX + 2 * frozen(plan, client);
    for operation in plan.workload.iter().filter(|one| one.client == client) {
        clock::sleep(operation.pause).await;
        let begun = history.begin(operation.entry, client, &operation.action, unknown(operation));
        let deadline = now() + operation.patience;
        worker.act(operation, begun, deadline).await;
        assert!(now() < deadline + late_max, "[{}] passed its deadline", operation.entry);
    }
}

/// How long a client stands still in a plan.
fn frozen(plan: &Plan, client: u32) -> Duration {
    let lasts = plan.faults.iter().map(|(_, fault)| match *fault {
        Fault::Freeze { process: Process::Client(one), lasts } if one == client => lasts,
        _ => Duration::ZERO,
    });
    lasts.sum()
}

impl Client<'_> {
    async fn act(&self, operation: &Operation, begun: Begun, deadline: Instant) {
        let entry = operation.entry;
        let last = match &operation.action {
            Action::Update { place, change } => self.update(entry, *place, *change, deadline).await,
            Action::ReadAny { place, prefer_head } => {
                self.read_any(*place, *prefer_head, deadline).await
            }
            Action::ReadOne { place, member } => self.read_one(*place, *member, deadline).await,
            Action::Batch(items) => self.batch(items, begun, deadline).await,
            Action::KvPut { key, len } => self.kv_put(entry, *key, *len, deadline).await,
            Action::KvGet { keys } => self.kv_get(keys, begun, deadline).await,
            Action::KvDelete { key } => self.kv_delete(*key, deadline).await,
            Action::FileWrite { file, pieces, close } => {
                self.file_write(entry, *file, pieces, *close, begun, deadline).await
            }
            Action::FileRead { file } => self.file_read(*file, deadline).await,
            Action::FileRename { file, to } => self.file_rename(*file, *to, deadline).await,
            Action::FileUnlink { file } => self.file_unlink(*file, deadline).await,
            Action::FileTruncate { file, len } => {
                self.file_truncate(*file, *len, begun, deadline).await
            }
        };
        self.history.end(begun, last);
    }
}

/// What an operation counts as whose end nobody sees.
fn unknown(operation: &Operation) -> Option<Deed> {
    match operation.action {
        Action::Update { place, change } => {
            Some(Deed::Update { place, change, outcome: Outcome::Unknown })
        }
        Action::KvPut { key, len } => Some(Deed::KvPut { key, len, stored: None }),
        _ => None,
    }
}

/// An operation that could not even begin.
fn not_done(why: &str) -> Deed {
    Deed::Names(why.to_owned())
}
