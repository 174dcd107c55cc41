//! Linearisability of one chunk, second half: the bytes of every version that was read are those
//! that the updates made, in the order of their versions.
//!
//! Version numbers make it fast and are not trusted: an acknowledged update is taken at its
//! version, and every version that nobody was told of must be an update whose outcome is unknown,
//! at most once each, so that all reads fit. A depth-first search finds such an assignment; there
//! are few unknown updates, and a read right after a gap decides at once.
//!
//! The first numbers of a chunk may be lost: an update that would have made the chunk and that
//! nobody had acknowledged may be left on a replica alone that is being synced from one which never
//! had it. The chain goes on without the chunk, and the resync that removes it there leaves a
//! tombstone under that number: what this replica makes as the head, later, gets the numbers behind
//! it. That may be another try of the same update.

use super::chunk::{Chunk, Read, Update};
use crate::plan::Change;
use std::collections::BTreeMap;

/// Steps of the search; a history that needs more is let pass, as it says nothing.
const STEPS_MAX_COUNT: usize = 20_000;

struct Search<'a> {
    known: BTreeMap<u64, &'a Update>,
    /// All updates: those whose outcome is unknown may have made any version, the others may have
    /// lost a number before their own.
    updates: Vec<&'a Update>,
    reads: BTreeMap<u64, Vec<&'a Read>>,
    /// When somebody first knew of this version or a newer one.
    known_at: BTreeMap<u64, u64>,
    newest: u64,
    steps: usize,
    /// The farthest version that could be explained, and the content that was expected next.
    farthest: (u64, Option<Vec<u8>>),
}

/// What no order of the updates explains.
pub fn check(chunk: &Chunk) -> Result<(), String> {
    let removes = |update: &&Update| update.change == Change::Remove;
    let mut known: BTreeMap<u64, &Update> = BTreeMap::new();
    // A removal of nothing names the version that is there: it yields to the update that made it.
    let (removals, others): (Vec<&Update>, Vec<&Update>) = chunk.updates.iter().partition(removes);
    for update in removals.into_iter().chain(others) {
        known.extend(update.version.map(|version| (version, update)));
    }
    let mut reads: BTreeMap<u64, Vec<&Read>> = BTreeMap::new();
    for read in &chunk.reads {
        if let Some((version, _, _)) = read.seen {
            reads.entry(version).or_default().push(read);
        }
    }
    let newest = known.keys().chain(reads.keys()).max().copied().unwrap_or(0);
    let mut search = Search {
        updates: chunk.updates.iter().collect(),
        known_at: known_at(chunk, newest),
        known,
        reads,
        newest,
        steps: 0,
        farthest: (0, None),
    };
    let mut used = vec![false; search.updates.len()];
    if search.explain(1, &Before::Never, &mut used) || search.steps >= STEPS_MAX_COUNT {
        return Ok(());
    }
    let (version, content) = &search.farthest;
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    let expected = content.as_deref().map(shown);
    let seen = search.reads.get(version).into_iter().flatten().map(|read| {
        let (_, bytes, _) = read.seen.clone().unwrap_or_default();
        format!("[{}] saw {:?}", read.entry, shown(&bytes))
    });
    let seen: Vec<String> = seen.collect();
    let maker = search.known.get(version).map(|update| update.entry);
    let (place, seen) = (chunk.place, seen.join(", "));
    Err(format!(
        "{place}: version {version} (made by {maker:?}) fits no order of the updates: expected \
         {expected:?}, {seen}"
    ))
}

fn known_at(chunk: &Chunk, newest: u64) -> BTreeMap<u64, u64> {
    let updates = chunk.updates.iter().filter_map(|one| Some((one.version?, one.ended)));
    let reads = chunk.reads.iter().filter_map(|one| Some((one.seen.as_ref()?.0, one.ended)));
    let mut first: BTreeMap<u64, u64> = BTreeMap::new();
    for (version, tick) in updates.chain(reads) {
        let known = first.entry(version).or_insert(tick);
        *known = tick.min(*known);
    }
    let mut earliest = u64::MAX;
    for version in (1..=newest).rev() {
        earliest = first.get(&version).copied().unwrap_or(u64::MAX).min(earliest);
        first.insert(version, earliest);
    }
    first
}

/// What there is of a chunk before a version.
enum Before {
    /// The chain never had it: all numbers so far are lost ones.
    Never,
    /// This content; none: it was removed.
    Made(Option<Vec<u8>>),
}

impl Search<'_> {
    /// Whether the versions from this one on can be made from what was before.
    fn explain(&mut self, version: u64, before: &Before, used: &mut [bool]) -> bool {
        self.steps += 1;
        if version > self.newest || self.steps >= STEPS_MAX_COUNT {
            return true;
        }
        let content = match before {
            Before::Never => &None,
            Before::Made(content) => content,
        };
        if let Some(update) = self.known.get(&version).copied() {
            let content = update.applied(content);
            let fits = self.fits(version, &content);
            return fits && self.explain(version + 1, &Before::Made(content), used);
        }
        let known_at = self.known_at[&version];
        for index in 0..used.len() {
            let update = self.updates[index];
            let is_done = update.version.is_some_and(|own| own <= version);
            if used[index] || is_done || update.begun > known_at {
                continue;
            }
            used[index] = true;
            let is_unknown = update.version.is_none();
            for made in is_unknown.then(|| update.possible(content)).into_iter().flatten() {
                let fits = self.fits(version, &made);
                if fits && self.explain(version + 1, &Before::Made(made), used) {
                    return true;
                }
            }
            let may_be_lost = matches!(before, Before::Never);
            if may_be_lost && self.fits(version, &None) && self.explain(version + 1, before, used) {
                return true;
            }
            used[index] = false;
        }
        if self.farthest.0 < version {
            self.farthest = (version, content.clone());
        }
        false
    }

    fn fits(&mut self, version: u64, content: &Option<Vec<u8>>) -> bool {
        let fits = self.reads.get(&version).into_iter().flatten().all(|read| read.fits(content));
        if !fits && self.farthest.0 < version {
            self.farthest = (version, content.clone());
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::super::linearisability::tests::{chunk, read, update};
    use super::*;

    const WRITE: Change = Change::Write { offset: 1, len: 7 };

    /// Goal: wrong bytes and versions from nowhere are found. Oracle: the rows.
    #[test]
    fn finds_wrong_bytes_and_extra_versions() {
        let made = || vec![update(5, (1, 2), WRITE, Some(1))];
        let saw = |bytes: &'static [u8]| vec![read((3, 4), Some((1, bytes)))];
        assert!(check(&chunk(made(), saw(b"\0[00005]"))).is_ok());
        assert!(check(&chunk(made(), saw(b"\0[00006]"))).is_err());
        assert!(check(&chunk(made(), saw(b"\0[00005]."))).is_err());
        let gap = vec![update(5, (1, 2), WRITE, Some(1)), update(6, (3, 4), WRITE, Some(3))];
        assert!(check(&chunk(gap, vec![])).expect_err("a gap").contains("version 2"));
    }

    /// Goal: an update whose outcome is unknown explains a version once, if it fits. Oracle: the
    /// rows.
    #[test]
    fn unknown_updates_fill_gaps() {
        let lost = || update(7, (1, 9), Change::Replace { len: 7 }, None);
        let last = || update(8, (5, 6), Change::Truncate { len: 3 }, Some(2));
        let saw = |bytes: &'static [u8]| vec![read((7, 8), Some((2, bytes)))];
        assert!(check(&chunk(vec![lost(), last()], saw(b"[00"))).is_ok());
        assert!(check(&chunk(vec![lost(), last()], saw(b"]00"))).is_err());
        let first = || update(4, (1, 2), Change::Replace { len: 7 }, Some(1));
        let twice = update(8, (5, 6), Change::Truncate { len: 3 }, Some(4));
        let updates = vec![first(), lost(), twice];
        assert!(check(&chunk(updates, vec![])).is_err(), "one update, two versions");
        let late = update(7, (7, 9), Change::Replace { len: 7 }, None);
        let third = update(8, (5, 6), Change::Truncate { len: 3 }, Some(3));
        assert!(check(&chunk(vec![first(), late, third], vec![])).is_err(), "it began too late");
    }

    /// Goal: a create that was refused made nothing, or its fence made one version of what was
    /// there; one whose outcome is unknown may have made itself, too. Oracle: the rows.
    #[test]
    fn refused_creates_change_nothing() {
        let first = || update(5, (1, 2), Change::Replace { len: 7 }, Some(1));
        let create =
            |refused| Update { refused, ..update(6, (3, 4), Change::Create { len: 7 }, None) };
        let saw = |version, bytes: &'static [u8]| vec![read((5, 6), Some((version, bytes)))];
        assert!(check(&chunk(vec![first(), create(true)], saw(1, b"[00005]"))).is_ok());
        assert!(check(&chunk(vec![first(), create(true)], saw(2, b"[00005]"))).is_ok());
        assert!(check(&chunk(vec![first(), create(true)], saw(3, b"[00005]"))).is_err());
        assert!(check(&chunk(vec![first(), create(true)], saw(2, b"[00006]"))).is_err());
        assert!(check(&chunk(vec![first(), create(false)], saw(2, b"[00006]"))).is_ok());
    }

    /// Goal: the number of a lost update is passed over only if nobody saw it and nothing was
    /// before it; one that was tried again may have lost the number of its first try (seed 88143).
    /// Oracle: the rows.
    #[test]
    fn numbers_of_lost_updates() {
        let lost = |begun| update(5, (begun, u64::MAX), Change::Replace { len: 9 }, None);
        let next = || update(6, (30, 31), WRITE, Some(2));
        let saw = || read((40, 41), Some((2, b"\0[00006]")));
        let run = |updates: Vec<Update>, reads: Vec<Read>| check(&chunk(updates, reads));
        assert!(run(vec![lost(1), next()], vec![saw()]).is_ok());
        let seen = || read((3, 4), Some((1, b"[00005][0")));
        assert!(run(vec![lost(1), next()], vec![seen(), saw()]).is_err(), "it was seen");
        assert!(run(vec![next()], vec![saw()]).is_ok(), "its own first try");
        let early = update(7, (1, 2), Change::Replace { len: 2 }, Some(3));
        assert!(run(vec![next(), early], vec![]).is_ok(), "it was tried first");
        let third = || update(6, (30, 31), WRITE, Some(3));
        let saw_third = || read((40, 41), Some((3, b"\0[00006]")));
        assert!(run(vec![lost(1), third()], vec![saw_third()]).is_ok(), "each has lost one");
        assert!(run(vec![third()], vec![saw_third()]).is_err(), "one is lost, not two");
        assert!(run(vec![lost(35), third()], vec![saw_third()]).is_err(), "it began later");
        let first = update(4, (1, 2), Change::Replace { len: 1 }, Some(1));
        let saw_third = read((40, 41), Some((3, b"[[00006]")));
        assert!(run(vec![first, lost(5), third()], vec![saw_third]).is_err(), "not the first");
    }
}
