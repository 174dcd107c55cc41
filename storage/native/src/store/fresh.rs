//! Pages of small updates that only the log has: they reach the data file at its next checkpoint.
//!
//! Why: the log makes them durable, so a write of their own, at once, would be the second one of
//! each update; gathered, they are few large writes, and a page that is overwritten or given back
//! meanwhile is none.
//! Invariants: a page is here before a record that names it is visible, and leaves when the data
//! file has it or when it is free; a page that is being written is not free until that write has
//! ended, for the next owner's bytes must not be followed by these. The log bounds what is here.
//! Locks: `pages` alone.

use super::core::Core;
use super::image::{Extent, Run, push_merged};
use super::page::PAGE_BYTES;
use bytes::Bytes;
use firepond_core::Result;
use firepond_core::payload::Payload;
use firepond_core::sys::mistake::{Mistake, planted};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Pages that are written at a time.
const BATCH_MAX_COUNT: usize = 256;

/// The pages by their unit.
#[derive(Default)]
pub(super) struct FreshPages {
    /// As many as there are, so that whoever reads other pages takes no lock.
    count: AtomicUsize,
    pages: Mutex<Pages>,
}

/// By unit.
type Pages = BTreeMap<u64, Page>;

struct Page {
    bytes: Bytes,
    is_being_written: bool,
    is_freed: bool,
}

impl FreshPages {
    /// Adds a page that its caller has just taken.
    pub(super) fn insert(&self, unit: u64, bytes: Bytes) {
        assert_eq!(bytes.len(), PAGE_BYTES, "a whole page");
        let page = Page { bytes, is_being_written: false, is_freed: false };
        let before = self.pages.lock().insert(unit, page);
        assert!(before.is_none(), "a page has one owner");
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Those pages of some runs that are here, with their numbers in the chunk.
    pub(super) fn find(&self, runs: &[Run]) -> Vec<(u32, Bytes)> {
        let mut found = Vec::new();
        if self.count.load(Ordering::Acquire) == 0 {
            return found;
        }
        let pages = self.pages.lock();
        for run in runs.iter().filter(|run| !run.extent.is_hole()) {
            let first = run.extent.unit;
            for (unit, page) in pages.range(first..first + u64::from(run.extent.count)) {
                found.push((run.page + (unit - first) as u32, page.bytes.clone()));
            }
        }
        found
    }

    /// Forgets pages that nobody uses any more; those of them that are free now.
    #[must_use]
    pub(super) fn release(&self, extents: &[Extent]) -> Vec<Extent> {
        if self.count.load(Ordering::Acquire) == 0 {
            return extents.to_vec();
        }
        let mut free = Vec::with_capacity(extents.len());
        let mut pages = self.pages.lock();
        for extent in extents {
            let end = extent.unit + u64::from(extent.count);
            let here: Vec<u64> = pages.range(extent.unit..end).map(|(unit, _)| *unit).collect();
            let mut at = extent.unit;
            for unit in here {
                if self.forget(&mut pages, unit) {
                    continue;
                }
                push_units(&mut free, at, unit);
                at = unit + 1;
            }
            push_units(&mut free, at, end);
        }
        free
    }

    /// False while the page is being written: then it is free when that has ended.
    fn forget(&self, pages: &mut Pages, unit: u64) -> bool {
        let Some(page) = pages.get_mut(&unit) else { return true };
        if page.is_being_written && !planted(Mistake::PagesFreedEarly) {
            page.is_freed = true;
            return false;
        }
        pages.remove(&unit);
        self.count.fetch_sub(1, Ordering::Release);
        true
    }

    /// The next pages from a unit on, which are being written from now on.
    fn begin(&self, from: u64) -> Vec<(u64, Bytes)> {
        let mut pages = self.pages.lock();
        let next = pages.range_mut(from..).take(BATCH_MAX_COUNT);
        let begun = next.map(|(unit, page)| {
            page.is_being_written = true;
            (*unit, page.bytes.clone())
        });
        begun.collect()
    }

    /// The data file has these pages now; those that were given back meanwhile.
    fn end(&self, written: &[(u64, Bytes)]) -> Vec<Extent> {
        let mut freed = Vec::new();
        let mut pages = self.pages.lock();
        for (unit, _) in written {
            let Some(page) = pages.remove(unit) else { continue };
            self.count.fetch_sub(1, Ordering::Release);
            if page.is_freed {
                push_units(&mut freed, *unit, unit + 1);
            }
        }
        freed
    }
}

/// Writes all pages that are here now into the data file; a sync has to follow.
///
/// # Errors
/// As the disk; the pages stay.
pub(super) async fn flush(core: &Core) -> Result<()> {
    let mut from = 0;
    loop {
        let batch = core.fresh.begin(from);
        let Some((last, _)) = batch.last() else { return Ok(()) };
        from = last + 1;
        write(core, &batch).await?;
        core.space.free(&core.fresh.end(&batch));
    }
}

async fn write(core: &Core, batch: &[(u64, Bytes)]) -> Result<()> {
    let mut buffer = core.scratch.acquire(batch.len() * PAGE_BYTES).await?;
    let mut extents: Vec<Extent> = Vec::new();
    for (place, (unit, bytes)) in buffer.chunks_exact_mut(PAGE_BYTES).zip(batch) {
        place.copy_from_slice(bytes);
        push_merged(&mut extents, Extent { unit: *unit, count: 1 });
    }
    let mut start = 0;
    let parts = extents.iter().map(|extent| {
        let range = start..start + extent.count as usize * PAGE_BYTES;
        start = range.end;
        (range, extent.unit * PAGE_BYTES as u64)
    });
    core.file.write_scattered(Payload::from_buffer(buffer), parts.collect()).await
}

fn push_units(extents: &mut Vec<Extent>, first: u64, end: u64) {
    if first < end {
        push_merged(extents, Extent { unit: first, count: (end - first) as u32 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(value: u8) -> Bytes {
        Bytes::from(vec![value; PAGE_BYTES])
    }

    fn extent(unit: u64, count: u32) -> Extent {
        Extent { unit, count }
    }

    /// Goal: a page is found by whoever reads it until it was written. Oracle: `find`.
    #[test]
    fn pages_are_found_until_they_are_written() {
        let fresh = FreshPages::default();
        let runs = [Run { page: 3, extent: extent(10, 4) }];
        assert_eq!(fresh.find(&runs), vec![]);
        fresh.insert(11, page(1));
        fresh.insert(13, page(2));
        fresh.insert(14, page(9));
        assert_eq!(fresh.find(&runs), vec![(4, page(1)), (6, page(2))]);
        let batch = fresh.begin(0);
        assert_eq!(fresh.find(&runs).len(), 2, "while it is being written");
        assert_eq!(fresh.end(&batch), vec![]);
        assert_eq!(fresh.find(&runs), vec![]);
    }

    /// Goal: a page that is being written is not handed out to another owner. Method: pages given
    /// back before, during and without a write. Oracle: what is free when.
    #[test]
    fn pages_under_way_are_free_afterwards() {
        let fresh = FreshPages::default();
        assert_eq!(fresh.release(&[extent(5, 2)]), vec![extent(5, 2)]);
        for unit in [10, 11, 12] {
            fresh.insert(unit, page(unit as u8));
        }
        assert_eq!(fresh.release(&[extent(9, 2)]), vec![extent(9, 2)], "10 was not under way");
        let batch = fresh.begin(0);
        assert_eq!(batch.iter().map(|(unit, _)| *unit).collect::<Vec<u64>>(), [11, 12]);
        let now = fresh.release(&[extent(10, 4)]);
        assert_eq!(now, vec![extent(10, 1), extent(13, 1)]);
        assert_eq!(fresh.end(&batch), vec![extent(11, 2)]);
        assert_eq!(fresh.release(&[extent(11, 2)]), vec![extent(11, 2)]);
    }
}
