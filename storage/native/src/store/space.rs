//! Which pages of the data file are free.
//!
//! Why a bitmap in memory: it is 32 bytes a mebibyte, rebuilt at open from the index, so there is
//! nothing on disk that could disagree with the records. Whole chunks take whole segments (1 MiB),
//! so that they are one transfer; smaller pieces are packed into the fullest segment that has a run
//! for them. When no run is left a piece is split, so the last free page can be used.
//! Invariants: a unit is handed out once until it is given back; giving back a free unit is a
//! defect; the file never grows into the reserve. Locks: `state` or `room` alone; the file may grow
//! under `state`.

use super::image::{Extent, push_merged};
use super::page::PAGE_BYTES;
use super::segment::{SEGMENT_UNITS, Segment};
use firepond_core::sys::clock::{Instant, now};
use firepond_core::sys::disk::{Disk, DiskFile};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of a segment.
pub(super) const SEGMENT_BYTES: u64 = SEGMENT_UNITS as u64 * PAGE_BYTES as u64;

/// Segments that the file grows by, if the disk has room.
const GROWTH_SEGMENTS: u64 = 64;

/// Free segments at the end of the file beyond which it is cut.
const SLACK_SEGMENTS: usize = 256;

/// Segments that are looked at for a run before a fresh segment is taken.
const SEARCH_MAX_COUNT: usize = 16;

/// How long what the file system said of its room is taken for true: every update asks.
const ROOM_AGE: Duration = Duration::from_millis(20);

/// The free and used units of the data file.
pub(super) struct Space {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    reserve_bytes: u64,
    /// The file grew, and its length is not durable yet.
    grown: AtomicBool,
    /// Bytes of the file system, total and free, and when it said so.
    room: Mutex<Option<(Instant, (u64, u64))>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    segments: Vec<Segment>,
    /// Segments without a used unit.
    empty: BTreeSet<u32>,
    /// Partly used segments: (free units, segment).
    partial: BTreeSet<(u32, u32)>,
    /// Partly used segments that get no new pages, for they are being emptied.
    drained: BTreeSet<u32>,
    free_units: u64,
}

impl Space {
    /// All units of the file, free.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        file: Arc<dyn DiskFile>,
        reserve_bytes: u64,
    ) -> Result<Space> {
        let mut state = State::default();
        state.add_segments(file.len()? / SEGMENT_BYTES);
        let grown = AtomicBool::new(true);
        let (room, state) = (Mutex::default(), Mutex::new(state));
        Ok(Space { disk, file, reserve_bytes, grown, room, state })
    }

    /// Marks units as used that a record names. For opening only.
    pub(super) fn claim(&self, extent: &Extent) -> Result<()> {
        let mut state = self.state.lock();
        let total = state.segments.len() as u64 * u64::from(SEGMENT_UNITS);
        let end = extent.unit.checked_add(u64::from(extent.count));
        if end.is_none_or(|end| end > total) {
            return Err(super::codec::corrupt("an extent lies beyond the data file")
                .with("unit", extent.unit)
                .with("count", extent.count));
        }
        for (segment, range) in split(extent) {
            if !state.segments[segment as usize].is_free(range.clone()) {
                return Err(super::codec::corrupt("two chunks use one page")
                    .with("unit", extent.unit)
                    .with("count", extent.count));
            }
            state.take(segment, range);
        }
        Ok(())
    }

    /// Takes units.
    ///
    /// # Errors
    /// `DiskFull`; then nothing was taken.
    pub(super) fn allocate(&self, count: u32) -> Result<Vec<Extent>> {
        let mut state = self.state.lock();
        let mut extents = Vec::with_capacity(1);
        let mut rest = count;
        while rest > 0 {
            let wanted = rest.min(SEGMENT_UNITS);
            let found = match state.find(wanted) {
                Some(extent) => Ok(extent),
                None => self.grow(&mut state, rest).and_then(|()| {
                    state.find(wanted).or_else(|| state.find_longest(wanted)).ok_or_else(full)
                }),
            };
            if found.is_err() && !state.drained.is_empty() {
                state.end_drain();
                continue;
            }
            match found {
                Ok(extent) => {
                    state.take_extent(&extent);
                    rest -= extent.count;
                    push_merged(&mut extents, extent);
                }
                Err(error) => {
                    extents.iter().for_each(|extent| state.give_extent(extent));
                    return Err(error);
                }
            }
        }
        Ok(extents)
    }

    /// Gives units back.
    pub(super) fn free(&self, extents: &[Extent]) {
        if extents.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        extents.iter().for_each(|extent| state.give_extent(extent));
    }

    /// Grows the file for `units` more; without room, that is fine as long as single units are
    /// free.
    fn grow(&self, state: &mut State, units: u32) -> Result<()> {
        let (_, free_bytes) = self.disk.space()?;
        let room = free_bytes.saturating_sub(self.reserve_bytes) / SEGMENT_BYTES;
        let needed = u64::from(units.div_ceil(SEGMENT_UNITS));
        let added = needed.max(GROWTH_SEGMENTS).min(room);
        if added < needed {
            return if state.free_units >= u64::from(units) { Ok(()) } else { Err(full()) };
        }
        let segments = state.segments.len() as u64 + added;
        self.file.set_len(segments * SEGMENT_BYTES)?;
        self.grown.store(true, Ordering::Release);
        state.add_segments(added);
        Ok(())
    }

    /// Closes segments with at most `used_max` used units for new pages, the emptiest first and at
    /// most `count_max`; false when there are less than `count_min`.
    pub(super) fn drain(&self, used_max: u32, count_min: usize, count_max: usize) -> bool {
        let mut state = self.state.lock();
        let sparse = state.partial.range((SEGMENT_UNITS - used_max, 0)..).rev().take(count_max);
        let sparse: Vec<(u32, u32)> = sparse.copied().collect();
        if sparse.len() < count_min {
            return false;
        }
        for entry in sparse {
            state.partial.remove(&entry);
            state.drained.insert(entry.1);
        }
        true
    }

    /// Whether pages of an extent lie in a segment that is being emptied.
    pub(super) fn is_drained(&self, extent: &Extent) -> bool {
        let state = self.state.lock();
        !extent.is_hole() && split(extent).any(|(segment, _)| state.drained.contains(&segment))
    }

    /// Gives the segments free again.
    pub(super) fn end_drain(&self) {
        self.state.lock().end_drain();
    }

    /// Whether the file grew since this was last asked: then a sync has to follow.
    pub(super) fn take_grown(&self) -> bool {
        self.grown.swap(false, Ordering::AcqRel)
    }

    /// Cuts free segments off the end of the file when there are many.
    pub(super) fn shrink(&self) -> Result<()> {
        let mut state = self.state.lock();
        let used = state.segments.iter().rposition(|segment| !segment.is_empty());
        let keep = used.map_or(0, |last| last + 1) + GROWTH_SEGMENTS as usize;
        if state.segments.len() <= keep + SLACK_SEGMENTS {
            return Ok(());
        }
        self.file.set_len(keep as u64 * SEGMENT_BYTES)?;
        let cut = state.segments.len() - keep;
        state.segments.truncate(keep);
        state.empty.split_off(&(keep as u32));
        state.free_units -= cut as u64 * u64::from(SEGMENT_UNITS);
        Ok(())
    }

    /// Bytes: of the file system, and those that chunks can still take.
    pub(super) fn bytes(&self) -> Result<(u64, u64)> {
        let (total, free) = self.room()?;
        let inside = self.state.lock().free_units * PAGE_BYTES as u64;
        Ok((total, free.saturating_sub(self.reserve_bytes) + inside))
    }

    fn room(&self) -> Result<(u64, u64)> {
        let now = now();
        let mut room = self.room.lock();
        if let Some((then, room)) = *room
            && now < then + ROOM_AGE
        {
            return Ok(room);
        }
        let found = self.disk.space()?;
        *room = Some((now, found));
        Ok(found)
    }

    /// Bytes of the pages that are not free.
    pub(super) fn used_bytes(&self) -> u64 {
        let state = self.state.lock();
        let units = state.segments.len() as u64 * u64::from(SEGMENT_UNITS);
        (units - state.free_units) * PAGE_BYTES as u64
    }

    /// Whether the file system has so little left that the index itself is in danger.
    pub(super) fn is_starved(&self) -> Result<bool> {
        Ok(self.disk.space()?.1 < self.reserve_bytes / 2)
    }
}

impl State {
    fn add_segments(&mut self, count: u64) {
        for _ in 0..count {
            self.empty.insert(self.segments.len() as u32);
            self.segments.push(Segment::default());
        }
        self.free_units += count * u64::from(SEGMENT_UNITS);
    }

    fn end_drain(&mut self) {
        for segment in std::mem::take(&mut self.drained) {
            let free = self.segments[segment as usize].free_count();
            if free > 0 {
                self.partial.insert((free, segment));
            }
        }
    }

    /// A free run of exactly this length, at most a segment.
    fn find(&self, count: u32) -> Option<Extent> {
        if count < SEGMENT_UNITS {
            let fullest = self.partial.range((count, 0)..).take(SEARCH_MAX_COUNT);
            for (_, segment) in fullest {
                if let Some(start) = self.segments[*segment as usize].find_run(count) {
                    return Some(extent(*segment, start, count));
                }
            }
        }
        self.empty.first().map(|segment| extent(*segment, 0, count))
    }

    /// The longest run of the emptiest partly used segment, at most `count` long.
    fn find_longest(&self, count: u32) -> Option<Extent> {
        let (_, segment) = self.partial.last()?;
        let (start, length) = self.segments[*segment as usize].longest_run()?;
        Some(extent(*segment, start, length.min(count)))
    }

    fn take_extent(&mut self, extent: &Extent) {
        split(extent).for_each(|(segment, range)| self.take(segment, range));
    }

    fn give_extent(&mut self, extent: &Extent) {
        split(extent).for_each(|(segment, range)| self.give(segment, range));
    }

    fn take(&mut self, segment: u32, range: std::ops::Range<u32>) {
        self.free_units -= u64::from(range.end - range.start);
        self.update(segment, |state| state.take(range));
    }

    fn give(&mut self, segment: u32, range: std::ops::Range<u32>) {
        self.free_units += u64::from(range.end - range.start);
        self.update(segment, |state| state.give(range));
    }

    fn update(&mut self, index: u32, change: impl FnOnce(&mut Segment)) {
        let segment = &mut self.segments[index as usize];
        let before = segment.free_count();
        change(segment);
        let after = segment.free_count();
        match before {
            SEGMENT_UNITS => self.empty.remove(&index),
            _ => self.partial.remove(&(before, index)),
        };
        match after {
            0 => false,
            SEGMENT_UNITS => {
                self.drained.remove(&index);
                self.empty.insert(index)
            }
            _ if self.drained.contains(&index) => false,
            _ => self.partial.insert((after, index)),
        };
    }
}

fn extent(segment: u32, start: u32, count: u32) -> Extent {
    let unit = u64::from(segment) * u64::from(SEGMENT_UNITS) + u64::from(start);
    Extent { unit, count }
}

/// The parts of an extent by segment.
fn split(extent: &Extent) -> impl Iterator<Item = (u32, std::ops::Range<u32>)> + use<> {
    let size = u64::from(SEGMENT_UNITS);
    let (first, end) = (extent.unit, extent.unit + u64::from(extent.count));
    (first / size..end.div_ceil(size)).map(move |segment| {
        let start = first.max(segment * size) - segment * size;
        let stop = end.min((segment + 1) * size) - segment * size;
        (segment as u32, start as u32..stop as u32)
    })
}

fn full() -> Error {
    Error::new(ErrorKind::DiskFull, "no free page is left on this disk")
}
