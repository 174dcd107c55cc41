//! Runs futures on the caller's task, a bounded number at a time.
//!
//! Why not spawned tasks: a read that the page cache answers is over before a task would have been
//! made, and dropping the caller drops them all.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

type Slot<F> = (usize, Pin<Box<F>>);

/// The outputs in order. At most `width` futures are under way at a time.
pub(super) async fn join_bounded<F: Future>(
    futures: impl ExactSizeIterator<Item = F>,
    width: usize,
) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = (0..futures.len()).map(|_| None).collect();
    let mut waiting = futures.enumerate();
    let mut running: Vec<Slot<F>> = Vec::with_capacity(width.min(outputs.len()));
    poll_fn(|context| {
        running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
            Poll::Ready(output) => {
                outputs[*index] = Some(output);
                false
            }
            Poll::Pending => true,
        });
        while running.len() < width {
            let Some((index, future)) = waiting.next() else { break };
            let mut future = Box::pin(future);
            match future.as_mut().poll(context) {
                Poll::Ready(output) => outputs[index] = Some(output),
                Poll::Pending => running.push((index, future)),
            }
        }
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::sys::clock::{now, sleep};
    use std::time::Duration;

    /// Goal: order and bound. Method: 10 sleeps of 1 s, 5 at a time. Oracle: the (paused) clock.
    #[tokio::test(start_paused = true)]
    async fn keeps_order_and_bound() {
        let start = now();
        let one = |number: u32| async move {
            sleep(Duration::from_millis(1000 - u64::from(number))).await;
            number
        };
        let outputs = join_bounded((0..10_u32).map(one), 5).await;
        assert_eq!(outputs, (0..10).collect::<Vec<_>>());
        assert_eq!((now() - start).as_secs(), 1, "two rounds of a little less than a second");
    }
}
