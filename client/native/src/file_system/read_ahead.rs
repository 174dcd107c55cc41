//! Reading on where a reader is going, so that a sequential reader finds its bytes already here.
//!
//! Why blocks: readers ask in all sizes, and slightly out of order when a kernel asks for them; a
//! block serves whoever comes. Why a copy: the bytes were there before the caller's memory was
//! known. Invariants: never more than the window and never waiting for memory (a full pool means no
//! read-ahead); a block that was read before a change of the file is never used; random access ends
//! it.

use firepond_core::Result;
use firepond_core::payload::Payload;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::watch;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
/// A block is used for so long at most; another client may have written since.
const BLOCK_VALID: Duration = Duration::from_millis(1_000);
/// How far from the expected place a read still counts as sequential, once some did; until then it
/// is the length of the read, because random reads of a file of a few MiB often fall near each
/// other.
const SLACK_BYTES: u64 = 2 * BLOCK_BYTES as u64;
/// Sequential reads before anything is read ahead.
const STREAK_MIN: u32 = 2;

/// A block's bytes once they are there: at most `BLOCK_BYTES`, fewer at the end of the file.
pub(super) type BlockResult = Option<Result<(Payload, usize)>>;

/// One block on its way or here.
struct Block {
    result: watch::Receiver<BlockResult>,
    task: AbortHandle,
    started: Instant,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A block that a read can use: its offset, and where its bytes come.
pub(super) type ReadyBlock = (u64, watch::Receiver<BlockResult>);

/// The read-ahead of one open file.
pub(super) struct ReadAhead {
    max_blocks: usize,
    window_blocks: usize,
    next_offset: u64,
    streak: u32,
    generation: u64,
    blocks: BTreeMap<u64, Block>,
}

impl ReadAhead {
    pub(super) fn new(max_bytes: usize) -> ReadAhead {
        ReadAhead {
            max_blocks: max_bytes / BLOCK_BYTES,
            window_blocks: 2,
            next_offset: 0,
            streak: 0,
            generation: 0,
            blocks: BTreeMap::new(),
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.window_blocks = 2;
        self.streak = 0;
    }

    /// Notes a read; returns the blocks that serve it, if they serve all of it.
    pub(super) fn serve(
        &mut self,
        offset: u64,
        len: usize,
        size: u64,
        generation: u64,
    ) -> Option<Vec<ReadyBlock>> {
        let is_new = self.streak < STREAK_MIN;
        let slack = if is_new { SLACK_BYTES.min(len as u64) } else { SLACK_BYTES };
        let sequential = offset.abs_diff(self.next_offset) <= slack;
        if !sequential || generation != self.generation || len > self.max_blocks * BLOCK_BYTES / 4 {
            self.clear();
            self.generation = generation;
            self.streak = u32::from(!sequential);
            self.next_offset = offset + len as u64;
            return None;
        }
        self.streak = self.streak.saturating_add(1);
        self.next_offset = self.next_offset.max(offset + len as u64);
        let keep_from = offset.saturating_sub(SLACK_BYTES);
        let oldest = clock::now().checked_sub(BLOCK_VALID);
        self.blocks.retain(|start, block| {
            let here = block.result.look(Option::is_some);
            start + BLOCK_BYTES as u64 > keep_from
                && (!here || oldest.is_none_or(|oldest| block.started >= oldest))
        });
        let end = (offset + len as u64).min(size);
        let mut found = Vec::new();
        let mut start = block_start(offset);
        while start < end {
            found.push((start, self.blocks.get(&start)?.result.clone()));
            start += BLOCK_BYTES as u64;
        }
        Some(found).filter(|found| !found.is_empty())
    }

    /// Offsets of the blocks that should be started now, in order.
    pub(super) fn wanted(&mut self, size: u64) -> Vec<u64> {
        if self.streak < STREAK_MIN {
            return Vec::new();
        }
        let first = block_start(self.next_offset);
        let starts = (0..self.window_blocks as u64).map(|at| first + at * BLOCK_BYTES as u64);
        let wanted: Vec<u64> =
            starts.filter(|start| *start < size && !self.blocks.contains_key(start)).collect();
        self.window_blocks = (self.window_blocks * 2).min(self.max_blocks);
        wanted
    }

    /// A block was started.
    pub(super) fn started(
        &mut self,
        start: u64,
        result: watch::Receiver<BlockResult>,
        task: AbortHandle,
    ) {
        self.blocks.insert(start, Block { result, task, started: clock::now() });
    }
}

fn block_start(offset: u64) -> u64 {
    offset - offset % BLOCK_BYTES as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = BLOCK_BYTES;
    const SIZE: u64 = 100 * MIB as u64;

    fn start(ahead: &mut ReadAhead, starts: &[u64]) {
        for offset in starts {
            let (_sender, receiver) = watch::channel(None);
            let task = tokio::spawn(async {}).abort_handle();
            ahead.started(*offset, receiver, task);
        }
    }

    /// Goal: a sequential reader gets a growing, bounded window. Oracle: the blocks by hand.
    #[tokio::test]
    async fn sequential_reads_open_the_window() {
        let mut ahead = ReadAhead::new(8 * MIB);
        assert!(ahead.serve(0, 4096, SIZE, 0).is_none());
        assert!(ahead.wanted(SIZE).is_empty(), "one read is no pattern");
        assert!(ahead.serve(4096, 4096, SIZE, 0).is_none());
        let wanted = ahead.wanted(SIZE);
        assert_eq!(wanted, [0, MIB as u64]);
        start(&mut ahead, &wanted);
        assert_eq!(ahead.serve(8192, 4096, SIZE, 0).expect("served").len(), 1);
        for _ in 0..5 {
            let wanted = ahead.wanted(SIZE);
            start(&mut ahead, &wanted);
        }
        assert_eq!(ahead.blocks.len(), 8, "the window is bounded");
    }

    /// Goal: random reads of a small file are no pattern. Method: reads of 4 KiB all over 16 MiB.
    /// Oracle: how many blocks are wanted; a single read in a hundred may look like one.
    #[test]
    fn random_reads_of_a_small_file_are_no_pattern() {
        let mut ahead = ReadAhead::new(8 * MIB);
        let (size, mut place, mut block_count) = (16 * MIB as u64, 1_u64, 0);
        for _ in 0..10_000 {
            place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let offset = (place >> 33) % (size / 4096) * 4096;
            ahead.serve(offset, 4096, size, 0);
            block_count += ahead.wanted(size).len();
        }
        assert!(block_count < 200, "{block_count} blocks read ahead");
    }

    /// Goal: random access and changes end it. Oracle: no blocks.
    #[tokio::test]
    async fn random_access_and_changes_clear() {
        for (offset, generation) in [(50 * MIB as u64, 0), (8192, 1)] {
            let mut ahead = ReadAhead::new(8 * MIB);
            ahead.serve(0, 4096, SIZE, 0);
            ahead.serve(4096, 4096, SIZE, 0);
            let wanted = ahead.wanted(SIZE);
            start(&mut ahead, &wanted);
            assert!(ahead.serve(offset, 4096, SIZE, generation).is_none());
            assert!(ahead.blocks.is_empty());
            assert!(ahead.wanted(SIZE).is_empty());
        }
    }
}
