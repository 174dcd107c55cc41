//! The optimistic resolver: may a transaction commit, given what others committed since it began?
//!
//! Why this way: as in FoundationDB (Zhou et al., SIGMOD 2021, section 2.4.2), readers take no
//! locks; a transaction carries what it read, and loses if any of that was written after its read
//! version. Recent writes are kept in memory only: after a restart no transaction from before is
//! alive.
//! Invariants: versions are recorded in increasing order; `points` holds the newest version of each
//! key within the window; a transaction that read before the window's floor is refused, so that
//! forgetting a write never lets a conflict pass. Memory is bounded by `window_max_bytes`.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};

/// What a remembered key costs beside its bytes: map node, list entry, reference count.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// Keys and ranges, either read or written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictSet {
    /// Single keys.
    pub keys: Vec<Bytes>,
    /// Ranges; an empty one is harmless.
    pub ranges: Vec<Range<Bytes>>,
}

impl ConflictSet {
    /// True when nothing is named.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }

    /// Bytes of all names.
    pub fn size_bytes(&self) -> usize {
        let ranges = self.ranges.iter().map(|range| range.start.len() + range.end.len());
        self.keys.iter().map(Bytes::len).sum::<usize>() + ranges.sum::<usize>()
    }

    fn memory_bytes(&self) -> usize {
        self.size_bytes() + ENTRY_OVERHEAD_BYTES * (self.keys.len() + self.ranges.len())
    }
}

/// Remembers recent writes and judges reads against them.
pub struct Resolver {
    window_max_bytes: usize,
    window_bytes: usize,
    /// Reads at versions below this cannot be judged any more.
    floor: u64,
    /// The newest recorded write of each key.
    points: BTreeMap<Bytes, u64>,
    /// Writes by version, oldest first.
    window: VecDeque<(u64, ConflictSet)>,
    /// How many of the window's commits wrote ranges; most workloads have none.
    range_commit_count: usize,
}

impl Resolver {
    /// A resolver for a store whose newest version is `version`.
    pub fn new(version: u64, window_max_bytes: usize) -> Resolver {
        Resolver {
            window_max_bytes,
            window_bytes: 0,
            floor: version,
            points: BTreeMap::new(),
            window: VecDeque::new(),
            range_commit_count: 0,
        }
    }

    /// Whether anything in `reads` was written after `read_version`, as far as can be known.
    pub fn conflicts(&self, reads: &ConflictSet, read_version: u64) -> bool {
        if reads.is_empty() {
            return false;
        }
        if read_version < self.floor {
            return true;
        }
        self.point_writes_hit(reads, read_version) || self.range_writes_hit(reads, read_version)
    }

    fn point_writes_hit(&self, reads: &ConflictSet, read_version: u64) -> bool {
        let newer = |version: &u64| *version > read_version;
        reads.keys.iter().any(|key| self.points.get(key).is_some_and(newer))
            || reads.ranges.iter().any(|range| {
                range.start < range.end
                    && self
                        .points
                        .range::<Bytes, _>((
                            Bound::Included(&range.start),
                            Bound::Excluded(&range.end),
                        ))
                        .any(|(_, version)| newer(version))
            })
    }

    fn range_writes_hit(&self, reads: &ConflictSet, read_version: u64) -> bool {
        if self.range_commit_count == 0 {
            return false;
        }
        let newer = self.window.iter().rev().take_while(|(version, _)| *version > read_version);
        newer.flat_map(|(_, writes)| &writes.ranges).any(|written| {
            reads.keys.iter().any(|key| written.contains(key))
                || reads.ranges.iter().any(|read| overlap(read, written))
        })
    }

    /// Remembers what was committed at a version, which is greater than all before.
    pub fn record(&mut self, version: u64, writes: ConflictSet) {
        let newest = self.window.back().map_or(self.floor, |(newest, _)| *newest);
        assert!(version > newest, "versions are recorded in increasing order");
        for key in &writes.keys {
            self.points.insert(key.clone(), version);
        }
        self.window_bytes += writes.memory_bytes();
        self.range_commit_count += usize::from(!writes.ranges.is_empty());
        self.window.push_back((version, writes));
        while self.window_bytes > self.window_max_bytes && self.window.len() > 1 {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((version, writes)) = self.window.pop_front() else { return };
        self.window_bytes -= writes.memory_bytes();
        self.range_commit_count -= usize::from(!writes.ranges.is_empty());
        for key in &writes.keys {
            if self.points.get(key) == Some(&version) {
                self.points.remove(key);
            }
        }
        assert!(version > self.floor, "the floor only rises");
        self.floor = version;
    }
}

fn overlap(one: &Range<Bytes>, other: &Range<Bytes>) -> bool {
    one.start < one.end && other.start < other.end && one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&'static str]) -> ConflictSet {
        let keys = names.iter().map(|name| Bytes::from_static(name.as_bytes())).collect();
        ConflictSet { keys, ranges: Vec::new() }
    }

    fn range(start: &'static str, end: &'static str) -> ConflictSet {
        let range = Bytes::from_static(start.as_bytes())..Bytes::from_static(end.as_bytes());
        ConflictSet { keys: Vec::new(), ranges: vec![range] }
    }

    /// Goal: exactly reads that a later write touched lose. Oracle: the table by hand.
    #[test]
    fn points_and_ranges_meet() {
        let mut resolver = Resolver::new(10, 1 << 20);
        resolver.record(11, keys(&["b"]));
        resolver.record(12, range("m", "p"));
        for (reads, read_version, expected) in [
            (keys(&["b"]), 10, true),
            (keys(&["b"]), 11, false),
            (keys(&["a"]), 10, false),
            (range("a", "b"), 10, false),
            (range("a", "c"), 10, true),
            (range("c", "a"), 10, false),
            (keys(&["m"]), 11, true),
            (keys(&["p"]), 11, false),
            (range("o", "z"), 11, true),
            (range("o", "z"), 12, false),
            (range("p", "z"), 11, false),
            (ConflictSet::default(), 0, false),
        ] {
            assert_eq!(resolver.conflicts(&reads, read_version), expected, "{reads:?}");
        }
    }

    /// Goal: memory is bounded and forgetting is safe. Method: overflow a tiny window.
    /// Oracle: old readers lose, new readers are judged exactly, nothing is left behind.
    #[test]
    fn the_window_is_bounded() {
        let mut resolver = Resolver::new(0, 1000);
        for version in 1..=100 {
            let mut writes = range("x", "y");
            writes.keys.push(Bytes::from(format!("key{version}")));
            resolver.record(version, writes);
        }
        assert!(resolver.window_bytes <= 1000);
        assert_eq!(resolver.points.len(), resolver.window.len());
        assert_eq!(resolver.range_commit_count, resolver.window.len());
        assert!(resolver.conflicts(&keys(&["other"]), 50));
        assert!(!resolver.conflicts(&keys(&["other"]), 99));
        assert!(resolver.conflicts(&keys(&["key100"]), 99));
    }
}
