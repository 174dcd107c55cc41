//! Where the chunks of a new file go, and which chains hold the chunks of an old one.
//!
//! Defaults: chunks of 1 MiB, since the chunk store wastes least on them, one request carries
//! several, and a file of 16 MiB already uses 16 chains; a stripe of all chains, at most 16, so
//! that the cost of asking all chains of a file stays bounded.
//! Invariants: consecutive files start on consecutive slots of the table, so that small files
//! spread evenly; the edition of the table is fixed when the file is made.

use firepond_core::ids::{ChainId, ChainTableId, ChunkIndex};
use firepond_core::layout::{FileLayout, LayoutKind};
use firepond_core::routing::Routing;
use firepond_core::sys::random;
use firepond_core::wire::CHUNK_MAX_BYTES;
use firepond_core::{Error, Result};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// The chain table of files.
pub(crate) const FILE_TABLE: ChainTableId = ChainTableId(1);
/// The smallest chunk size.
const CHUNK_MIN_BYTES: u32 = 64 << 10;
/// Seeds that are tried to make a file start on its slot; large tables take what comes.
const SEED_TRIES_MAX: u32 = 512;

/// What a file gets unless its creator says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct LayoutDefaults {
    /// Bytes of a chunk.
    pub chunk_size_bytes: u32,
    /// Chains that a file is spread over; a smaller table sets the limit.
    pub stripe_count: u32,
}

impl Default for LayoutDefaults {
    fn default() -> LayoutDefaults {
        LayoutDefaults { chunk_size_bytes: 1 << 20, stripe_count: 16 }
    }
}

/// Lays files out.
pub(crate) struct Layouts {
    defaults: LayoutDefaults,
    next_slot: AtomicU32,
}

/// Checks a chunk size.
///
/// # Errors
/// `InvalidArgument`.
pub(crate) fn check_chunk_size(bytes: u32) -> Result<()> {
    if bytes.is_power_of_two() && (CHUNK_MIN_BYTES..=CHUNK_MAX_BYTES as u32).contains(&bytes) {
        return Ok(());
    }
    Err(Error::invalid("a chunk size is a power of two from 64 KiB to 32 MiB")
        .with("chunk_size_bytes", bytes))
}

impl Layouts {
    /// Starts on a random slot, so that several metadata servers do not march in step.
    pub(crate) fn new(defaults: LayoutDefaults) -> Layouts {
        let start = random::u64() as u32;
        Layouts { defaults, next_slot: AtomicU32::new(start) }
    }

    /// The layout of a new file; 0 means the default.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad chunk size, `ClusterNotReady` without a chain table.
    pub(crate) fn allocate(
        &self,
        routing: &Routing,
        chunk_size_bytes: u32,
        stripe_count: u32,
    ) -> Result<FileLayout> {
        let or_default = |value, default| if value == 0 { default } else { value };
        let chunk_size_bytes = or_default(chunk_size_bytes, self.defaults.chunk_size_bytes);
        check_chunk_size(chunk_size_bytes)?;
        let table = routing.table_newest(FILE_TABLE)?;
        let chain_count = u32::try_from(table.chains.len()).unwrap_or(u32::MAX);
        if chain_count == 0 {
            return Err(Error::new(
                firepond_core::ErrorKind::ClusterNotReady,
                "the chain table is empty",
            ));
        }
        let stripe_count = or_default(stripe_count, self.defaults.stripe_count);
        let mut layout = FileLayout {
            kind: LayoutKind::Replicated,
            table: table.id,
            table_version: table.version,
            chunk_size_bytes,
            stripe_count: stripe_count.clamp(1, chain_count),
            seed: random::u64(),
        };
        let slot = self.next_slot.fetch_add(1, Ordering::Relaxed) % chain_count;
        for _ in 0..SEED_TRIES_MAX {
            if layout.chain_slot(ChunkIndex(0), chain_count) == slot {
                break;
            }
            layout.seed = layout.seed.wrapping_add(1);
        }
        Ok(layout)
    }
}

/// The chains that may hold chunks of a file whose indexes are in `chunks`.
///
/// # Errors
/// `ClusterNotReady` when routing lacks the edition of the table.
pub(crate) fn chains_of(
    routing: &Routing,
    layout: &FileLayout,
    chunks: Range<u64>,
) -> Result<BTreeSet<ChainId>> {
    let stripe = u64::from(layout.stripe_count.max(1));
    let end = chunks.end.min(chunks.start.saturating_add(stripe));
    (chunks.start..end).map(|index| chain_of(routing, layout, chunk_index(index))).collect()
}

/// The chain that holds a chunk.
///
/// # Errors
/// As `chains_of`.
pub(crate) fn chain_of(
    routing: &Routing,
    layout: &FileLayout,
    index: ChunkIndex,
) -> Result<ChainId> {
    let table = routing.table(layout.table, layout.table_version)?;
    let chain_count = u32::try_from(table.chains.len()).unwrap_or(u32::MAX);
    Ok(table.chains[layout.chain_slot(index, chain_count) as usize])
}

/// A chunk's index; what no file can have becomes the end of all indexes.
pub(crate) fn chunk_index(index: u64) -> ChunkIndex {
    ChunkIndex(u32::try_from(index).unwrap_or(u32::MAX))
}
