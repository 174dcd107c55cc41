//! Runs many futures on the caller's task, some at a time.
//!
//! Why not spawned tasks: a caller that is dropped drops its calls with it, and reads write into
//! the caller's memory.

use firepond_core::sys::disk::BoxFuture;
use std::future::poll_fn;
use std::task::Poll;

/// The outputs of all futures in their order; at most `limit` have begun and not ended.
pub(super) async fn join_bounded<'a, T>(
    futures: impl Iterator<Item = BoxFuture<'a, T>>,
    limit: usize,
) -> Vec<T> {
    let mut waiting = futures.fuse();
    let mut outputs: Vec<Option<T>> = Vec::new();
    let mut running: Vec<(usize, BoxFuture<'a, T>)> = Vec::with_capacity(limit);
    poll_fn(|context| {
        loop {
            while running.len() < limit
                && let Some(future) = waiting.next()
            {
                running.push((outputs.len(), future));
                outputs.push(None);
            }
            if running.is_empty() {
                return Poll::Ready(());
            }
            let before = running.len();
            running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Ready(output) => {
                    outputs[*index] = Some(output);
                    false
                }
                Poll::Pending => true,
            });
            // What has ended makes room for more, which must be polled once before we wait.
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Goal: order and bound. Method: futures that yield a few times and count themselves.
    /// Oracle: the outputs, and the largest number at once.
    #[tokio::test]
    async fn bound_and_order_are_kept() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (now, most) = (&now, &most);
        let futures = (0..20_usize).map(|number| -> BoxFuture<'_, usize> {
            Box::pin(async move {
                let count = now.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(count, Ordering::Relaxed);
                for _ in 0..number % 4 {
                    tokio::task::yield_now().await;
                }
                now.fetch_sub(1, Ordering::Relaxed);
                number
            })
        });
        let outputs = join_bounded(futures, 3).await;
        assert_eq!(outputs, (0..20).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::Relaxed), 3);
    }

    /// Goal: futures that end at once make room for the rest. Method: none, and more than the
    /// bound.
    /// Oracle: every output.
    #[tokio::test]
    async fn all_are_run_although_none_waits() {
        for count in [0, 1, 3, 10] {
            let futures = (0..count)
                .map(|number| -> BoxFuture<'_, usize> { Box::pin(std::future::ready(number)) });
            assert_eq!(join_bounded(futures, 3).await, (0..count).collect::<Vec<_>>());
        }
    }
}
