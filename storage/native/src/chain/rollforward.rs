//! What is pending when a chain changes or a target comes back: forward it again, drop nothing.
//!
//! Why: a pending version may have been committed by a tail that is gone, and acknowledged; and a
//! number must not be given to another write. So a new tail commits its pendings, and everyone else
//! sends theirs to the new successor.
//! Invariants: only a serving target rolls forward (a syncing one is overwritten by its
//! predecessor); a chunk whose roll-forward failed is tried again. Nobody waits for this sweep: a
//! read or an update of a chunk that is still pending from before settles that chunk first, so it
//! is for the rest.

use super::backend::Backend;
use super::replica::Replica;
use super::role::Standing;
use firepond_core::ids::{ChainVersion, ChunkId};
use firepond_core::sys::task::scoped;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Chunks that are settled at the same time.
const CONCURRENT_COUNT: usize = 16;

/// When to sweep: a machine over what was swept last.
#[derive(Debug, Default)]
pub struct Sweeps {
    swept: Option<ChainVersion>,
    left_over: bool,
}

impl Sweeps {
    /// Whether to sweep now.
    pub fn is_due(&self, standing: &Standing) -> bool {
        let changed = self.swept != Some(standing.chain_version);
        standing.is_serving() && standing.lease && (changed || self.left_over)
    }

    /// A sweep under this chain version is over; `left_over`: something is still pending.
    pub fn done(&mut self, chain_version: ChainVersion, left_over: bool) {
        self.swept = Some(chain_version);
        self.left_over = left_over;
    }
}

/// Settles every chunk that is pending from an earlier chain version; says whether something is
/// left.
pub async fn sweep<B: Backend>(replica: &Arc<Replica<B>>) -> bool {
    let chunks = match replica.backend.pending(replica.target) {
        Ok(chunks) => chunks,
        Err(error) => {
            tracing::info!(target_id = replica.target.0, %error, "pendings cannot be listed");
            return true;
        }
    };
    if chunks.is_empty() {
        return false;
    }
    tracing::info!(target_id = replica.target.0, count = chunks.len(), "rolling forward");
    let (mut running, mut left_over) = (JoinSet::new(), false);
    for chunk in chunks {
        if running.len() >= CONCURRENT_COUNT {
            left_over |= settled(running.join_next().await);
        }
        let replica = Arc::clone(replica);
        running.spawn(scoped(async move { settle(&replica, chunk).await }));
    }
    while let Some(result) = running.join_next().await {
        left_over |= settled(Some(result));
    }
    left_over
}

fn settled(result: Option<Result<bool, tokio::task::JoinError>>) -> bool {
    !matches!(result, Some(Ok(true)))
}

async fn settle<B: Backend>(replica: &Arc<Replica<B>>, chunk: ChunkId) -> bool {
    let result = replica.settle(chunk).await;
    if let Err(error) = &result {
        tracing::info!(%chunk, target_id = replica.target.0, %error, "still pending");
    }
    result.is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::role::tests::standing;
    use super::*;
    use firepond_core::routing::PublicState::{Serving, Syncing};

    /// Goal: one sweep per chain version, again while something is left. Oracle: the rows.
    #[test]
    fn due_once_per_chain_version() {
        let mut sweeps = Sweeps::default();
        let serving = standing(4, &[(1, Serving), (2, Serving)], 1);
        assert!(sweeps.is_due(&serving));
        sweeps.done(serving.chain_version, true);
        assert!(sweeps.is_due(&serving));
        sweeps.done(serving.chain_version, false);
        assert!(!sweeps.is_due(&serving));
        assert!(sweeps.is_due(&standing(5, &[(1, Serving)], 1)));
        assert!(!sweeps.is_due(&standing(5, &[(1, Syncing)], 1)));
    }
}
