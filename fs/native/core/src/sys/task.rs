//! Tasks and the threads that carry them.
//!
//! Under simulation every task belongs to the machine of the task that started it, and what has a
//! thread of its own otherwise is a task of that machine, too.

use crate::error::{Error, ErrorKind, Result};
use std::future::{Future, poll_fn};
use std::task::Poll;
use tokio::task::{JoinError, JoinHandle};

#[cfg(feature = "simulation")]
pub use super::machine::scoped;

/// The future as it is; under simulation, as a task of the current machine. For task sets.
#[cfg(not(feature = "simulation"))]
pub fn scoped<F>(future: F) -> F
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    future
}

/// Starts a task on the current runtime.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(scoped(future))
}

/// Runs work to its end although whoever waits for it may go. Up to its first pause it runs here
/// and now, for a task costs more than most work that has none; the rest is a task of its own.
///
/// # Errors
/// As `unfinished`.
pub async fn to_its_end<F>(work: F) -> Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut work = Box::pin(work);
    match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => spawn(work).await.map_err(|error| unfinished(&error)),
    }
}

/// What to tell those who wait for a task that did not end. `Internal` when it panicked.
/// `PeerUnreachable` when the runtime ended, as a process that stops ends it: whoever asked for the
/// work does not know what became of it, as with a crash, and tries again.
pub fn unfinished(error: &JoinError) -> Error {
    if error.is_cancelled() {
        return Error::new(ErrorKind::PeerUnreachable, "the process stopped in the middle of it");
    }
    Error::internal(format!("work panicked: {error}"))
}

/// Runs blocking work on a thread of its own pool.
pub fn spawn_blocking<F, R>(work: F) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    #[cfg(feature = "simulation")]
    if super::machine::Machine::current().is_some() {
        return spawn(async move { work() });
    }
    tokio::task::spawn_blocking(work)
}

/// Starts a named operating-system thread. For disk engines only.
pub fn spawn_thread<F>(name: &str, work: F) -> std::io::Result<std::thread::JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// A future with a thread of its own, on which it may block.
pub struct Worker(Option<std::thread::JoinHandle<()>>);

impl Worker {
    /// Blocks until the future has ended; says whether it did so without a panic. Under simulation
    /// nothing can be waited for like this, and it returns at once.
    pub fn join(self) -> bool {
        self.0.is_none_or(|thread| thread.join().is_ok())
    }
}

/// Starts a worker, which may block the thread that it is alone on. For commit loops.
///
/// # Errors
/// When there is no thread to be had.
pub fn spawn_worker<F>(name: &str, future: F) -> std::io::Result<Worker>
where
    F: Future<Output = ()> + Send + 'static,
{
    #[cfg(feature = "simulation")]
    if super::machine::Machine::current().is_some() {
        drop(spawn(future));
        return Ok(Worker(None));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = spawn_thread(name, move || runtime.block_on(future))?;
    Ok(Worker(Some(thread)))
}

/// A runtime for one engine: `worker_count` threads whose names start with `name`.
pub fn runtime(name: &str, worker_count: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_count)
        .thread_name(name)
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// Goal: work without a pause needs no task, and other work ends although nobody waits for it
    /// any more. Method: drop the future at its pause. Oracle: what the work did.
    #[tokio::test]
    async fn work_goes_to_its_end() {
        assert_eq!(to_its_end(async { 7 }).await.expect("no task"), 7);
        let (go, gone) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let mut work = Box::pin(to_its_end(async move {
            gone.await.expect("told to go on");
            done.send(()).expect("somebody listens");
        }));
        let polled = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        assert!(polled.is_pending());
        drop(work);
        go.send(()).expect("the work waits");
        ended.await.expect("the work went on");
    }

    /// Goal: who waits for work of a process that stops is told to try elsewhere, not of a defect.
    /// Method: end the runtime under work that pauses. Oracle: the kind; a panic stays a defect.
    #[test]
    fn work_of_a_runtime_that_ends_may_be_tried_again() {
        let stopping = runtime("stopping", 1).expect("a thread");
        let mut work = Box::pin(to_its_end(std::future::pending::<()>()));
        let polled = stopping
            .block_on(poll_fn(|context| Poll::Ready(work.as_mut().poll(context).is_pending())));
        assert!(polled);
        drop(stopping);
        let waiting = runtime("waiting", 1).expect("a thread");
        let stopped = waiting.block_on(work).expect_err("nobody does it");
        assert_eq!(stopped.kind(), ErrorKind::PeerUnreachable);
        let broken = waiting.block_on(to_its_end(async {
            tokio::task::yield_now().await;
            panic!("a defect");
        }));
        assert_eq!(broken.expect_err("it panicked").kind(), ErrorKind::Internal);
    }
}
