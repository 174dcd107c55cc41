//! Files: after fsync or close, whoever opens the file sees the bytes and the length.
//!
//! Byte by byte, as a regular register: a byte of a read comes from a write that began before the
//! read ended and that no acknowledged change overwrote between the write's end and the read's
//! beginning. A change whose outcome is unknown may happen at any time after its beginning. Several
//! pieces are several writes, one after the other: a read that runs beside them may see the byte of
//! one that a later one overwrites; one that begins when all are acknowledged may not.

use crate::history::{Deed, FileDeed, Record};
use crate::plan::marker;
use firepond_core::ids::InodeId;
use std::collections::BTreeMap;

/// What happened to one file.
struct Step<'a> {
    entry: u32,
    begun: u64,
    /// `u64::MAX` when it may still happen.
    ended: u64,
    deed: &'a FileDeed,
}

/// What a change leaves at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// This byte.
    Byte(u8),
    /// Not this position: but the file reaches at least beyond it.
    Reaches,
    /// Nothing: the file was cut before it.
    Cut,
    /// It says nothing about this position.
    Untouched,
}

/// Which byte of a file nobody can have written.
pub fn check(records: &[Record]) -> Result<(), String> {
    let mut files: BTreeMap<InodeId, Vec<Step<'_>>> = BTreeMap::new();
    for record in records {
        let Deed::File { inode, deed } = &record.deed else { continue };
        let settled = match deed {
            FileDeed::Write { settled, .. } | FileDeed::Truncate { settled, .. } => *settled,
            FileDeed::Read { .. } => true,
        };
        let ended = if settled { record.ended } else { u64::MAX };
        let step = Step { entry: record.entry, begun: record.begun, ended, deed };
        files.entry(*inode).or_default().push(step);
    }
    for (inode, steps) in &files {
        for read in steps {
            let FileDeed::Read { bytes } = read.deed else { continue };
            let end = steps.iter().map(|step| reach(step.deed)).max().unwrap_or(0);
            for position in 0..end {
                let found = bytes.get(position as usize).copied();
                if !possible(steps, read, position, found) {
                    let (entry, found) = (read.entry, found.map(char::from));
                    return Err(format!(
                        "[{entry}] {inode}: {found:?} at {position} of {} bytes",
                        bytes.len()
                    ));
                }
            }
            if bytes.len() > end as usize {
                return Err(format!("[{}] {inode} is longer than anybody made it", read.entry));
            }
        }
    }
    Ok(())
}

/// Where what a change says about a file ends.
fn reach(deed: &FileDeed) -> u32 {
    match deed {
        FileDeed::Write { pieces, .. } => {
            pieces.iter().map(|(offset, len)| offset + len).max().unwrap_or(0)
        }
        FileDeed::Truncate { len, .. } => *len,
        FileDeed::Read { .. } => 0,
    }
}

fn left(step: &Step<'_>, position: u32) -> Left {
    match step.deed {
        FileDeed::Read { .. } => Left::Untouched,
        FileDeed::Truncate { len, .. } => match position < *len {
            true => Left::Reaches,
            false => Left::Cut,
        },
        FileDeed::Write { pieces, .. } => {
            let covers = |(offset, len): &&(u32, u32)| (*offset..offset + len).contains(&position);
            match pieces.iter().rev().find(covers) {
                Some((offset, len)) => {
                    Left::Byte(marker(step.entry, *len)[(position - offset) as usize])
                }
                None if position < reach(step.deed) => Left::Reaches,
                None => Left::Untouched,
            }
        }
    }
}

/// Whether a change shows this byte at a position to a read that begins at a tick.
fn shows(step: &Step<'_>, position: u32, byte: u8, begun: u64) -> bool {
    let FileDeed::Write { pieces, .. } = step.deed else { return false };
    if step.ended < begun {
        return left(step, position) == Left::Byte(byte);
    }
    let covering = |(offset, len): &&(u32, u32)| (*offset..offset + len).contains(&position);
    pieces
        .iter()
        .filter(covering)
        .any(|(offset, len)| marker(step.entry, *len)[(position - offset) as usize] == byte)
}

/// Whether a read may find this at a position; none is the end of the file.
fn possible(steps: &[Step<'_>], read: &Step<'_>, position: u32, found: Option<u8>) -> bool {
    let changes = || steps.iter().map(|step| (step, left(step, position)));
    // Changes that ended before the read began and that nothing else can have come after.
    let stands = |step: &Step<'_>, undone: &dyn Fn(Left) -> bool| {
        let later = |(other, left): (&Step<'_>, Left)| {
            undone(left) && other.begun < read.ended && other.ended > step.begun
        };
        step.ended < read.begun && !changes().any(later)
    };
    let byte = |left: Left| matches!(left, Left::Byte(_));
    let from_somebody = |byte: u8| {
        steps.iter().any(|step| {
            let overwritten = |(other, after): (&Step<'_>, Left)| {
                let covers = matches!(after, Left::Byte(_) | Left::Cut);
                covers && other.begun > step.ended && other.ended < read.begun
            };
            shows(step, position, byte, read.begun)
                && step.begun < read.ended
                && !changes().any(overwritten)
        })
    };
    let cut = |left: Left| left == Left::Cut;
    match found {
        // A hole, unless a byte stands here.
        Some(0) => !changes().any(|(step, left)| byte(left) && stands(step, &cut)),
        Some(found) => from_somebody(found),
        // The end, unless something stands here or beyond.
        None => {
            let reaches = |left: Left| matches!(left, Left::Byte(_) | Left::Reaches);
            !changes().any(|(step, left)| reaches(left) && stands(step, &cut))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(entry: u32, begun: u64, ended: u64, deed: FileDeed) -> Record {
        let deed = Deed::File { inode: InodeId(2), deed };
        Record { entry, client: 0, begun, ended, deed }
    }

    fn write(entry: u32, begun: u64, pieces: &[(u32, u32)], settled: bool) -> Record {
        let pieces = pieces.to_vec();
        record(entry, begun, begun + 1, FileDeed::Write { pieces, settled })
    }

    fn read(begun: u64, bytes: &'static [u8]) -> Record {
        record(9, begun, begun + 1, FileDeed::Read { bytes: Bytes::from_static(bytes) })
    }

    /// Goal: lost bytes, stale bytes, wrong lengths are found, and open outcomes are not blamed.
    /// Oracle: the rows.
    #[test]
    fn finds_wrong_bytes_and_lengths() {
        let first = || write(1, 1, &[(0, 7)], true);
        assert!(check(&[first(), read(3, b"[00001]")]).is_ok());
        assert!(check(&[first(), read(3, b"")]).is_err(), "it is gone");
        assert!(check(&[first(), read(3, b"[0000")]).is_err(), "it is short");
        assert!(check(&[first(), read(3, b"[00001]\0")]).is_err(), "it is long");
        assert!(
            check(&[first(), read(3, b"[0\x0000\x0001]")]).is_err(),
            "a hole where a byte stands"
        );
        let second = || write(2, 3, &[(0, 7)], true);
        assert!(check(&[first(), second(), read(5, b"[00001]")]).is_err(), "it is stale");
        assert!(check(&[first(), second(), read(5, b"[00002]")]).is_ok());
        let unknown = || write(2, 3, &[(0, 7)], false);
        assert!(check(&[first(), unknown(), read(5, b"[00002]")]).is_ok());
        assert!(check(&[first(), unknown(), read(5, b"[00001]")]).is_ok());
        let gap = write(1, 1, &[(2, 7)], true);
        assert!(check(&[gap.clone(), read(3, b"\0\0[00001]")]).is_ok());
        let cut = record(3, 3, 4, FileDeed::Truncate { len: 3, settled: true });
        assert!(check(&[gap.clone(), cut.clone(), read(5, b"\0\0[")]).is_ok());
        assert!(check(&[gap, cut, read(5, b"\0\0[00001]")]).is_err(), "it was cut");
    }

    /// Goal: a piece that a later one of the same write overwrites is seen while the write is under
    /// way or its outcome unknown, and never after it ended. Oracle: the rows.
    #[test]
    fn finds_pieces_that_were_overwritten() {
        let pieces = |settled| FileDeed::Write { pieces: vec![(0, 7), (3, 7)], settled };
        let slow = || record(1, 1, 8, pieces(true));
        let (first, both): (&[u8], &[u8]) = (b"[00001]", b"[00[00001]");
        assert!(check(&[slow(), read(3, first)]).is_ok(), "the second is not written yet");
        assert!(check(&[slow(), read(3, both)]).is_ok());
        assert!(check(&[slow(), read(3, b"[00[0]1")]).is_err(), "nobody wrote that");
        assert!(check(&[slow(), read(10, both)]).is_ok());
        assert!(check(&[slow(), read(10, b"[00001]001]")]).is_err(), "it is stale");
        assert!(check(&[slow(), read(10, first)]).is_err(), "the second is lost");
        let unknown = record(1, 1, 8, pieces(false));
        assert!(check(&[unknown, read(10, first)]).is_ok());
    }
}
