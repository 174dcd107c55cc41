//! When and how a failed try is repeated.
//!
//! Invariants: a repeat happens only for errors whose table entry allows it, never after the
//! deadline; pauses grow from 1 ms to 100 ms with jitter, so that many clients do not beat in step.

use crate::ids::{NodeId, RoutingVersion};
use crate::routing::{Routing, RoutingHandle};
use crate::sys::clock::{Instant, now, sleep_until};
use crate::sys::random;
use crate::{Error, ErrorKind, Result, Retry};
use std::time::Duration;

const PAUSE_MIN_MS: u64 = 1;
const PAUSE_MAX_MS: u64 = 100;
/// How long an update waits for routing without its dead head before it tries that head again.
const HEAD_WAIT_MS: u64 = 50;

/// The tries of one operation.
pub(super) struct Tries {
    deadline: Instant,
    pause_ms: u64,
    /// How many tries were begun.
    pub(super) count: u32,
}

impl Tries {
    pub(super) fn new(deadline: Instant) -> Tries {
        Tries { deadline, pause_ms: PAUSE_MIN_MS, count: 0 }
    }

    /// When the operation must end.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Begins a try.
    pub(super) fn begin(&mut self) {
        self.count += 1;
    }

    /// When this try must end: soon enough to try elsewhere, later with each try.
    pub(super) fn try_deadline(&self, first_ms: u64) -> Instant {
        let limit = first_ms << self.count.saturating_sub(1).min(6);
        self.deadline.min(now() + Duration::from_millis(limit))
    }

    /// What a try that ran out of its own time means: the peer does not answer, others may.
    pub(super) fn judge(&self, error: Error) -> Error {
        let try_only = error.kind() == ErrorKind::DeadlineExceeded && now() < self.deadline;
        if !try_only {
            return error;
        }
        Error::new(ErrorKind::PeerUnreachable, "no answer within the time of one try")
    }

    /// Waits as the error asks; the error itself, when it may not be tried again.
    ///
    /// # Errors
    /// The error, or `DeadlineExceeded` that names it.
    pub(super) async fn pause(
        &mut self,
        routing: &RoutingHandle,
        seen: RoutingVersion,
        error: Error,
    ) -> Result<()> {
        let wait_ms = match error.retry() {
            Retry::Never => return Err(error),
            Retry::OtherReplica => HEAD_WAIT_MS.min(self.pause_ms * 8),
            Retry::Same | Retry::AfterRouting => self.pause_ms,
        };
        let jittered_us = wait_ms * 500 + random::below(wait_ms * 1000);
        let until = now() + Duration::from_micros(jittered_us.max(PAUSE_MIN_MS * 1000));
        if until >= self.deadline {
            return Err(out_of_time(&error));
        }
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MAX_MS);
        if error.retry() == Retry::Same {
            sleep_until(until).await;
        } else if routing.wait_newer(seen, until).await.is_ok() {
            self.pause_ms = PAUSE_MIN_MS;
        }
        Ok(())
    }
}

/// The deadline passed while an operation was being repeated.
pub(super) fn out_of_time(last: &Error) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "no success before the deadline").with("last", last)
}

/// Runs a call, but gives it up as soon as newer routing says that it is pointless: a node that
/// stopped without closing its sockets would hold the caller until the deadline.
pub(super) async fn while_useful<T>(
    routing: &RoutingHandle,
    node: NodeId,
    useful: impl Fn(&Routing) -> bool,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut changes = routing.subscribe();
    let pointless = async {
        while changes.changed().await.is_ok() {
            let current = routing.current();
            let alive = current.node(node).is_ok_and(|info| info.alive);
            if !alive || !useful(&current) {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        result = call => result,
        () = pointless => Err(Error::new(ErrorKind::PeerUnreachable, "routing moved on")
            .with("node", node)),
    }
}
