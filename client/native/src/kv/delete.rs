//! delete: removes values. One that is not there counts as removed.

use super::bounded::join_bounded;
use super::put::UPDATE_PARALLEL_MAX_COUNT;
use super::stats::count;
use super::{KeyDigest, KvCache, Place, VALUE_MAX_BYTES, all_failed};
use firepond_core::Result;
use firepond_core::payload::Payload;
use firepond_core::peer::ChunkUpdate;
use firepond_core::sys::clock::Instant;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::wire::storage::UpdateKind;

impl KvCache {
    /// Removes values, each with its own outcome, in order.
    pub async fn delete(&self, keys: &[KeyDigest], deadline: Instant) -> Vec<Result<()>> {
        let places = match self.places(keys) {
            Ok(places) => places,
            Err(error) => {
                keys.iter().for_each(|_| self.counters.update_failed(&error));
                return all_failed(keys.len(), &error);
            }
        };
        let runs = places.into_iter().map(|place| -> BoxFuture<'_, Result<()>> {
            Box::pin(self.delete_one(place, deadline))
        });
        join_bounded(runs, UPDATE_PARALLEL_MAX_COUNT).await
    }

    async fn delete_one(&self, place: Place, deadline: Instant) -> Result<()> {
        let update = ChunkUpdate {
            chunk: place.chunk,
            kind: UpdateKind::Remove,
            offset: 0,
            len: 0,
            payload: Payload::empty(),
            checksum: 0,
            chunk_len_max: VALUE_MAX_BYTES as u32,
            tag: [0; 32],
        };
        match self.chains.update(place.chain, update, deadline).await {
            Ok(_) => {
                count(&self.counters.deleted_count);
                Ok(())
            }
            Err(error) => {
                self.counters.update_failed(&error);
                Err(error)
            }
        }
    }
}
