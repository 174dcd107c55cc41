//! A bound on the bytes that all resyncs of a node send in a second.

use firepond_core::sys::clock::{Instant, now, sleep_until};
use parking_lot::Mutex;
use std::time::Duration;

/// Who wants to send waits until the bytes before have had their time.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most this many bytes a second, at least one.
    pub fn new(bytes_per_second: u64) -> Pace {
        Pace { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(None) }
    }

    /// Waits for the turn of these bytes.
    pub async fn take(&self, bytes: u64) {
        let turn = {
            let mut free_at = self.free_at.lock();
            let turn = free_at.map_or_else(now, |instant| instant.max(now()));
            let nanos = bytes.saturating_mul(1_000_000_000) / self.bytes_per_second;
            *free_at = Some(turn + Duration::from_nanos(nanos));
            turn
        };
        if turn > now() {
            sleep_until(turn).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the rate holds. Method: ten megabytes at one a second. Oracle: the (paused) clock.
    #[tokio::test(start_paused = true)]
    async fn holds_the_rate() {
        let (pace, start) = (Pace::new(1 << 20), now());
        for _ in 0..11 {
            pace.take(1 << 20).await;
        }
        assert_eq!((now() - start).as_secs(), 10);
    }
}
