//! The part of a history that is about one chunk.

use crate::history::{Blackout, Deed, Outcome, Record, Seen};
use crate::plan::{Change, Place};
use bytes::Bytes;
use std::collections::BTreeMap;

/// An update of the chunk.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// The entry of the plan.
    pub entry: u32,
    /// When it began.
    pub begun: u64,
    /// When the client knew of its end.
    pub ended: u64,
    /// What.
    pub change: Change,
    /// Its version, if it was acknowledged.
    pub version: Option<u64>,
    /// It was refused for good.
    pub refused: bool,
}

/// A read of the chunk that was answered.
#[derive(Clone, Debug)]
pub struct Read {
    /// The entry of the plan.
    pub entry: u32,
    /// When it began.
    pub begun: u64,
    /// When it ended.
    pub ended: u64,
    /// First byte that was asked for.
    pub offset: u32,
    /// Bytes that were asked for.
    pub len: u32,
    /// Version, bytes and length of the chunk; none when there was no chunk.
    pub seen: Option<(u64, Bytes, u32)>,
}

/// Everything about one chunk, in the order of the beginnings.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Which.
    pub place: Place,
    /// Its updates.
    pub updates: Vec<Update>,
    /// Its reads, without those that a blackout may have made untrue.
    pub reads: Vec<Read>,
}

/// The chunks of a history.
pub fn split(records: &[Record], blackouts: &[Blackout]) -> Vec<Chunk> {
    let mut chunks: BTreeMap<Place, Chunk> = BTreeMap::new();
    for record in records {
        let Record { entry, begun, ended, .. } = *record;
        match &record.deed {
            Deed::Update { place, change, outcome } => {
                let version = match outcome {
                    Outcome::Version(version) => Some(*version),
                    Outcome::Exists | Outcome::Unknown => None,
                };
                let refused = *outcome == Outcome::Exists;
                let update = Update { entry, begun, ended, change: *change, version, refused };
                of(&mut chunks, *place).updates.push(update);
            }
            Deed::Read { place, offset, len, seen } => {
                let seen = match seen {
                    Seen::Failed(_) => continue,
                    Seen::Nothing => None,
                    Seen::Chunk { version, bytes, chunk_len } => {
                        Some((*version, bytes.clone(), *chunk_len))
                    }
                };
                let read = Read { entry, begun, ended, offset: *offset, len: *len, seen };
                of(&mut chunks, *place).reads.push(read);
            }
            _ => {}
        }
    }
    let mut chunks: Vec<Chunk> = chunks.into_values().collect();
    for chunk in &mut chunks {
        chunk.updates.sort_by_key(|update| update.begun);
        chunk.reads.sort_by_key(|read| read.begun);
        let slot = chunk.place.slot;
        let ticks = blackouts.iter().filter(|one| one.slot == slot).map(|one| one.tick);
        ticks.for_each(|tick| chunk.forget_before(tick));
    }
    chunks
}

fn of(chunks: &mut BTreeMap<Place, Chunk>, place: Place) -> &mut Chunk {
    let empty = || Chunk { place, updates: Vec::new(), reads: Vec::new() };
    chunks.entry(place).or_insert_with(empty)
}

impl Chunk {
    /// All complete replicas died at this moment: what nobody had acknowledged by then may be gone,
    /// although the tail showed it to somebody.
    fn forget_before(&mut self, tick: u64) {
        let acknowledged = self.updates.iter().filter(|update| update.ended < tick);
        let newest = acknowledged.filter_map(|update| update.version).max().unwrap_or(0);
        let kept = |read: &Read| match &read.seen {
            Some((version, _, _)) => *version <= newest || read.begun > tick,
            // What was not there may have been removed by an update that is lost.
            None => read.begun > tick,
        };
        self.reads.retain(kept);
    }
}

impl Update {
    /// What an update that was not acknowledged may have made: itself, unless it was refused; the
    /// fence of a create, which leaves everything as it was.
    pub fn possible(&self, before: &Option<Vec<u8>>) -> Vec<Option<Vec<u8>>> {
        let itself = (!self.refused).then(|| self.applied(before));
        let fence = matches!(self.change, Change::Create { .. }).then(|| before.clone());
        itself.into_iter().chain(fence).collect()
    }

    /// The content after this update; none for one that does not exist.
    pub fn applied(&self, before: &Option<Vec<u8>>) -> Option<Vec<u8>> {
        let fresh = |len| Some(crate::plan::marker(self.entry, len));
        let resized = |len: usize| {
            let mut bytes = before.clone().unwrap_or_default();
            bytes.resize(len, 0);
            bytes
        };
        match self.change {
            Change::Remove => None,
            Change::Replace { len } | Change::Create { len } => fresh(len),
            Change::Truncate { len } => Some(resized(len as usize)),
            Change::Write { offset, len } => {
                let (from, to) = (offset as usize, (offset + len) as usize);
                let mut bytes = resized(before.as_ref().map_or(0, Vec::len).max(to));
                bytes[from..to].copy_from_slice(&crate::plan::marker(self.entry, len));
                Some(bytes)
            }
        }
    }
}

impl Read {
    /// Whether the read fits the content of its version.
    pub fn fits(&self, content: &Option<Vec<u8>>) -> bool {
        match (&self.seen, content) {
            (None, None) => true,
            (Some((_, bytes, chunk_len)), Some(content)) => {
                let start = content.len().min(self.offset as usize);
                let end = content.len().min((self.offset + self.len) as usize);
                content.len() == *chunk_len as usize && bytes[..] == content[start..end.max(start)]
            }
            _ => false,
        }
    }
}
