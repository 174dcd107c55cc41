//! One chunk of the store in memory: its versions, what an update makes of them, what it remembers.

use bytes::Bytes;
use firepond_core::ids::{ChangeStamp, ChunkVersion, WriteId};
use firepond_core::sys::clock;
use firepond_core::wire::storage::{RecentWrite, UpdateKind};
use firepond_core::{Error, ErrorKind, Result};
use firepond_storage::store::{ChunkState, ChunkWrite, RECENT_WRITES_MAX_COUNT, VersionState};
use std::collections::BTreeSet;
use std::ops::Range;

pub(super) const PAGE_BYTES: usize = 4096;

#[derive(Clone)]
pub(super) struct Stored {
    pub(super) state: VersionState,
    pub(super) bytes: Bytes,
    /// Pages that cannot be read.
    pub(super) rotten: BTreeSet<usize>,
}

impl Stored {
    /// Whether none of these bytes is on a rotten page.
    pub(super) fn is_good(&self, bytes: Range<usize>) -> bool {
        let pages = bytes.start / PAGE_BYTES..bytes.end.div_ceil(PAGE_BYTES);
        self.rotten.range(pages).next().is_none()
    }
}

#[derive(Clone, Default)]
pub(super) struct Entry {
    pub(super) committed: Option<Stored>,
    pub(super) pending: Option<Stored>,
    pub(super) recent_writes: Vec<RecentWrite>,
    pub(super) forgotten: ChunkVersion,
    pub(super) tag: [u8; 32],
    pub(super) updated_ns: u64,
    pub(super) stamp: ChangeStamp,
    /// The entry before a commit that is not durable yet.
    pub(super) before_commit: Option<(clock::Instant, Box<Entry>)>,
}

pub(super) fn content(entry: &Entry, write: &ChunkWrite, payload: &[u8]) -> Bytes {
    let base = entry.committed.as_ref().filter(|one| !one.state.removed && !write.full_chunk);
    let mut bytes = base.map(|one| one.bytes.to_vec()).unwrap_or_default();
    let (offset, len) = (write.offset as usize, write.len as usize);
    match write.kind {
        UpdateKind::Remove => bytes.clear(),
        UpdateKind::Truncate => bytes.resize(len, 0),
        UpdateKind::PunchHole | UpdateKind::Fence => {
            let end = (offset + len).min(bytes.len());
            bytes[offset.min(end)..end].fill(0);
        }
        UpdateKind::Replace | UpdateKind::Create => bytes = payload.to_vec(),
        UpdateKind::Write => {
            bytes.resize(bytes.len().max(offset + len), 0);
            bytes[offset..offset + len].copy_from_slice(payload);
        }
    }
    Bytes::from(bytes)
}

pub(super) fn check_order(entry: &Entry, write: &ChunkWrite) -> Result<Option<VersionState>> {
    if write.full_chunk {
        return Ok(None);
    }
    let committed = entry.committed.as_ref().map(|one| one.state);
    let same = |one: &VersionState| one.version == write.version && one.write_id == write.write_id;
    if let Some(done) = committed.filter(same) {
        return Ok(Some(done));
    }
    if let Some(pending) = &entry.pending {
        let same = same(&pending.state);
        let error = Error::new(ErrorKind::UpdateStale, "another update is pending");
        return if same { Ok(Some(pending.state)) } else { Err(error) };
    }
    let current = committed.map_or(0, |one| one.version.0);
    match write.version.0 {
        next if next == current + 1 => Ok(None),
        next if next > current => Err(Error::new(ErrorKind::UpdateGap, "gap")),
        _ => Err(Error::new(ErrorKind::UpdateStale, "stale")),
    }
}

pub(super) fn made(state: &VersionState) -> RecentWrite {
    RecentWrite { write_id: state.write_id, version: state.version }
}

pub(super) fn remember(entry: &mut Entry, recent: &RecentWrite) {
    if recent.write_id == WriteId::default() {
        return;
    }
    let channel = |one: &RecentWrite| (one.write_id.client, one.write_id.channel);
    entry.recent_writes.retain(|one| channel(one) != channel(recent));
    entry.recent_writes.push(*recent);
    let excess = entry.recent_writes.len().saturating_sub(RECENT_WRITES_MAX_COUNT);
    for one in entry.recent_writes.drain(..excess) {
        entry.forgotten = entry.forgotten.max(one.version);
    }
}

pub(super) fn state_of(entry: &Entry) -> ChunkState {
    ChunkState {
        committed: entry.committed.as_ref().map(|one| one.state),
        pending: entry.pending.as_ref().map(|one| one.state),
        recent_writes: entry.recent_writes.clone(),
        forgotten: entry.forgotten,
        tag: entry.tag,
        updated_ns: entry.updated_ns,
        stamp: entry.stamp,
    }
}
