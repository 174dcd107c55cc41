//! Exactly once: no update shows before its version, none comes from nowhere, and what was replaced
//! or removed does not come back.
//!
//! Why beside `content`: it needs no search and no complete history, and says which update was
//! applied twice: a retry that happened again shows its marker before the version it was
//! acknowledged with.

use super::chunk::{Chunk, Update};
use crate::plan::Change;
use std::collections::{BTreeMap, BTreeSet};

/// What was applied twice, too early or by nobody.
pub fn check(chunk: &Chunk) -> Result<(), String> {
    let updates: BTreeMap<u32, &Update> =
        chunk.updates.iter().map(|update| (update.entry, update)).collect();
    let replaced: BTreeSet<u64> = chunk.updates.iter().filter_map(replaces).collect();
    for read in &chunk.reads {
        let Some((version, bytes, _)) = &read.seen else { continue };
        for entry in markers(bytes) {
            let place = chunk.place;
            let who = format!("{place}: [{}] saw the bytes of [{entry}]", read.entry);
            let Some(update) = updates.get(&entry) else {
                return Err(format!("{who}, which never wrote there"));
            };
            if update.begun > read.ended {
                return Err(format!("{who} before it began"));
            }
            let Some(made) = update.version else { continue };
            if made > *version {
                return Err(format!("{who} in version {version}, acknowledged as {made}"));
            }
            if let Some(gone) = replaced.iter().find(|one| (made + 1..=*version).contains(one)) {
                return Err(format!("{who} in version {version}, although {gone} replaced all"));
            }
        }
    }
    Ok(())
}

/// The version that left nothing of those before it.
fn replaces(update: &Update) -> Option<u64> {
    let whole = matches!(update.change, Change::Replace { .. } | Change::Create { .. });
    update.version.filter(|_| whole)
}

/// The entries whose whole markers are in the bytes.
fn markers(bytes: &[u8]) -> BTreeSet<u32> {
    let cell = |window: &[u8]| match window {
        [b'[', digits @ .., b']'] => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    };
    bytes.windows(7).filter_map(cell).collect()
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
