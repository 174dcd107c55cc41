//! exists and match_prefix: what is there, without moving values.
//!
//! All chains are asked at once. A chain that does not answer has nothing, as far as the caller is
//! concerned: a failure is a miss, and a count in the statistics.

use super::{KeyDigest, KvCache};
use firepond_core::ErrorKind;
use firepond_core::sys::clock::Instant;
use firepond_core::wire::storage::ChunkStat;

/// Keys of one round; bounds the size of a request.
const ROUND_MAX_COUNT: usize = 4096;

impl KvCache {
    /// The size of each value, in order; `None` where there is none.
    pub async fn sizes(&self, keys: &[KeyDigest], deadline: Instant) -> Vec<Option<u32>> {
        let mut sizes = Vec::with_capacity(keys.len());
        for round in keys.chunks(ROUND_MAX_COUNT) {
            sizes.extend(self.sizes_round(round, deadline).await);
        }
        sizes
    }

    /// How many leading keys have a value. Stops asking at the first round with a gap.
    pub async fn match_prefix(&self, keys: &[KeyDigest], deadline: Instant) -> usize {
        let mut matched = 0;
        for round in keys.chunks(ROUND_MAX_COUNT) {
            let sizes = self.sizes_round(round, deadline).await;
            let leading = sizes.iter().take_while(|size| size.is_some()).count();
            matched += leading;
            if leading < round.len() {
                break;
            }
        }
        matched
    }

    async fn sizes_round(&self, keys: &[KeyDigest], deadline: Instant) -> Vec<Option<u32>> {
        let places = match self.places(keys) {
            Ok(places) => places,
            Err(error) => {
                keys.iter().for_each(|_| self.counters.read_failed(&error));
                return vec![None; keys.len()];
            }
        };
        let chunks: Vec<_> = places.iter().map(|place| (place.chain, place.chunk)).collect();
        let stats = self.chains.batch_stat(&chunks, deadline).await;
        let found = stats.into_iter().zip(keys).map(|(stat, key)| match stat {
            Ok(stat) => size_of(&stat, key),
            Err(error) => {
                if error.kind() != ErrorKind::ChunkNotFound {
                    self.counters.read_failed(&error);
                }
                None
            }
        });
        found.collect()
    }
}

fn size_of(stat: &ChunkStat, key: &KeyDigest) -> Option<u32> {
    (stat.version.0 > 0 && stat.tag == key.0).then_some(stat.len)
}
