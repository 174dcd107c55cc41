//! Time. Leases and deadlines use the monotonic clock only; the wall clock is for file times.

use std::future::Future;
use std::time::Duration;

/// A point on this process's monotonic clock.
pub type Instant = tokio::time::Instant;

/// Now, on the monotonic clock.
pub fn now() -> Instant {
    tokio::time::Instant::now()
}

/// Nanoseconds since 1970 by the wall clock; 0 before that.
pub fn unix_time_ns() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Waits.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until a point in time.
pub async fn sleep_until(instant: Instant) {
    tokio::time::sleep_until(instant).await;
}

/// The result of a future, or `None` when the deadline passes first.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    tokio::time::timeout_at(deadline, future).await.ok()
}
