//! What was found of the chunks of a target, by the scrubber and by reads: counts, and each bad
//! chunk once.

use firepond_core::ids::ChunkId;
use parking_lot::Mutex;
use std::collections::BTreeSet;
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
    known: Mutex<BTreeSet<ChunkId>>,
}

impl Findings {
    /// A chunk is bad; says whether that is news.
    pub fn bad(&self, chunk: ChunkId) -> bool {
        let mut known = self.known.lock();
        if known.contains(&chunk) {
            return false;
        }
        self.bad_count.fetch_add(1, Ordering::Relaxed);
        known.len() < KNOWN_MAX_COUNT && known.insert(chunk)
    }

    /// A bad chunk is good again.
    pub fn repaired(&self, chunk: ChunkId) {
        if self.known.lock().remove(&chunk) {
            self.repaired_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The chunks that are bad until now, as far as they are remembered.
    pub fn unrepaired(&self) -> Vec<ChunkId> {
        self.known.lock().iter().copied().collect()
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
    }
}
