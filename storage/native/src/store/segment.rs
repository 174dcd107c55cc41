//! One mebibyte of the data file as a bitmap of its 256 pages.
//!
//! Invariants: a set bit is a used page; taking a used page or giving a free one is a defect.

use std::ops::Range;

/// Pages of a segment.
pub(super) const SEGMENT_UNITS: u32 = 256;

/// The used pages of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    words: [u64; 4],
}

impl Segment {
    pub(super) fn is_empty(&self) -> bool {
        self.words == [0; 4]
    }

    pub(super) fn free_count(&self) -> u32 {
        self.words.iter().map(|word| word.count_zeros()).sum()
    }

    pub(super) fn is_free(&self, range: Range<u32>) -> bool {
        (0..4).all(|index| self.words[index] & mask(index, &range) == 0)
    }

    pub(super) fn take(&mut self, range: Range<u32>) {
        assert!(self.is_free(range.clone()), "a page is handed out once");
        (0..4).for_each(|index| self.words[index] |= mask(index, &range));
    }

    pub(super) fn give(&mut self, range: Range<u32>) {
        for index in 0..4 {
            let mask = mask(index, &range);
            assert_eq!(self.words[index] & mask, mask, "only a used page is given back");
            self.words[index] &= !mask;
        }
    }

    /// The start of the first free run of at least `count` pages.
    pub(super) fn find_run(&self, count: u32) -> Option<u32> {
        self.runs().find(|run| run.end - run.start >= count).map(|run| run.start)
    }

    /// Start and length of the longest free run.
    pub(super) fn longest_run(&self) -> Option<(u32, u32)> {
        let runs = self.runs().map(|run| (run.start, run.end - run.start));
        runs.max_by_key(|(_, length)| *length)
    }

    /// All free runs in order.
    fn runs(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, false)?;
            let end = self.next(start, true).unwrap_or(SEGMENT_UNITS);
            at = end;
            Some(start..end)
        })
    }

    /// The first page from `at` on that is used, or free.
    fn next(&self, at: u32, used: bool) -> Option<u32> {
        let mut at = at;
        while at < SEGMENT_UNITS {
            let word = self.words[(at / 64) as usize];
            let bits = (if used { word } else { !word }) >> (at % 64);
            if bits != 0 {
                return Some(at + bits.trailing_zeros());
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

/// The bits of a range that lie in one word.
fn mask(index: usize, range: &Range<u32>) -> u64 {
    let base = index as u32 * 64;
    let start = range.start.clamp(base, base + 64) - base;
    let end = range.end.clamp(base, base + 64) - base;
    let below = |bit: u32| if bit == 64 { u64::MAX } else { (1 << bit) - 1 };
    below(end) & !below(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: runs are found where they are. Method: random used ranges. Oracle: a plain array.
        #[test]
        fn runs_match_a_plain_array(
            used in proptest::collection::vec((0_u32..256, 1_u32..40), 0..12),
            count in 1_u32..256,
        ) {
            let mut segment = Segment::default();
            let mut plain = [false; 256];
            for (start, length) in used {
                let range = start..(start + length).min(256);
                if segment.is_free(range.clone()) {
                    segment.take(range.clone());
                    range.for_each(|page| plain[page as usize] = true);
                }
            }
            let free = plain.iter().filter(|used| !**used).count() as u32;
            prop_assert_eq!(segment.free_count(), free);
            let expected = (0..=256 - count)
                .find(|start| (*start..start + count).all(|page| !plain[page as usize]));
            prop_assert_eq!(segment.find_run(count), expected);
            if let Some((start, length)) = segment.longest_run() {
                prop_assert!(segment.is_free(start..start + length));
                prop_assert!(segment.find_run(length + 1).is_none());
            }
        }
    }
}
