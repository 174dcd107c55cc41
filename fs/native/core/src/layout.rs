//! Which chain holds which chunk of a file: arithmetic that every client does alone.
//!
//! Why our own shuffle: a layout must mean the same for ever, on every compiler and library.
//! The algorithm is written in docs/disk-format.md and pinned by golden vectors below.
//! Invariants: `chain_slot` depends on nothing but the layout and the index.

use crate::ids::{ChainTableId, ChainTableVersion, ChunkIndex};
use serde::{Deserialize, Serialize};

/// How the bytes of a file are laid out. Room for erasure-coded and tiered kinds is in `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLayout {
    /// How redundancy is made.
    pub kind: LayoutKind,
    /// The table whose chains are used.
    pub table: ChainTableId,
    /// The edition of the table.
    pub table_version: ChainTableVersion,
    /// Bytes of a chunk: a power of two from 64 KiB to 32 MiB.
    pub chunk_size_bytes: u32,
    /// How many slots of the table the file is spread over, at least 1.
    pub stripe_count: u32,
    /// Where in the shuffled table the file starts.
    pub seed: u64,
}

/// How a layout makes redundancy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayoutKind {
    /// Every chunk is on every target of its chain.
    Replicated,
}

impl FileLayout {
    /// The slot of the chain table that holds a chunk. `chain_count` is the table's length, ≥ 1.
    pub fn chain_slot(&self, index: ChunkIndex, chain_count: u32) -> u32 {
        assert!(chain_count > 0, "a chain table has at least one chain");
        let stripe = self.stripe_count.clamp(1, chain_count);
        permute(self.seed, index.0 % stripe, chain_count)
    }

    /// The chunk that holds a byte, and the byte's offset within it.
    pub fn locate(&self, offset: u64) -> (ChunkIndex, u32) {
        let size = u64::from(self.chunk_size_bytes);
        let index = u32::try_from(offset / size).unwrap_or(u32::MAX);
        (ChunkIndex(index), (offset % size) as u32)
    }

    /// The largest file in bytes: 2^32 − 1 chunks.
    pub fn size_max_bytes(&self) -> u64 {
        u64::from(u32::MAX) * u64::from(self.chunk_size_bytes)
    }
}

/// SplitMix64's finaliser (Steele et al., 2014): a bijection of 64-bit numbers.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A pseudo-random permutation of `0..count`: a four-round Feistel network over the next even
/// number of bits, walked until it lands inside (cycle walking, Black and Rogaway 2002).
fn permute(seed: u64, position: u32, count: u32) -> u32 {
    assert!(position < count, "the position is inside the table");
    let bits = (64 - u64::from(count - 1).leading_zeros()).max(2);
    let half_bits = bits.div_ceil(2);
    let mask = (1_u64 << half_bits) - 1;
    let mut value = u64::from(position);
    loop {
        let mut left = value >> half_bits;
        let mut right = value & mask;
        for round in 0..4_u64 {
            let key = mix(seed ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let next = left ^ (mix(right ^ key) & mask);
            left = right;
            right = next;
        }
        value = (left << half_bits) | right;
        if value < u64::from(count) {
            return value as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a stripe never uses a chain twice. Method: all table sizes to 70. Oracle: a set.
    #[test]
    fn permute_is_a_permutation() {
        for count in 1..70 {
            for seed in [0, 1, 0xdead_beef] {
                let seen: std::collections::BTreeSet<u32> =
                    (0..count).map(|position| permute(seed, position, count)).collect();
                assert_eq!(seen.len() as u32, count);
            }
        }
    }

    /// Goal: layouts never change meaning. Oracle: golden vectors, never edited.
    #[test]
    fn golden_vectors() {
        let order: Vec<u32> = (0..8).map(|position| permute(42, position, 8)).collect();
        assert_eq!(order, GOLDEN_SEED_42_COUNT_8);
        let order: Vec<u32> = (0..5).map(|position| permute(7, position, 5)).collect();
        assert_eq!(order, GOLDEN_SEED_7_COUNT_5);
    }

    const GOLDEN_SEED_42_COUNT_8: [u32; 8] = [4, 5, 1, 7, 3, 2, 0, 6];
    const GOLDEN_SEED_7_COUNT_5: [u32; 5] = [2, 3, 0, 1, 4];
}
