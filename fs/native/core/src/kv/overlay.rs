//! What a transaction has written but not committed, laid over the snapshot that it reads.
//!
//! Why apart from the engines: read-your-writes is the same for all of them, so it is written and
//! tested once.
//! Invariants: `writes` wins over `cleared`; `cleared` is disjoint and sorted, and no range of it
//! is empty; versionstamped keys are invisible until the commit, which applies them last.

use crate::Result;
use crate::kv::RangeQuery;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};

/// Called with each pair of a scan until it breaks.
pub type Visitor<'a> = dyn FnMut(Bytes, Bytes) -> ControlFlow<()> + 'a;

/// One consistent, durable state of a store.
pub trait Snapshot: Send {
    /// The version of the last commit that is in it.
    fn version(&self) -> u64;
    /// The value of a key.
    ///
    /// # Errors
    /// `IoFailed`, `StoreCorrupt`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;
    /// Visits the pairs of a non-empty range in key order, or in reverse.
    ///
    /// # Errors
    /// As `get`.
    fn scan(&self, keys: Range<&[u8]>, reverse: bool, visit: &mut Visitor<'_>) -> Result<()>;
}

/// A key made of the commit's version.
#[derive(Clone, Debug)]
pub struct StampedWrite {
    prefix: Bytes,
    suffix: Bytes,
    /// What the key is set to.
    pub value: Bytes,
}

impl StampedWrite {
    /// The key at a version.
    pub fn key(&self, version: u64) -> Bytes {
        [&self.prefix[..], &version.to_be_bytes(), &self.suffix].concat().into()
    }
}

/// The uncommitted writes of one transaction.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// Set (`Some`) and cleared (`None`) keys.
    pub writes: BTreeMap<Bytes, Option<Bytes>>,
    /// Cleared ranges: start to end.
    pub cleared: BTreeMap<Bytes, Bytes>,
    /// Versionstamped keys in the order of the calls.
    pub stamped: Vec<StampedWrite>,
}

impl Overlay {
    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.cleared.is_empty() && self.stamped.is_empty()
    }

    /// Sets or clears a key.
    pub fn write(&mut self, key: &[u8], value: Option<Bytes>) {
        self.writes.insert(Bytes::copy_from_slice(key), value);
    }

    /// Sets a key that the commit's version completes.
    pub fn write_stamped(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        self.stamped.push(StampedWrite {
            prefix: Bytes::copy_from_slice(prefix),
            suffix: Bytes::copy_from_slice(suffix),
            value: Bytes::copy_from_slice(value),
        });
    }

    /// Clears all keys of a range, merging it with cleared ranges that it touches.
    pub fn clear_range(&mut self, range: Range<Vec<u8>>) {
        if range.start >= range.end {
            return;
        }
        let mut start = Bytes::from(range.start);
        let mut end = Bytes::from(range.end);
        let inside = (Bound::Included(start.clone()), Bound::Excluded(end.clone()));
        let gone: Vec<Bytes> = self.writes.range(inside).map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| drop(self.writes.remove(key)));
        let before = self.cleared.range(..=start.clone()).next_back();
        if let Some((one_start, one_end)) = before
            && *one_end >= start
        {
            start = one_start.clone();
        }
        let touched = (Bound::Included(start.clone()), Bound::Included(end.clone()));
        let merged: Vec<_> =
            self.cleared.range(touched).map(|(a, b)| (a.clone(), b.clone())).collect();
        for (one_start, one_end) in merged {
            self.cleared.remove(&one_start);
            end = end.max(one_end);
        }
        self.cleared.insert(start, end);
    }

    /// What this transaction made of a key: nothing (`None`), cleared, or a value.
    pub fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some(own) = self.writes.get(key) {
            return Some(own.clone());
        }
        self.is_cleared(key).then_some(None)
    }

    fn is_cleared(&self, key: &[u8]) -> bool {
        let mut before = self.cleared.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        before.next_back().is_some_and(|(_, end)| key < &end[..])
    }

    /// The pairs of a query as this transaction sees them.
    ///
    /// # Errors
    /// As `Snapshot::scan`.
    pub fn range(
        &self,
        snapshot: &impl Snapshot,
        query: &RangeQuery,
    ) -> Result<Vec<(Bytes, Bytes)>> {
        if query.limit == 0 || query.keys.start >= query.keys.end {
            return Ok(Vec::new());
        }
        let keys = &query.keys.start[..]..&query.keys.end[..];
        let inside = (Bound::Included(keys.start), Bound::Excluded(keys.end));
        let mut own: Vec<(&Bytes, &Option<Bytes>)> = self.writes.range::<[u8], _>(inside).collect();
        // The next own write is popped from the end.
        if !query.reverse {
            own.reverse();
        }
        let mut merge =
            Merge { own, pairs: Vec::new(), limit: query.limit, reverse: query.reverse };
        snapshot.scan(keys, query.reverse, &mut |key, value| {
            merge.emit_own_before(&key);
            if merge.is_full() {
                return ControlFlow::Break(());
            }
            match merge.own_at(&key) {
                Some(own) => merge.pairs.extend(own.map(|value| (key, value))),
                None if self.is_cleared(&key) => {}
                None => merge.pairs.push((key, value)),
            }
            if merge.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        merge.emit_rest();
        Ok(merge.pairs)
    }
}

/// Merges own writes into the pairs of a snapshot, in the order of the scan.
struct Merge<'a> {
    own: Vec<(&'a Bytes, &'a Option<Bytes>)>,
    pairs: Vec<(Bytes, Bytes)>,
    limit: usize,
    reverse: bool,
}

impl Merge<'_> {
    fn is_full(&self) -> bool {
        self.pairs.len() >= self.limit
    }

    fn emit_own_before(&mut self, key: &Bytes) {
        while let Some((own_key, value)) = self.own.last().copied() {
            let before = if self.reverse { own_key > key } else { own_key < key };
            if !before || self.is_full() {
                return;
            }
            self.own.pop();
            self.pairs.extend(value.clone().map(|value| (own_key.clone(), value)));
        }
    }

    fn own_at(&mut self, key: &Bytes) -> Option<Option<Bytes>> {
        let (own_key, value) = self.own.last().copied()?;
        (own_key == key).then(|| {
            self.own.pop();
            value.clone()
        })
    }

    fn emit_rest(&mut self) {
        while !self.is_full()
            && let Some((key, value)) = self.own.pop()
        {
            self.pairs.extend(value.clone().map(|value| (key.clone(), value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: cleared ranges merge and points win. Oracle: membership by hand.
    #[test]
    fn cleared_ranges_merge() {
        let mut overlay = Overlay::default();
        overlay.write(b"c", Some(Bytes::from_static(b"old")));
        overlay.clear_range(b"b".to_vec()..b"d".to_vec());
        overlay.clear_range(b"f".to_vec()..b"h".to_vec());
        overlay.clear_range(b"d".to_vec()..b"f".to_vec());
        overlay.clear_range(b"z".to_vec()..b"a".to_vec());
        assert_eq!(overlay.cleared.len(), 1);
        overlay.write(b"e", Some(Bytes::from_static(b"new")));
        assert_eq!(overlay.get(b"a"), None);
        assert_eq!(overlay.get(b"c"), Some(None));
        assert_eq!(overlay.get(b"e"), Some(Some(Bytes::from_static(b"new"))));
        assert_eq!(overlay.get(b"h"), None);
    }
}
