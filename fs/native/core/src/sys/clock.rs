//! Time. Leases and deadlines use the monotonic clock only; the wall clock is for file times.
//!
//! Under simulation both are the current machine's: instants are readings of its monotonic clock,
//! and waiting for one waits until that clock shows it, whatever true time says.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

/// A point on this process's monotonic clock.
pub type Instant = tokio::time::Instant;

/// Now, on the monotonic clock.
pub fn now() -> Instant {
    #[cfg(feature = "simulation")]
    if let Some(machine) = super::machine::Machine::current() {
        return machine.now();
    }
    tokio::time::Instant::now()
}

/// Nanoseconds since 1970 by the wall clock; 0 before that.
pub fn unix_time_ns() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(machine) = super::machine::Machine::current() {
        return machine.unix_time_ns();
    }
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    elapsed.map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Nanoseconds since 1970 as the wall clock said when it was first asked here, plus what the
/// monotonic clock counted since: for ages that decide something. It never jumps while the process
/// lives; of two lives either may be ahead.
pub fn steady_unix_ns() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(machine) = super::machine::Machine::current() {
        return machine.steady_unix_ns();
    }
    static FIRST: OnceLock<(std::time::Instant, u64)> = OnceLock::new();
    let (first, wall_ns) = FIRST.get_or_init(|| (std::time::Instant::now(), unix_time_ns()));
    wall_ns + u64::try_from(first.elapsed().as_nanos()).unwrap_or(u64::MAX - wall_ns)
}

/// Waits.
pub async fn sleep(duration: Duration) {
    sleep_until(now() + duration).await;
}

/// Waits until a point in time.
pub async fn sleep_until(instant: Instant) {
    #[cfg(feature = "simulation")]
    if let Some(machine) = super::machine::Machine::current() {
        // Again when the clock was slowed down meanwhile.
        while machine.now() < instant {
            tokio::time::sleep_until(machine.true_time(instant)).await;
        }
        return;
    }
    tokio::time::sleep_until(instant).await;
}

/// The result of a future, or `None` when the deadline passes first.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = sleep_until(deadline) => None,
    }
}
