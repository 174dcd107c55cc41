//! The bytes of every version that was read are those that the updates made, in their order.
//!
//! Exactly once: the versions that no answer named are at most as many as the updates whose outcome
//! is not known.

use super::history::{Change, Deed, Record};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What is wrong with the contents of a chunk; none stands for a chunk that does not exist.
pub fn check(records: &[Record]) -> Result<(), String> {
    let mut changes: BTreeMap<u64, &Change> = BTreeMap::new();
    let mut seen: BTreeMap<u64, &Bytes> = BTreeMap::new();
    let (mut unknown_count, mut newest) = (0, 0);
    for record in records {
        match &record.deed {
            Deed::Update { change, version: Some(version) } => {
                changes.insert(*version, change);
                newest = newest.max(*version);
            }
            Deed::Update { version: None, .. } => unknown_count += 1,
            Deed::Read { seen: None } => {}
            Deed::Read { seen: Some((version, bytes)) } => {
                newest = newest.max(*version);
                let other = seen.insert(*version, bytes);
                if other.is_some_and(|other| other != bytes) {
                    return Err(format!("two contents of version {version}: {other:?} {bytes:?}"));
                }
            }
        }
    }
    let gaps: Vec<u64> = (1..=newest).filter(|version| !changes.contains_key(version)).collect();
    if gaps.len() > unknown_count {
        return Err(format!(
            "{unknown_count} unknown updates made {} versions: {gaps:?}",
            gaps.len()
        ));
    }
    replay(&changes, &seen, newest)
}

/// Makes every version from the one before, where that is known.
fn replay(
    changes: &BTreeMap<u64, &Change>,
    seen: &BTreeMap<u64, &Bytes>,
    newest: u64,
) -> Result<(), String> {
    let mut content = Some(Vec::new());
    for version in 1..=newest {
        content = changes.get(&version).and_then(|change| applied(change, content));
        let Some(bytes) = seen.get(&version) else { continue };
        if let Some(expected) = content.as_ref().filter(|expected| **expected != bytes[..]) {
            let change = changes.get(&version);
            return Err(format!(
                "version {version} is {bytes:?}\nnot {:?}\nafter {change:?}",
                Bytes::copy_from_slice(expected)
            ));
        }
        content = Some(bytes.to_vec());
    }
    Ok(())
}

fn applied(change: &Change, before: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match change {
        Change::Remove => Some(Vec::new()),
        Change::Replace { bytes } | Change::Create { bytes } => Some(bytes.to_vec()),
        Change::Truncate { len } => {
            let mut content = before?;
            content.resize(*len as usize, 0);
            Some(content)
        }
        Change::Write { offset, bytes } => {
            let mut content = before?;
            let (from, to) = (*offset as usize, *offset as usize + bytes.len());
            content.resize(content.len().max(to), 0);
            content[from..to].copy_from_slice(bytes);
            Some(content)
        }
    }
}

/// Goal: the checker finds what it is for. Oracle: histories by hand.
#[test]
fn finds_wrong_bytes_and_extra_versions() {
    let record = |deed| Record { chunk: 0, begun: 1, ended: 2, deed, note: String::new() };
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let write = |version| {
        let change = Change::Write { offset: 1, bytes: bytes("x") };
        record(Deed::Update { change, version: Some(version) })
    };
    let read = |version, text| record(Deed::Read { seen: Some((version, bytes(text))) });
    assert!(check(&[write(1), read(1, "\0x")]).is_ok());
    assert!(check(&[write(1), read(1, "\0y")]).is_err());
    assert!(check(&[write(1), write(3), read(3, "\0x")]).is_err());
}
