//! get: reads values straight into the caller's memory.
//!
//! Reads go out in waves of bounded size, several waves at a time, in the order of the keys: the
//! prefix arrives first, and memory in flight stays bounded however long the batch is. Whatever
//! fails is a miss for the caller and a count in the statistics. The head of a chain is asked
//! first, because it is the one that evicts and must know what is in use; heads are spread over the
//! nodes.

use super::bounded::join_bounded;
use super::stats::count;
use super::{KeyDigest, KvCache, Place};
use firepond_core::peer::{ChunkRead, ReadOutcome};
use firepond_core::sys::clock::Instant;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::SinkSlice;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::atomic::Ordering;

/// Bytes of one wave; a larger value is a wave of its own.
const WAVE_MAX_BYTES: usize = 16 << 20;
/// Reads of one wave.
const WAVE_MAX_COUNT: usize = 1024;
/// Waves in flight of one call.
const WAVE_PARALLEL_MAX_COUNT: usize = 4;

/// One value that is wanted, and where its bytes go.
pub struct KvRead {
    /// The key.
    pub key: KeyDigest,
    /// At least as long as the value; what is behind the value is not touched.
    pub sink: SinkSlice,
}

impl KvCache {
    /// The size of each value that was found, in order; `None` is a miss, and the content of its
    /// sink is then arbitrary.
    pub async fn get(&self, reads: Vec<KvRead>, deadline: Instant) -> Vec<Option<u32>> {
        let keys: Vec<KeyDigest> = reads.iter().map(|read| read.key).collect();
        let places = match self.places(&keys) {
            Ok(places) => places,
            Err(error) => return keys.iter().map(|_| self.settle(Err(error.clone()))).collect(),
        };
        let waves = split(reads.into_iter().zip(places).collect());
        let runs = waves.into_iter().map(|wave| -> BoxFuture<'_, Vec<Option<u32>>> {
            Box::pin(self.get_wave(wave, deadline))
        });
        let found = join_bounded(runs, WAVE_PARALLEL_MAX_COUNT).await;
        found.into_iter().flatten().collect()
    }

    /// Counts keys that were found absent before they were read.
    pub fn note_absent(&self, key_count: usize) {
        self.counters.miss_count.fetch_add(key_count as u64, Ordering::Relaxed);
    }

    async fn get_wave(&self, wave: Vec<(KvRead, Place)>, deadline: Instant) -> Vec<Option<u32>> {
        let keys: Vec<KeyDigest> = wave.iter().map(|(read, _)| read.key).collect();
        let reads = wave.into_iter().map(|(read, place)| ChunkRead {
            chain: place.chain,
            chunk: place.chunk,
            offset: 0,
            len: u32::try_from(read.sink.len().min(super::VALUE_MAX_BYTES)).unwrap_or(u32::MAX),
            sink: Some(read.sink),
            prefer_head: true,
        });
        let outcomes = self.chains.batch_read(reads.collect(), deadline).await;
        let checked = outcomes.into_iter().zip(&keys).map(|(outcome, key)| {
            let outcome = outcome.and_then(|outcome| accept(&outcome, key));
            self.settle(outcome)
        });
        checked.collect()
    }

    /// Counts an outcome; a failure becomes a miss.
    fn settle(&self, outcome: Result<u32>) -> Option<u32> {
        match outcome {
            Ok(len) => {
                self.counters.hit(len);
                Some(len)
            }
            Err(error) => {
                count(&self.counters.miss_count);
                if error.kind() != ErrorKind::ChunkNotFound {
                    self.counters.read_failed(&error);
                }
                None
            }
        }
    }
}

/// The length of a value that is whole and the right one.
fn accept(outcome: &ReadOutcome, key: &KeyDigest) -> Result<u32> {
    if outcome.tag != key.0 {
        return Err(Error::new(ErrorKind::ChunkNotFound, "another key's value is in this place"));
    }
    if outcome.len != outcome.chunk_len {
        return Err(Error::new(ErrorKind::BufferTooSmall, "the buffer is smaller than the value")
            .with("buffer_bytes", outcome.len)
            .with("value_bytes", outcome.chunk_len));
    }
    Ok(outcome.len)
}

/// Cuts a batch into waves, in order.
fn split(reads: Vec<(KvRead, Place)>) -> Vec<Vec<(KvRead, Place)>> {
    let mut waves: Vec<Vec<(KvRead, Place)>> = Vec::new();
    let mut wave_bytes = 0;
    for read in reads {
        let bytes = read.0.sink.len();
        match waves.last_mut() {
            Some(wave) if wave_bytes + bytes <= WAVE_MAX_BYTES && wave.len() < WAVE_MAX_COUNT => {
                wave_bytes += bytes;
                wave.push(read);
            }
            _ => {
                wave_bytes = bytes;
                waves.push(vec![read]);
            }
        }
    }
    waves
}
