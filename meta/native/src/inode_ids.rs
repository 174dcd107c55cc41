//! Hands out inode ids that are never used again.
//!
//! How: a transaction takes a batch of ids from the store; they are given out from memory. What a
//! crash leaves of a batch is lost, which 64 bits can bear.
//! Invariants: an id below the stored counter is never given out by another batch; ids 2 to 15 stay
//! free for directories with a special role.

use crate::keys;
use crate::records::{Counter, Record};
use firepond_core::ids::InodeId;
use firepond_core::kv::{CommitOutcome, KvStore, KvTransaction};
use firepond_core::sys::clock::{self, Instant};
use firepond_core::{Error, ErrorKind, Result};
use std::ops::Range;

/// Ids of one batch.
const BATCH_COUNT: u64 = 4096;
/// The first id that is given out.
const FIRST: u64 = 16;

/// The ids that this process may give out.
pub(crate) struct InodeIds {
    batch: tokio::sync::Mutex<Range<u64>>,
}

impl InodeIds {
    /// No ids yet: the first use takes a batch.
    pub(crate) fn new() -> InodeIds {
        InodeIds { batch: tokio::sync::Mutex::new(0..0) }
    }

    /// A new id.
    ///
    /// # Errors
    /// What the store answers; `DeadlineExceeded`.
    pub(crate) async fn next<S: KvStore>(&self, store: &S, deadline: Instant) -> Result<InodeId> {
        let mut batch = self.batch.lock().await;
        while batch.is_empty() {
            if let Some(fresh) = take_batch(store).await? {
                *batch = fresh;
            } else if clock::now() >= deadline {
                return Err(Error::new(ErrorKind::DeadlineExceeded, "no inode ids to be had"));
            }
        }
        let id = batch.start;
        batch.start += 1;
        Ok(InodeId(id))
    }
}

/// A batch, or nothing when the outcome was a conflict or unknown; then its ids are simply lost.
async fn take_batch<S: KvStore>(store: &S) -> Result<Option<Range<u64>>> {
    let mut transaction = store.begin();
    let stored = transaction.get(keys::NEXT_INODE).await?;
    let start = match stored {
        Some(bytes) => Counter::decode(&bytes)?.value,
        None => FIRST,
    };
    assert!(start >= FIRST, "the counter only grows");
    let next = Counter { value: start + BATCH_COUNT };
    transaction.set(keys::NEXT_INODE, &next.encode()?);
    match transaction.commit().await? {
        CommitOutcome::Committed(_) => Ok(Some(start..next.value)),
        CommitOutcome::Conflict | CommitOutcome::MaybeCommitted => Ok(None),
    }
}
