//! Which chunks changed since when, and how far a target is known to be complete.
//!
//! Why an index of its own: a replica that was away for a minute is brought in line by walking what
//! changed in that minute, without a look at the million chunks that did not. A chunk has one
//! entry, under the stamp of its record; the entry moves when the stamp does, in the batch that
//! writes the record, so the two never disagree. Stamps change once an epoch, so overwriting a
//! chunk again and again writes no entry.
//!
//! Two marks belong to a target. `complete_through`: it holds every acknowledged update up to
//! there; set by the chain (`resync`), durable with the next group, for a mark that is lost makes a
//! walk longer and nothing else. `purged_through`: removals up to there may be forgotten here, so
//! that the walk from an older mark would miss them; durable before they are. A target of a release
//! without stamps has no marks: its chunks have no entries, so nothing is known of it until a floor
//! is set.
//!
//! Invariants: marks never go back; a record that is visible has its entry (chains of the class
//! `cache` aside, whose records are visible first and which are never walked).
//! Locks: a target's `marks`, then `lazy`.

use super::codec::{Input, corrupt};
use super::core::Core;
use super::index::Change;
use super::record::{ChunkKey, Record};
use firepond_core::ids::{ChainVersion, ChangeStamp, ChunkId, TargetId};
use firepond_core::{Error, ErrorKind, Result};

/// First bytes of the index's keys.
const KIND_MARKS: u8 = b'k';
const KIND_CHANGE: u8 = b's';
/// The version of a target's marks; without a lost update they are written as of version 1.
const MARKS_VERSION: u8 = 2;

/// A place in the order of changes.
pub type ChangePlace = (ChangeStamp, ChunkId);

/// How far a target is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// It holds every acknowledged update up to this stamp.
    pub complete_through: ChangeStamp,
    /// It may have forgotten removals, and changes, up to this stamp.
    pub purged_through: ChangeStamp,
    /// In this version of the chain it lost an update that others may have; 0: it lost none.
    pub lost_in: ChainVersion,
}

impl Default for Marks {
    /// Of a target about which nothing is known.
    fn default() -> Marks {
        Marks { purged_through: ChangeStamp(u64::MAX), ..Marks::EMPTY }
    }
}

impl Marks {
    /// Of a target that was just made.
    pub(super) const EMPTY: Marks = Marks {
        complete_through: ChangeStamp(0),
        purged_through: ChangeStamp(0),
        lost_in: ChainVersion(0),
    };

    /// Whether it was written by a release without stamps and has no floor yet.
    pub fn is_unknown(&self) -> bool {
        self.purged_through == ChangeStamp(u64::MAX)
    }
}

/// The changes of the index when a chunk's record is replaced; nothing while its stamp stays.
pub(super) fn entries(
    key: &ChunkKey,
    before: ChangeStamp,
    record: Option<&Record>,
) -> impl Iterator<Item = Change> + use<> {
    let after = record.map_or(ChangeStamp(0), |record| record.stamp);
    let moved = before != after;
    let old = (moved && before.0 != 0).then(|| (change_key(key.target, before, key.chunk), None));
    let new = (moved && after.0 != 0)
        .then(|| (change_key(key.target, after, key.chunk), Some(Vec::new())));
    old.into_iter().chain(new)
}

/// The change of the index that makes or removes a target's marks.
pub(super) fn marks_change(target: TargetId, marks: Option<&Marks>) -> Change {
    (marks_key(target), marks.map(encode_marks))
}

/// Reads the marks of all targets, when a store is opened.
pub(super) fn load(core: &Core) -> Result<()> {
    core.index.scan(&[KIND_MARKS], &[KIND_MARKS + 1], false, &mut |key, value| {
        let mut name = Input(key);
        let [_kind] = name.take()?;
        let target = TargetId(u64::from_be_bytes(name.take()?));
        let marks = decode_marks(value)?;
        if let Ok(target) = core.target(target) {
            *target.marks.lock() = marks;
        }
        Ok(true)
    })
}

/// At most `limit` places behind `after`, in order.
pub(super) fn after(
    core: &Core,
    target: TargetId,
    after: ChangePlace,
    limit: usize,
) -> Result<Vec<ChangePlace>> {
    let mut from = change_key(target, after.0, after.1);
    from.push(0);
    let mut to = change_key(target, ChangeStamp(u64::MAX), ChunkId([0xff; 16]));
    to.push(0);
    let mut found = Vec::new();
    core.index.scan(&from, &to, false, &mut |key, _| {
        let mut input = Input(key);
        let [_kind] = input.take()?;
        let _target: [u8; 8] = input.take()?;
        let stamp = ChangeStamp(u64::from_be_bytes(input.take()?));
        found.push((stamp, ChunkId(input.take()?)));
        Ok(found.len() < limit)
    })?;
    Ok(found)
}

/// Raises the marks of a target, lazily: they are durable with the next group at the latest.
pub(super) fn raise(
    core: &Core,
    target: TargetId,
    raised: impl FnOnce(Marks) -> Marks,
) -> Result<()> {
    core.check_disk()?;
    let entry = core.target(target)?;
    let mut marks = entry.marks.lock();
    let next = raised(*marks);
    if next == *marks {
        return Ok(());
    }
    assert!(next.complete_through >= marks.complete_through, "a target stays complete");
    let (key, value) = marks_change(target, Some(&next));
    core.lazy.lock().insert(key, value);
    *marks = next;
    Ok(())
}

/// The change that remembers that removals are about to be forgotten; none if it is known. It is
/// newer than one that waits for a group.
pub(super) fn purged(core: &Core, target: TargetId, stamp: ChangeStamp) -> Option<Change> {
    let entry = core.target(target).ok()?;
    let mut marks = entry.marks.lock();
    if marks.purged_through >= stamp {
        return None;
    }
    marks.purged_through = stamp;
    let change = marks_change(target, Some(&marks));
    core.lazy.lock().remove(&change.0);
    Some(change)
}

fn change_key(target: TargetId, stamp: ChangeStamp, chunk: ChunkId) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(34);
    bytes.push(KIND_CHANGE);
    bytes.extend_from_slice(&target.0.to_be_bytes());
    bytes.extend_from_slice(&stamp.0.to_be_bytes());
    bytes.extend_from_slice(&chunk.0);
    bytes
}

fn marks_key(target: TargetId) -> Vec<u8> {
    let mut bytes = vec![KIND_MARKS];
    bytes.extend_from_slice(&target.0.to_be_bytes());
    bytes
}

fn encode_marks(marks: &Marks) -> Vec<u8> {
    let has_lost = marks.lost_in != ChainVersion(0);
    let mut out = vec![if has_lost { MARKS_VERSION } else { 1 }];
    out.extend_from_slice(&marks.complete_through.0.to_le_bytes());
    out.extend_from_slice(&marks.purged_through.0.to_le_bytes());
    if has_lost {
        out.extend_from_slice(&marks.lost_in.0.to_le_bytes());
    }
    out
}

fn decode_marks(value: &[u8]) -> Result<Marks> {
    let mut input = Input(value);
    let [version] = input.take()?;
    if !(1..=MARKS_VERSION).contains(&version) {
        return Err(Error::new(ErrorKind::Unsupported, "marks of a newer release")
            .with("marks_version", version));
    }
    let complete_through = ChangeStamp(u64::from_le_bytes(input.take()?));
    let purged_through = ChangeStamp(u64::from_le_bytes(input.take()?));
    let lost_in = ChainVersion(if version > 1 { u32::from_le_bytes(input.take()?) } else { 0 });
    if input.0.is_empty() {
        return Ok(Marks { complete_through, purged_through, lost_in });
    }
    Err(corrupt("the marks of a target are too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: &[u8] = include_bytes!("../../../../tests/golden/v2/store_target_marks.bin");

    const MARKS_LOST: &[u8] = include_bytes!("../../../../tests/golden/v3/store_target_marks.bin");

    /// Goal: marks keep their bytes, and those without a loss the older ones. Oracle: the golden
    /// files, and every damage is an error.
    #[test]
    fn golden_marks() {
        let marks = Marks {
            complete_through: ChangeStamp(0x0102_0304_0506_0708),
            purged_through: ChangeStamp(0x1112_1314_1516_1718),
            lost_in: ChainVersion(0),
        };
        let lost = Marks { lost_in: ChainVersion(0x2122_2324), ..marks };
        for (bytes, marks) in [(MARKS, marks), (MARKS_LOST, lost)] {
            assert_eq!(encode_marks(&marks), bytes);
            assert_eq!(decode_marks(bytes).expect("decodes"), marks);
            assert!((0..bytes.len()).all(|len| decode_marks(&bytes[..len]).is_err()));
        }
    }

    /// Goal: an entry moves exactly when the stamp does. Oracle: the rows.
    #[test]
    fn entries_follow_the_stamp() {
        let key = ChunkKey { target: TargetId(1), chunk: ChunkId([3; 16]) };
        let record = |stamp| Record { stamp: ChangeStamp(stamp), ..Record::default() };
        let count = |before, record: Option<&Record>| {
            entries(&key, ChangeStamp(before), record).map(|(_, value)| value.is_some()).collect()
        };
        let changes: [Vec<bool>; 5] = [
            count(0, Some(&record(5))),
            count(5, Some(&record(5))),
            count(5, Some(&record(6))),
            count(6, None),
            count(0, None),
        ];
        assert_eq!(changes, [vec![true], vec![], vec![false, true], vec![false], vec![]]);
    }
}
