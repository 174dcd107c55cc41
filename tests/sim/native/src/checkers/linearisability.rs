//! Linearisability of one chunk, first half: versions grow with time, as everybody sees it.
//!
//! A deed that began after another ended sees at least its version, and an update makes a newer
//! one; no version is given to two updates; a chunk that was not there had been removed, or never
//! made. That the bytes of a version are those that the updates before it made is the other half:
//! `content`. Reads during writes are part of it.

use super::chunk::{Chunk, Update};
use crate::plan::Change;
use std::collections::BTreeMap;

/// What somebody knew at the end of a deed.
struct Known {
    ended: u64,
    version: u64,
    entry: u32,
}

/// A deed, by what it demands of the versions before it.
struct Demand {
    begun: u64,
    ended: u64,
    entry: u32,
    kind: Kind,
}

enum Kind {
    Made(u64),
    /// To remove what is not there changes nothing.
    Removed(u64),
    Saw(u64),
    SawNothing,
}

/// What goes back in time.
pub fn check(chunk: &Chunk) -> Result<(), String> {
    check_numbers(chunk)?;
    let mut known: Vec<Known> = Vec::new();
    let mut demands: Vec<Demand> = Vec::new();
    for update in &chunk.updates {
        let Update { begun, ended, entry, .. } = *update;
        let Some(version) = update.version else { continue };
        known.push(Known { ended, version, entry });
        let kind = if update.change == Change::Remove { Kind::Removed } else { Kind::Made };
        demands.push(Demand { begun, ended, entry, kind: kind(version) });
    }
    for read in &chunk.reads {
        let (begun, ended, entry) = (read.begun, read.ended, read.entry);
        let version = read.seen.as_ref().map(|(version, _, _)| *version);
        known.extend(version.map(|version| Known { ended, version, entry }));
        let kind = version.map_or(Kind::SawNothing, Kind::Saw);
        demands.push(Demand { begun, ended, entry, kind });
    }
    known.sort_by_key(|one| one.ended);
    demands.sort_by_key(|one| one.begun);
    let mut known = known.into_iter().peekable();
    // The newest version that somebody knew of before now, and who.
    let mut floor = (0, 0);
    for demand in &demands {
        while let Some(before) = known.next_if(|before| before.ended < demand.begun) {
            floor = floor.max((before.version, before.entry));
        }
        if !fits(demand, floor.0, &chunk.updates) {
            let what = match demand.kind {
                Kind::Made(version) | Kind::Removed(version) => format!("made version {version}"),
                Kind::Saw(version) => format!("saw version {version}"),
                Kind::SawNothing => "saw no chunk".to_owned(),
            };
            let (place, entry, (version, other)) = (chunk.place, demand.entry, floor);
            return Err(format!("{place}: [{entry}] {what} after [{other}] knew {version}"));
        }
    }
    Ok(())
}

fn fits(demand: &Demand, floor: u64, updates: &[Update]) -> bool {
    match demand.kind {
        Kind::Made(version) => version > floor,
        Kind::Removed(version) | Kind::Saw(version) => version >= floor,
        Kind::SawNothing => {
            let removed = |other: &Update| {
                let newer = other.version.is_none_or(|version| version >= floor);
                other.change == Change::Remove && other.begun < demand.ended && newer
            };
            floor == 0 || updates.iter().any(removed)
        }
    }
}

fn check_numbers(chunk: &Chunk) -> Result<(), String> {
    let mut by_version: BTreeMap<u64, &Update> = BTreeMap::new();
    for update in &chunk.updates {
        let Some(version) = update.version else { continue };
        let Some(other) = by_version.insert(version, update) else { continue };
        let removes = |one: &Update| one.change == Change::Remove;
        if !removes(update) && !removes(other) {
            let (place, one, two) = (chunk.place, other.entry, update.entry);
            return Err(format!("{place}: [{one}] and [{two}] both made version {version}"));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::chunk::Read;
    use super::*;
    use crate::plan::Place;
    use bytes::Bytes;

    pub(in super::super) fn chunk(updates: Vec<Update>, reads: Vec<Read>) -> Chunk {
        let place = Place { slot: 0, number: 0 };
        Chunk { place, updates, reads }
    }

    pub(in super::super) fn update(
        entry: u32,
        (begun, ended): (u64, u64),
        change: Change,
        version: Option<u64>,
    ) -> Update {
        Update { entry, begun, ended, change, version, refused: false }
    }

    pub(in super::super) fn read(
        (begun, ended): (u64, u64),
        seen: Option<(u64, &'static [u8])>,
    ) -> Read {
        let seen =
            seen.map(|(version, bytes)| (version, Bytes::from_static(bytes), bytes.len() as u32));
        Read { entry: 99, begun, ended, offset: 0, len: 1000, seen }
    }

    fn cut(ticks: (u64, u64), version: u64) -> Update {
        update(ticks.0 as u32, ticks, Change::Truncate { len: 0 }, Some(version))
    }

    /// Goal: a version that goes back in time is found, one that overlaps is not. Oracle: the rows.
    #[test]
    fn finds_what_goes_back_in_time() {
        let saw = |ticks, version| read(ticks, Some((version, b"")));
        assert!(check(&chunk(vec![cut((1, 2), 1), cut((4, 5), 2)], vec![saw((3, 6), 1)])).is_ok());
        let stale = chunk(vec![cut((1, 2), 1), cut((3, 4), 2)], vec![saw((5, 6), 1)]);
        assert!(check(&stale).expect_err("stale").contains("saw version 1"));
        let reads = vec![saw((4, 5), 2), saw((6, 8), 1)];
        assert!(check(&chunk(vec![cut((1, 2), 1), cut((3, 7), 2)], reads)).is_err());
        assert!(check(&chunk(vec![cut((1, 2), 1), cut((3, 4), 1)], vec![])).is_err());
        assert!(check(&chunk(vec![cut((1, 2), 1)], vec![read((3, 4), None)])).is_err());
        let removed = update(7, (2, 9), Change::Remove, None);
        let gone = chunk(vec![cut((1, 2), 1), removed], vec![read((3, 4), None)]);
        assert!(check(&gone).is_ok(), "an unknown removal explains a missing chunk");
    }
}
