//! Runs several futures at once, within bounds.

use firepond_core::Result;
use firepond_core::sys::disk::BoxFuture;
use std::task::Poll;

/// How many run at the same time.
const WIDTH: usize = 16;

/// Runs all, `WIDTH` at a time, to their ends; returns the first error.
///
/// Why to their ends: work on chunks that was begun must be settled before its lock is released.
pub(crate) async fn try_all(futures: Vec<BoxFuture<'_, Result<()>>>) -> Result<()> {
    let mut waiting = futures.into_iter();
    let mut running: Vec<_> = waiting.by_ref().take(WIDTH).collect();
    let mut outcome = Ok(());
    std::future::poll_fn(|context| {
        let mut position = 0;
        while position < running.len() {
            let Poll::Ready(result) = running[position].as_mut().poll(context) else {
                position += 1;
                continue;
            };
            if outcome.is_ok() {
                outcome = result;
            }
            match waiting.next().filter(|_| outcome.is_ok()) {
                Some(next) => running[position] = next,
                None => drop(running.swap_remove(position)),
            }
        }
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::{Error, sys::clock};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Goal: all run, few at once, and an error stops new ones. Oracle: counters.
    #[tokio::test(start_paused = true)]
    async fn runs_all_within_the_width() {
        let counts = [const { AtomicUsize::new(0) }; 3];
        let [now, most, done] = &counts;
        let work = |fails: bool| -> BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                let running = now.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(running, Ordering::Relaxed);
                clock::sleep(Duration::from_millis(1)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
                if fails { Err(Error::invalid("as asked")) } else { Ok(()) }
            })
        };
        try_all((0..100).map(|_| work(false)).collect()).await.expect("all succeed");
        assert_eq!((done.load(Ordering::Relaxed), most.load(Ordering::Relaxed)), (100, WIDTH));
        done.store(0, Ordering::Relaxed);
        let failing = (0..100).map(|at| work(at == 0)).collect();
        try_all(failing).await.expect_err("one failed");
        assert_eq!(done.load(Ordering::Relaxed), WIDTH, "what had begun was finished, no more");
    }
}
