//! What the service does by itself: collecting, pruning, finishing truncations, forgetting
//! requests.
//!
//! Invariants: a failing step never stops the loop; the next turn tries again.

use crate::collect;
use crate::keys;
use crate::service::MetaService;
use crate::settle;
use crate::transact;
use crate::truncate;
use crate::view::View;
use firepond_core::Result;
use firepond_core::kv::{KvStore, KvTransaction};
use firepond_core::sys::clock::{self, Instant};
use std::time::Duration;

/// Pause between two turns; garbage starts a turn at once.
const TURN: Duration = Duration::from_secs(1);
/// How long one turn may wait for the chains.
const TURN_DEADLINE: Duration = Duration::from_secs(30);
/// Pairs of one page.
const PAGE_COUNT: usize = 1000;
/// Turns between two looks for old requests.
const FORGET_EVERY: u64 = 30;

/// Runs until the task is dropped.
pub async fn run<S: KvStore>(meta: MetaService<S>) {
    for turn in 0_u64.. {
        let deadline = clock::now() + TURN_DEADLINE;
        if let Err(error) = one_turn(&meta, turn, deadline).await {
            tracing::info!(%error, "background work goes on later");
        }
        clock::timeout_at(clock::now() + TURN, meta.garbage().notified()).await;
        // Lets a burst of removals gather, so that one pass takes many.
        clock::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn one_turn<S: KvStore>(
    meta: &MetaService<S>,
    turn: u64,
    deadline: Instant,
) -> Result<()> {
    finish_truncates(meta, deadline).await?;
    settle::prune(meta, deadline).await?;
    collect_all(meta, deadline).await?;
    if turn.is_multiple_of(FORGET_EVERY) {
        forget_requests(meta).await?;
    }
    Ok(())
}

/// Finishes what an earlier life of this service, or a chain that did not answer, left half done.
async fn finish_truncates<S: KvStore>(meta: &MetaService<S>, deadline: Instant) -> Result<()> {
    let page = meta.reading().range(keys::pending_truncates(), PAGE_COUNT).await?;
    for inode in page.iter().filter_map(|(key, _)| keys::inode_of(key)) {
        if let Err(error) = truncate::finish(meta, inode, deadline).await {
            tracing::info!(%inode, %error, "truncation is finished later");
        }
    }
    Ok(())
}

/// Goes once over all garbage and notes what is left.
async fn collect_all<S: KvStore>(meta: &MetaService<S>, deadline: Instant) -> Result<()> {
    let (removed, waiting) = collect::pass(meta, deadline).await?;
    meta.set_backlog(waiting);
    if removed > 0 {
        tracing::debug!(removed, waiting, "collected files without a name");
    }
    Ok(())
}

/// Removes the records of requests that are too old to be retried.
async fn forget_requests<S: KvStore>(meta: &MetaService<S>) -> Result<()> {
    let period = transact::period(meta.now_ns());
    loop {
        let old = keys::requests_before(period.saturating_sub(1));
        let page = meta.reading().range(old, PAGE_COUNT).await?;
        let mut transaction = meta.store().begin();
        for (key, _) in &page {
            transaction.clear(key);
        }
        // Blind removals never conflict; after an unknown outcome the next page shows what is left.
        transaction.commit().await?;
        if page.len() < PAGE_COUNT {
            return Ok(());
        }
    }
}

/// Counts the inodes that are there at the start; from then on commits keep the count.
pub(crate) async fn count_inodes<S: KvStore>(meta: &MetaService<S>) -> Result<()> {
    let mut view = View::reading(meta.store().begin());
    let mut range = keys::inodes();
    loop {
        let page = view.range(range.clone(), PAGE_COUNT).await?;
        meta.counters().inodes(page.len() as i64);
        match page.last() {
            Some((key, _)) if page.len() == PAGE_COUNT => {
                range.start = [key.as_ref(), &[0]].concat();
            }
            _ => return Ok(()),
        }
    }
}
