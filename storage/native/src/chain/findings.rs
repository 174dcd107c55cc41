//! What was found of the chunks of a target, by the scrubber and by reads: counts, and each bad
//! chunk once.

use firepond_core::ids::ChunkId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bad chunks that are remembered; more are counted and not told of.
const KNOWN_MAX_COUNT: usize = 4096;

/// What was found since the process began.
#[derive(Debug, Default)]
pub struct Findings {
    /// Chunks that the scrubber read.
    pub chunks_checked: AtomicU64,
    /// Bytes of them.
    pub bytes_checked: AtomicU64,
    /// Chunks that were rotten, or different from the chain's.
    pub bad_count: AtomicU64,
    /// Chunks that were made good again.
    pub repaired_count: AtomicU64,
    /// When the scrubber had seen every chunk last, in seconds since 1970.
    pub last_pass_unix_s: AtomicU64,
    /// Bad chunks, and whether no replica has a good copy.
    known: Mutex<BTreeMap<ChunkId, bool>>,
}

impl Findings {
    /// A chunk is bad; says whether that is news.
    pub fn bad(&self, chunk: ChunkId) -> bool {
        let mut known = self.known.lock();
        if known.contains_key(&chunk) {
            return false;
        }
        self.bad_count.fetch_add(1, Ordering::Relaxed);
        let room = known.len() < KNOWN_MAX_COUNT;
        if room {
            known.insert(chunk, false);
        }
        room
    }

    /// No replica has a good copy of a chunk that is bad here.
    pub fn lost(&self, chunk: ChunkId) {
        if let Some(lost) = self.known.lock().get_mut(&chunk) {
            *lost = true;
        }
    }

    /// A bad chunk is good again.
    pub fn repaired(&self, chunk: ChunkId) {
        if self.known.lock().remove(&chunk).is_some() {
            self.repaired_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The chunks that are bad until now, as far as they are remembered.
    pub fn unrepaired(&self) -> Vec<ChunkId> {
        self.known.lock().keys().copied().collect()
    }

    /// Those of them that no replica had a good copy of.
    pub fn all_lost(&self) -> Vec<ChunkId> {
        self.known.lock().iter().filter(|(_, lost)| **lost).map(|(chunk, _)| *chunk).collect()
    }

    /// Chunks that are bad and that nobody could make good until now.
    pub fn unrepaired_count(&self) -> u64 {
        self.known.lock().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a bad chunk is news once, until it is good again. Oracle: the counts.
    #[test]
    fn news_once() {
        let (findings, chunk) = (Findings::default(), ChunkId([1; 16]));
        assert!(findings.bad(chunk));
        assert!(!findings.bad(chunk));
        findings.repaired(chunk);
        findings.repaired(chunk);
        assert_eq!(findings.unrepaired_count(), 0);
        assert!(findings.bad(chunk));
        let count = |one: &AtomicU64| one.load(Ordering::Relaxed);
        let counts = (count(&findings.bad_count), count(&findings.repaired_count));
        assert_eq!(counts, (2, 1));
        assert_eq!(findings.unrepaired_count(), 1);
        assert_eq!(findings.all_lost(), []);
        findings.lost(chunk);
        findings.lost(ChunkId([2; 16]));
        assert_eq!(findings.all_lost(), [chunk]);
    }
}
