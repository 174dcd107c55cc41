//! The log: what makes a group of updates durable with one sync.
//!
//! Why beside the index: its tree and the data file would each need a write and a sync a group,
//! with the file system's own journal behind both. A block of the log holds the index's changes of
//! a group and the pages of its small updates. Records and pages stay in memory (`cache`, `fresh`)
//! until the log is checkpointed, so that what is overwritten again and again is written once:
//! pages into the data file, data file synced, then records into the index, with the number of the
//! last block that this covers. Two halves: one is filled while the other is checkpointed in the
//! background. What is not a record goes into the index at once, without a sync.
//! Invariants: blocks are numbered without a gap; a block is written after the one before it is
//! durable, so at most the last one can be torn; a half is written again only after all of its
//! blocks are covered by a checkpoint. Only the committer appends.

use super::codec::{Input, chunk_key, encode_record};
use super::core::Core;
use super::fresh;
use super::index::{Change, ChunkIndex};
use super::log_block::{BLOCK_ALIGNMENT_BYTES, LoggedPage, encode};
use super::record::{ChunkKey, Record};
use firepond_core::sys::disk::DiskFile;
use firepond_core::sys::{random, task};
use firepond_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The index's key for the mark.
const KIND_LOG: u8 = b'l';

/// A half grows by as much as it has, between these.
const GROWTH_MIN_BYTES: u64 = 64 << 10;
const GROWTH_MAX_BYTES: u64 = 1 << 20;

/// Records that are put into the index at a time.
const BATCH_MAX_COUNT: usize = 256;

/// How far a log is checkpointed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The log's id.
    pub(super) id: u64,
    /// The number of the last block that the index and the data file have.
    pub(super) sequence: u64,
}

/// Records by chunk, in the log but not in the index; none is a record that was removed.
pub(super) type Records = BTreeMap<ChunkKey, Option<Arc<Record>>>;

/// What a group changes.
#[derive(Default)]
pub(super) struct GroupChanges {
    /// The last record of each chunk.
    pub(super) records: Records,
    /// Everything else.
    pub(super) others: Vec<Change>,
}

/// The log of a store.
pub(super) struct Log {
    file: Arc<dyn DiskFile>,
    half_bytes: u64,
    id: u64,
    /// The number of the last block that was written.
    sequence: u64,
    half: u64,
    /// Where the next block goes, from the start of the half.
    at: u64,
    /// Bytes of each half that have a place on disk already, so that a sync is only that.
    allocated: [u64; 2],
    /// The checkpoint of the other half.
    running: Option<JoinHandle<Result<()>>>,
    /// Blocks were written that no checkpoint covers.
    is_dirty: bool,
    /// The records of those blocks.
    records: Records,
}

impl Log {
    /// A log whose blocks up to that of the mark are in the index; `is_dirty` when that is not
    /// durable.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        log_bytes: u64,
        mark: Mark,
        is_dirty: bool,
    ) -> Result<Log> {
        let half_bytes = (log_bytes / 2).next_multiple_of(BLOCK_ALIGNMENT_BYTES as u64);
        let len = file.len()?;
        let allocated = [len.min(half_bytes), len.saturating_sub(half_bytes).min(half_bytes)];
        let (half, at, running) = (0, 0, None);
        let Mark { id, sequence } = mark;
        let records = Records::new();
        Ok(Log { file, half_bytes, id, sequence, half, at, allocated, running, is_dirty, records })
    }

    /// Makes changes and pages durable; false when they are too many for the log.
    pub(super) async fn append(
        &mut self,
        core: &Arc<Core>,
        group: &GroupChanges,
        pages: &[&LoggedPage],
    ) -> Result<bool> {
        let block = encode(self.id, self.sequence + 1, &group.all(), pages);
        let len = block.len() as u64;
        if len > self.half_bytes {
            return Ok(false);
        }
        if self.at + len > self.half_bytes {
            self.rotate(core).await?;
        }
        self.reserve(self.at + len)?;
        let mut aligned = core.scratch.acquire(block.len()).await?;
        aligned.copy_from_slice(&block);
        self.file.write_in_place(&aligned, self.half * self.half_bytes + self.at)?;
        drop(aligned);
        self.file.sync_in_place().await?;
        self.at += len;
        self.sequence += 1;
        self.is_dirty = true;
        self.records.extend(group.records.iter().map(|(key, record)| (*key, record.clone())));
        Ok(true)
    }

    /// Waits until everything that was appended is durable where it belongs, with the changes of a
    /// group that was not appended; the log is empty then.
    pub(super) async fn checkpoint(&mut self, core: &Core, group: &GroupChanges) -> Result<()> {
        self.wait_running().await?;
        if self.is_dirty || !group.is_empty() {
            fresh::flush(core).await?;
            core.file.sync_in_place().await?;
            let records = std::mem::take(&mut self.records);
            let last = group.all().into_iter().chain([self.mark().change()]).collect();
            write_records(&*core.index, &records, last)?;
            core.cache.mark_indexed(records);
            self.is_dirty = false;
        }
        (self.half, self.at) = (0, 0);
        Ok(())
    }

    /// Goes on in the other half, and checkpoints this one in the background.
    async fn rotate(&mut self, core: &Arc<Core>) -> Result<()> {
        self.wait_running().await?;
        let (core, mark) = (Arc::clone(core), self.mark());
        let records = std::mem::take(&mut self.records);
        self.running = Some(task::spawn(async move {
            fresh::flush(&core).await?;
            core.file.sync().await?;
            let index = Arc::clone(&core.index);
            let written = task::spawn_blocking(move || {
                write_records(&*index, &records, vec![mark.change()]).map(|()| records)
            });
            core.cache.mark_indexed(written.await.map_err(lost)??);
            Ok(())
        }));
        self.half = 1 - self.half;
        self.at = 0;
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark { id: self.id, sequence: self.sequence }
    }

    async fn wait_running(&mut self) -> Result<()> {
        match self.running.take() {
            Some(running) => running.await.map_err(lost)?,
            None => Ok(()),
        }
    }

    /// Writes zeros ahead of the blocks: a sync of bytes that have a place on disk needs no journal
    /// of the file system.
    fn reserve(&mut self, end: u64) -> Result<()> {
        let allocated = &mut self.allocated[self.half as usize];
        if end <= *allocated {
            return Ok(());
        }
        let step = (*allocated).clamp(GROWTH_MIN_BYTES, GROWTH_MAX_BYTES);
        let target = end.max(*allocated + step).min(self.half_bytes);
        let zeros = vec![0; (target - *allocated) as usize];
        self.file.write_cached(&zeros, self.half * self.half_bytes + *allocated)?;
        *allocated = target;
        Ok(())
    }
}

impl GroupChanges {
    fn all(&self) -> Vec<Change> {
        self.others.iter().cloned().chain(record_changes(&self.records)).collect()
    }

    fn is_empty(&self) -> bool {
        self.others.is_empty() && self.records.is_empty()
    }
}

fn record_changes<'a>(
    records: impl IntoIterator<Item = (&'a ChunkKey, &'a Option<Arc<Record>>)>,
) -> Vec<Change> {
    let encoded = |record: &Option<Arc<Record>>| record.as_deref().map(encode_record);
    records.into_iter().map(|(key, record)| (chunk_key(key), encoded(record))).collect()
}

/// Puts records into the index, a bounded number at a time, and makes them durable with the last
/// changes; until then the log has them.
fn write_records(index: &dyn ChunkIndex, records: &Records, last: Vec<Change>) -> Result<()> {
    let mut rest = records.iter();
    loop {
        let changes = record_changes(rest.by_ref().take(BATCH_MAX_COUNT));
        if changes.is_empty() {
            return index.write(last, true);
        }
        index.write(changes, false)?;
    }
}

impl Mark {
    /// Of a log that is to be made.
    pub(super) fn fresh() -> Mark {
        Mark { id: random::u64(), sequence: 0 }
    }

    /// What the index has.
    pub(super) fn load(index: &dyn ChunkIndex) -> Result<Option<Mark>> {
        let Some(bytes) = index.get(&[KIND_LOG])? else { return Ok(None) };
        let mut input = Input(&bytes);
        Ok(Some(Mark { id: input.u64()?, sequence: input.u64()? }))
    }

    /// The change of the index that makes it so.
    pub(super) fn change(&self) -> Change {
        let value = [self.id.to_le_bytes(), self.sequence.to_le_bytes()].concat();
        (vec![KIND_LOG], Some(value))
    }
}

fn lost(error: tokio::task::JoinError) -> Error {
    Error::internal("a checkpoint was lost").with("cause", error)
}
