//! The node's lease: how long it may serve without hearing from the manager.
//!
//! Why counted from the moment the heartbeat was *sent*: the manager counts from when it received
//! it, which is later, so the lease always ends here before it ends there.
//! Invariants: a lease never ends earlier than an answered heartbeat promised, except when the
//! manager says that it does not know us; heartbeats sent before that never bring it back.

use firepond_core::sys::clock::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// Heartbeats in flight that are remembered at most.
const BEGUN_MAX_COUNT: usize = 16;

/// The lease of one node, as a machine: time comes in, nothing goes out.
#[derive(Debug, Default)]
pub struct Lease {
    begun: BTreeMap<u64, Instant>,
    next_token: u64,
    until: Option<Instant>,
}

impl Lease {
    /// A heartbeat is being sent now; the token names it.
    pub fn heartbeat_begin(&mut self, now: Instant) -> u64 {
        self.next_token += 1;
        self.begun.insert(self.next_token, now);
        while self.begun.len() > BEGUN_MAX_COUNT {
            self.begun.pop_first();
        }
        self.next_token
    }

    /// The heartbeat was answered and lets us serve for `duration` from when it was sent.
    pub fn heartbeat_end(&mut self, token: u64, duration: Duration) {
        let Some(begun) = self.begun.remove(&token) else { return };
        let until = begun + duration;
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
    }

    /// The manager does not know us any more.
    pub fn lost(&mut self) {
        self.until = None;
        self.begun.clear();
    }

    /// When the lease ends, if there is one.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether the node may serve.
    pub fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::sys::clock;

    /// Goal: the lease counts from the sending. Method: a slow answer. Oracle: the instants.
    #[tokio::test(start_paused = true)]
    async fn counted_from_the_sending() {
        let mut lease = Lease::default();
        let sent = clock::now();
        assert!(!lease.holds(sent), "no lease before the first heartbeat");
        let token = lease.heartbeat_begin(sent);
        clock::sleep(Duration::from_millis(900)).await;
        lease.heartbeat_end(token, Duration::from_millis(1000));
        assert!(lease.holds(clock::now()));
        clock::sleep(Duration::from_millis(100)).await;
        assert!(!lease.holds(clock::now()));
    }

    /// Goal: a late answer shortens nothing, a lost lease stays lost. Oracle: `holds`.
    #[tokio::test(start_paused = true)]
    async fn old_answers_do_no_harm() {
        let mut lease = Lease::default();
        let start = clock::now();
        let first = lease.heartbeat_begin(start);
        let second = lease.heartbeat_begin(start + Duration::from_millis(500));
        lease.heartbeat_end(second, Duration::from_millis(1000));
        lease.heartbeat_end(first, Duration::from_millis(1000));
        assert_eq!(lease.until(), Some(start + Duration::from_millis(1500)));
        let third = lease.heartbeat_begin(start);
        lease.lost();
        lease.heartbeat_end(third, Duration::from_millis(1000));
        assert!(!lease.holds(start));
    }
}
