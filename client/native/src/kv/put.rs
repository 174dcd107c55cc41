//! put: publishes values; the first writer of a key wins.
//!
//! Each value is one `Create` at its chain, so it appears whole or not at all, and "exists" is
//! decided at the chain's head. A retry carries the same write id, so it never meets its own value
//! as another's. The checksum is taken before the bytes leave: bytes that the caller changes
//! meanwhile are refused and not stored.

use super::bounded::join_bounded;
use super::stats::count;
use super::{KeyDigest, KvCache, Place, VALUE_MAX_BYTES, all_failed};
use bytes::Bytes;
use firepond_core::checksum::crc32c;
use firepond_core::payload::Payload;
use firepond_core::peer::ChunkUpdate;
use firepond_core::sys::clock::Instant;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::wire::storage::UpdateKind;
use firepond_core::{Error, ErrorKind, Result};

/// Updates in flight of one call.
pub(super) const UPDATE_PARALLEL_MAX_COUNT: usize = 32;

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is published.
    Stored,
    /// The key has a value already; ours was not stored.
    Exists,
}

impl KvCache {
    /// Publishes values, each with its own outcome, in order.
    pub async fn put(
        &self,
        entries: Vec<(KeyDigest, Bytes)>,
        deadline: Instant,
    ) -> Vec<Result<PutOutcome>> {
        let keys: Vec<KeyDigest> = entries.iter().map(|(key, _)| *key).collect();
        let places = match self.places(&keys) {
            Ok(places) => places,
            Err(error) => {
                keys.iter().for_each(|_| self.counters.update_failed(&error));
                return all_failed(keys.len(), &error);
            }
        };
        let runs = entries.into_iter().zip(places).map(
            |((key, value), place)| -> BoxFuture<'_, Result<PutOutcome>> {
                Box::pin(self.put_one(place, key, value, deadline))
            },
        );
        join_bounded(runs, UPDATE_PARALLEL_MAX_COUNT).await
    }

    async fn put_one(
        &self,
        place: Place,
        key: KeyDigest,
        value: Bytes,
        deadline: Instant,
    ) -> Result<PutOutcome> {
        let len = value.len();
        let result = match create(place, key, value) {
            Ok(update) => self.chains.update(place.chain, update, deadline).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(_) => {
                self.counters.stored(len);
                Ok(PutOutcome::Stored)
            }
            Err(error) if error.kind() == ErrorKind::ChunkExists => {
                count(&self.counters.exists_count);
                Ok(PutOutcome::Exists)
            }
            Err(error) => {
                self.counters.update_failed(&error);
                Err(error)
            }
        }
    }
}

fn create(place: Place, key: KeyDigest, value: Bytes) -> Result<ChunkUpdate> {
    let len = value.len();
    if len > VALUE_MAX_BYTES {
        return Err(Error::new(ErrorKind::ValueTooLarge, "the value is too large")
            .with("bytes", len)
            .with("max", VALUE_MAX_BYTES));
    }
    let len = u32::try_from(len).map_err(|_| Error::internal("a length above the limit"))?;
    Ok(ChunkUpdate {
        chunk: place.chunk,
        kind: UpdateKind::Create,
        offset: 0,
        len,
        checksum: crc32c(&value),
        payload: Payload::from_bytes(value),
        chunk_len_max: VALUE_MAX_BYTES as u32,
        tag: key.0,
    })
}
