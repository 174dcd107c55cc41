//! Where the bytes of one version of a chunk are: extents of pages, and a checksum for each page.
//!
//! Invariants: extents cover the pages of the chunk in order, neighbours that touch on disk are one
//! extent; a hole (`unit` = `HOLE`) reads as zeros and takes no space.

use super::page::{PAGE_BYTES, page_count, page_len};
use firepond_core::checksum::crc32c_zeros;
use std::ops::Range;

/// The unit of a hole.
pub(super) const HOLE: u64 = u64::MAX;

/// A run of pages on disk, counted in units of a page from the start of the data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) unit: u64,
    pub(super) count: u32,
}

/// The place and the checksums of all pages of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) extents: Vec<Extent>,
    pub(super) checksums: Vec<u32>,
}

/// A part of an image that is contiguous on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) page: u32,
    pub(super) extent: Extent,
}

impl Extent {
    pub(super) fn is_hole(&self) -> bool {
        self.unit == HOLE
    }

    /// The extent without its first pages.
    pub(super) fn skip(&self, count: u32) -> Extent {
        let unit = if self.is_hole() { HOLE } else { self.unit + u64::from(count) };
        Extent { unit, count: self.count - count }
    }
}

impl Image {
    pub(super) fn page_count(&self) -> u32 {
        self.checksums.len() as u32
    }

    /// The runs that hold `count` pages from `first` on.
    pub(super) fn runs(&self, first: u32, count: u32) -> Vec<Run> {
        let mut runs = Vec::with_capacity(1);
        let (mut page, end) = (0, first + count);
        for extent in &self.extents {
            let (start, stop) = (page.max(first), (page + extent.count).min(end));
            if start < stop {
                let extent = Extent { count: stop - start, ..extent.skip(start - page) };
                runs.push(Run { page: start, extent });
            }
            page += extent.count;
        }
        runs
    }

    /// Adds pages at the end.
    pub(super) fn push(&mut self, extent: Extent, checksums: &[u32]) {
        assert_eq!(extent.count as usize, checksums.len(), "one checksum a page");
        self.push_extent(extent);
        self.checksums.extend_from_slice(checksums);
    }

    fn push_extent(&mut self, extent: Extent) {
        if extent.count == 0 {
            return;
        }
        if let Some(last) = self.extents.last_mut() {
            let touches = match extent.is_hole() {
                true => last.is_hole(),
                false => !last.is_hole() && last.unit + u64::from(last.count) == extent.unit,
            };
            if touches {
                last.count += extent.count;
                return;
            }
        }
        self.extents.push(extent);
    }

    /// A copy whose pages from `first` on are replaced by others, and which grows if they reach
    /// beyond its end.
    pub(super) fn splice(&self, first: u32, extents: &[Extent], checksums: &[u32]) -> Image {
        assert!(first <= self.page_count(), "pages are replaced or appended, without a gap");
        let next = first + checksums.len() as u32;
        let pages = self.page_count().max(next) as usize;
        // A splice may cut an extent in two.
        let mut image = Image {
            extents: Vec::with_capacity(self.extents.len() + extents.len() + 1),
            checksums: Vec::with_capacity(pages),
        };
        image.extend(self, 0..first);
        extents.iter().for_each(|extent| image.push_extent(*extent));
        image.checksums.extend_from_slice(checksums);
        image.extend(self, next..self.page_count());
        image
    }

    /// A copy of the first pages.
    pub(super) fn prefix(&self, count: u32) -> Image {
        let mut image = Image::default();
        image.extend(self, 0..count);
        image
    }

    /// Adds pages of another image at the end. Extents in the middle of the range are copied as
    /// they are: among themselves they do not touch.
    fn extend(&mut self, from: &Image, pages: Range<u32>) {
        if pages.is_empty() {
            return;
        }
        let mut page = 0;
        let mut index = 0;
        while page + from.extents[index].count <= pages.start {
            page += from.extents[index].count;
            index += 1;
        }
        let head = from.extents[index].skip(pages.start - page);
        page += from.extents[index].count;
        let head_count = head.count.min(pages.end - pages.start);
        self.push_extent(Extent { count: head_count, ..head });
        let begun = index + 1;
        let mut ended = begun;
        while ended < from.extents.len() && page + from.extents[ended].count <= pages.end {
            page += from.extents[ended].count;
            ended += 1;
        }
        self.extents.extend_from_slice(&from.extents[begun.min(ended)..ended]);
        if page < pages.end {
            self.push_extent(Extent { count: pages.end - page, ..from.extents[ended] });
        }
        self.checksums.extend_from_slice(&from.checksums[pages.start as usize..pages.end as usize]);
    }

    /// A copy with holes at the end, for a chunk that is now `len` bytes long. Its last page before
    /// was full.
    pub(super) fn with_holes(&self, len: u32) -> Image {
        let mut image = self.clone();
        let zeros = crc32c_zeros(PAGE_BYTES as u64);
        for page in self.page_count()..page_count(len) {
            let bytes = page_len(page, len);
            let checksum = if bytes == PAGE_BYTES { zeros } else { crc32c_zeros(bytes as u64) };
            image.push(Extent { unit: HOLE, count: 1 }, &[checksum]);
        }
        image
    }
}

/// The extents of `before` that `after` no longer uses. A page that versions of a chunk share is
/// the same page of the chunk in each, so all are walked side by side. Small updates are the common
/// case: versions that stay are not walked, nor what all begin and end with.
pub(super) fn released<'a>(before: &[&'a Image], after: &[&'a Image]) -> Vec<Extent> {
    let stays = |image: &&&Image| after.iter().any(|other| std::ptr::eq(*other, **image));
    let gone: Vec<&Image> = before.iter().filter(|image| !stays(image)).copied().collect();
    if gone.is_empty() {
        return Vec::new();
    }
    let (start, end) = shared(&gone, after);
    let part = |image: &&'a Image| Walk::new(&image.extents[start..image.extents.len() - end]);
    let mut before: Vec<Walk<'_>> = gone.iter().map(part).collect();
    let mut after: Vec<Walk<'_>> = after.iter().map(part).collect();
    let (mut freed, mut seen): (Vec<Extent>, Vec<u64>) = (Vec::new(), Vec::new());
    loop {
        let heads = before.iter().chain(&after).filter_map(|walk| walk.head);
        let Some(count) = heads.map(|extent| extent.count).min() else { return freed };
        seen.clear();
        seen.extend(after.iter_mut().filter_map(|walk| walk.next(count)));
        for unit in before.iter_mut().filter_map(|walk| walk.next(count)) {
            if unit != HOLE && !seen.contains(&unit) {
                push_merged(&mut freed, Extent { unit, count });
                seen.push(unit);
            }
        }
    }
}

/// How many extents at the begin and at the end are the same in all images, at the same pages. None
/// if nothing stays: then all are released.
fn shared(gone: &[&Image], after: &[&Image]) -> (usize, usize) {
    if after.is_empty() {
        return (0, 0);
    }
    let first = gone[0];
    let (mut start, mut end) = (first.extents.len(), first.extents.len());
    let mut shortest = first.extents.len();
    for other in gone[1..].iter().chain(after) {
        let pairs = first.extents.iter().zip(&other.extents);
        start = pairs.take_while(|(one, two)| one == two).count().min(start);
        let pairs = first.extents.iter().rev().zip(other.extents.iter().rev());
        let same_end = pairs.take_while(|(one, two)| one == two).count();
        end = if first.page_count() == other.page_count() { same_end.min(end) } else { 0 };
        shortest = shortest.min(other.extents.len());
    }
    (start, end.min(shortest - start))
}

/// A look at a part of an image, from its first page to its last.
struct Walk<'a> {
    extents: std::slice::Iter<'a, Extent>,
    /// What is left of the extent that was begun.
    head: Option<Extent>,
}

impl<'a> Walk<'a> {
    fn new(extents: &'a [Extent]) -> Walk<'a> {
        let mut extents = extents.iter();
        let head = extents.next().copied();
        Walk { extents, head }
    }

    /// Where the next pages are, of which there are at least `count`.
    fn next(&mut self, count: u32) -> Option<u64> {
        let head = self.head?;
        self.head = match head.skip(count) {
            Extent { count: 0, .. } => self.extents.next().copied(),
            rest => Some(rest),
        };
        Some(head.unit)
    }
}

/// The pages of `taken` that are not in `image`.
pub(super) fn unused(taken: &[Extent], image: &Image) -> Vec<Extent> {
    let mut used: Vec<Extent> = image.extents.iter().filter(|e| !e.is_hole()).copied().collect();
    used.sort_unstable_by_key(|extent| extent.unit);
    let mut freed = Vec::new();
    for extent in taken {
        let (mut at, end) = (extent.unit, extent.unit + u64::from(extent.count));
        for kept in &used {
            let kept_end = kept.unit + u64::from(kept.count);
            if kept_end <= at || kept.unit >= end {
                continue;
            }
            if at < kept.unit {
                freed.push(Extent { unit: at, count: (kept.unit - at) as u32 });
            }
            at = kept_end.min(end);
        }
        if at < end {
            freed.push(Extent { unit: at, count: (end - at) as u32 });
        }
    }
    freed
}

/// Adds an extent, to the last one if they touch.
pub(super) fn push_merged(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut() {
        Some(last) if last.unit + u64::from(last.count) == extent.unit => {
            last.count += extent.count
        }
        _ => extents.push(extent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn image(extents: &[(u64, u32)]) -> Image {
        let mut image = Image::default();
        for (unit, count) in extents {
            image.push(Extent { unit: *unit, count: *count }, &vec![0; *count as usize]);
        }
        image
    }

    fn units(image: &Image) -> Vec<u64> {
        let pages = image.extents.iter().flat_map(|extent| {
            (0..extent.count).map(|page| match extent.is_hole() {
                true => HOLE,
                false => extent.unit + u64::from(page),
            })
        });
        pages.collect()
    }

    proptest! {
        /// Goal: exactly the units that nobody uses any more are released.
        /// Method: versions made from one by random splices and cuts, as updates make them.
        /// Oracle: sets.
        #[test]
        fn released_is_the_difference(
            steps in proptest::collection::vec((0_u32..40, 1_u32..9, any::<bool>()), 3),
            is_cut in any::<bool>(),
        ) {
            let base = image(&[(0, 20), (HOLE, 6), (40, 14)]);
            let mut versions = vec![base];
            for (step, (first, count, from_base)) in steps.into_iter().enumerate() {
                let from = if from_base { &versions[0] } else { &versions[versions.len() - 1] };
                let first = first.min(from.page_count());
                let extent = Extent { unit: 1000 * (step as u64 + 1), count };
                let next = from.splice(first, &[extent], &vec![0; count as usize]);
                versions.push(if is_cut { next.prefix(first + count) } else { next });
            }
            let [base, one, two, three] = &versions[..] else { unreachable!() };
            for (before, after) in [
                (vec![base, one], vec![one]),
                (vec![base, one], vec![base]),
                (vec![base], vec![one, two]),
                (vec![one, two], vec![three]),
                (vec![two, three], vec![]),
            ] {
                let mut expected: BTreeSet<u64> = before.iter().flat_map(|i| units(i)).collect();
                expected.remove(&HOLE);
                after.iter().flat_map(|i| units(i)).for_each(|unit| { expected.remove(&unit); });
                let freed = released(&before, &after);
                let listed: Vec<u64> =
                    freed.iter().flat_map(|e| e.unit..e.unit + u64::from(e.count)).collect();
                prop_assert_eq!(listed.len(), expected.len());
                prop_assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
            }
        }

        /// Goal: what an update took and replaced again is found. Oracle: sets.
        #[test]
        fn unused_is_what_is_not_in_the_image(
            taken in proptest::collection::vec(1_u32..9, 1..5),
            kept in proptest::collection::vec((0_u64..100, 1_u32..9), 0..5),
        ) {
            let mut unit = 0;
            let taken: Vec<Extent> = taken.into_iter().map(|count| {
                unit += 20;
                Extent { unit, count }
            }).collect();
            let mut kept = kept;
            kept.sort_unstable();
            kept.dedup_by(|next, last| next.0 < last.0 + u64::from(last.1));
            let image = image(&kept);
            let mut expected: BTreeSet<u64> =
                taken.iter().flat_map(|e| e.unit..e.unit + u64::from(e.count)).collect();
            units(&image).iter().for_each(|unit| { expected.remove(unit); });
            let freed = unused(&taken, &image);
            let listed: BTreeSet<u64> =
                freed.iter().flat_map(|e| e.unit..e.unit + u64::from(e.count)).collect();
            prop_assert_eq!(listed, expected);
        }

        /// Goal: a splice replaces exactly its pages. Oracle: the same on a list of units.
        #[test]
        fn splice_replaces_pages(first in 0_u32..20, count in 1_u32..20) {
            let base = image(&[(100, 8), (HOLE, 4), (300, 8)]);
            let mut expected = units(&base);
            let fresh: Vec<u64> = (500..500 + u64::from(count)).collect();
            let end = (first + count).min(20) as usize;
            expected.splice(first as usize..end, fresh);
            let extent = Extent { unit: 500, count };
            let spliced = base.splice(first, &[extent], &vec![1; count as usize]);
            prop_assert_eq!(units(&spliced), expected.clone());
            prop_assert_eq!(spliced.checksums.len(), expected.len());
        }
    }
}
