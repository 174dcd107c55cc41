//! Exactly once: no update shows before its version, none comes from nowhere, and what was replaced
//! or removed does not come back.
//!
//! Why beside `content`: it needs no search and no complete history, and says which update was
//! applied twice: a retry that happened again shows its bytes before the version it was
//! acknowledged with. A byte is taken for an update's only if no other update would have put the
//! same byte there.

use super::chunk::{Chunk, Update};
use crate::plan::{Change, marker};

/// Positions of a read that are looked at: all of the first, then some.
const FIRST_COUNT: usize = 160;
const STEP: usize = 97;

/// What was applied twice, too early or by nobody.
pub fn check(chunk: &Chunk) -> Result<(), String> {
    let payloads: Vec<(&Update, usize, Vec<u8>)> =
        chunk.updates.iter().filter_map(payload).collect();
    let replaced = |after: u64, until: u64| {
        chunk.updates.iter().filter_map(replaces).find(|one| (after + 1..=until).contains(one))
    };
    for read in &chunk.reads {
        let Some((version, bytes, _)) = &read.seen else { continue };
        let far = (FIRST_COUNT..bytes.len()).step_by(STEP);
        for at in (0..bytes.len().min(FIRST_COUNT)).chain(far) {
            let position = at + read.offset as usize;
            let mut makers = payloads.iter().filter(|(_, offset, payload)| {
                let inside = position.checked_sub(*offset);
                inside.and_then(|inside| payload.get(inside)) == Some(&bytes[at])
            });
            let (first, other) = (makers.next(), makers.next());
            let (place, reader, byte) = (chunk.place, read.entry, char::from(bytes[at]));
            let who = format!("{place}: [{reader}] saw {byte:?} at {position}");
            let Some((update, _, _)) = first else {
                if bytes[at] == 0 {
                    continue;
                }
                return Err(format!("{who}, which nobody wrote there"));
            };
            if other.is_some() {
                continue;
            }
            let who = format!("{who} of [{}]", update.entry);
            if update.begun > read.ended {
                return Err(format!("{who} before that began"));
            }
            let Some(made) = update.version else { continue };
            if made > *version {
                return Err(format!("{who} in version {version}, acknowledged as {made}"));
            }
            if let Some(gone) = replaced(made, *version) {
                return Err(format!("{who} in version {version}, although {gone} replaced all"));
            }
        }
    }
    Ok(())
}

/// Where an update's bytes are.
fn payload(update: &Update) -> Option<(&Update, usize, Vec<u8>)> {
    match update.change {
        Change::Write { offset, len } => Some((update, offset as usize, marker(update.entry, len))),
        Change::Replace { len } | Change::Create { len } => {
            Some((update, 0, marker(update.entry, len)))
        }
        Change::Truncate { .. } | Change::Remove => None,
    }
}

/// The version that left nothing of those before it.
fn replaces(update: &Update) -> Option<u64> {
    let whole = matches!(update.change, Change::Replace { .. } | Change::Create { .. });
    update.version.filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::super::linearisability::tests::{chunk, read, update};
    use super::*;

    /// Goal: bytes too early, from nowhere and come back are found. Oracle: the rows.
    #[test]
    fn finds_what_happened_twice() {
        let write = |entry, ticks, version| {
            update(entry, ticks, Change::Write { offset: 0, len: 7 }, Some(version))
        };
        let replace =
            |entry, ticks, version| update(entry, ticks, Change::Replace { len: 7 }, Some(version));
        let saw = |version| vec![read((7, 8), Some((version, b"[00005]")))];
        assert!(check(&chunk(vec![write(5, (1, 2), 1)], saw(1))).is_ok());
        assert!(check(&chunk(vec![write(5, (1, 2), 3)], saw(2))).is_err());
        assert!(check(&chunk(vec![write(6, (1, 2), 1)], saw(1))).is_err());
        assert!(check(&chunk(vec![write(5, (9, 10), 1)], saw(1))).is_err());
        let back = vec![write(5, (1, 2), 1), replace(6, (3, 4), 2)];
        assert!(check(&chunk(back, saw(3))).is_err());
    }
}
