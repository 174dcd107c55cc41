//! Linearisability of one chunk: versions grow with time, as everybody sees it.
//!
//! A deed that began after another ended sees at least its version, and an update makes a newer
//! one; no version is given to two updates. A chunk that was missing had been removed, or never
//! made.

use super::history::{Change, Deed, Record};
use std::collections::BTreeMap;

/// What is wrong with a chunk's history, in the order of its beginnings.
pub fn check(records: &[Record]) -> Result<(), String> {
    check_numbers(records)?;
    let mut by_end: Vec<&Record> = records.iter().collect();
    by_end.sort_by_key(|record| record.ended);
    let mut ended = by_end.into_iter().peekable();
    // The newest version that somebody knew of before now, and from what.
    let mut floor: (u64, Option<&Record>) = (0, None);
    for record in records {
        while let Some(before) = ended.next_if(|before| before.ended < record.begun) {
            let version = known_version(&before.deed);
            if version > floor.0 {
                floor = (version, Some(before));
            }
        }
        if !fits(record, floor.0, records) {
            return Err(format!("back in time: {record:?}\nafter {:?}", floor.1));
        }
    }
    Ok(())
}

fn known_version(deed: &Deed) -> u64 {
    match deed {
        Deed::Update { version, .. } => version.unwrap_or(0),
        Deed::Read { seen } => seen.as_ref().map_or(0, |(version, _)| *version),
    }
}

fn fits(record: &Record, floor: u64, records: &[Record]) -> bool {
    match &record.deed {
        Deed::Update { version: None, .. } => true,
        // To remove what is not there changes nothing.
        Deed::Update { change: Change::Remove, version: Some(version) } => *version >= floor,
        Deed::Update { version: Some(version), .. } => *version > floor,
        Deed::Read { seen: Some((version, _)) } => *version >= floor,
        Deed::Read { seen: None } => {
            let removed = |other: &Record| match &other.deed {
                Deed::Update { change: Change::Remove, version } => {
                    other.begun < record.ended && version.is_none_or(|version| version >= floor)
                }
                _ => false,
            };
            floor == 0 || records.iter().any(removed)
        }
    }
}

fn check_numbers(records: &[Record]) -> Result<(), String> {
    let mut by_version: BTreeMap<u64, &Record> = BTreeMap::new();
    for record in records {
        let Deed::Update { change, version: Some(version) } = &record.deed else { continue };
        let Some(other) = by_version.insert(*version, record) else { continue };
        let removes = |deed: &Deed| matches!(deed, Deed::Update { change: Change::Remove, .. });
        if !(matches!(change, Change::Remove) && removes(&other.deed)) {
            return Err(format!("version {version} twice: {record:?}\nand {other:?}"));
        }
    }
    Ok(())
}

/// Goal: the checker finds what it is for. Oracle: histories by hand.
#[test]
fn finds_what_goes_back_in_time() {
    let update = |begun, ended, version| {
        let deed = Deed::Update { change: Change::Truncate { len: 0 }, version: Some(version) };
        Record { chunk: 0, begun, ended, deed, note: String::new() }
    };
    let read = |begun, ended, version| {
        let deed = Deed::Read { seen: Some((version, bytes::Bytes::new())) };
        Record { chunk: 0, begun, ended, deed, note: String::new() }
    };
    assert!(check(&[update(1, 2, 1), read(3, 6, 1), update(4, 5, 2)]).is_ok());
    assert!(check(&[update(1, 2, 1), update(3, 4, 2), read(5, 6, 1)]).is_err());
    assert!(check(&[update(1, 2, 1), update(3, 7, 2), read(4, 5, 2), read(6, 8, 1)]).is_err());
    assert!(check(&[update(1, 2, 1), update(3, 4, 1)]).is_err());
    let gone = Deed::Read { seen: None };
    let gone = Record { chunk: 0, begun: 3, ended: 4, deed: gone, note: String::new() };
    assert!(check(&[update(1, 2, 1), gone]).is_err());
}
