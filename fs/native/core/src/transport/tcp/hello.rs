//! Credits: what a server lets a client have in flight on one connection.
//!
//! Why granted by the server: it knows its memory; a client that waits for credit holds its data in
//! its own memory instead of in the server's or in a socket.
//! Invariants: a request holds one request credit and its payload's pages until its reply came or
//! it was cancelled; a payload larger than the whole grant takes the whole grant.

use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

const PAGE_BYTES: u64 = 4096;
/// The most that a client makes of a grant, so that nonsense does not overflow.
const PAGES_MAX: u64 = 1 << 24;
const REQUESTS_MAX: u32 = 1 << 16;

/// The body of the server's first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Requests in flight.
    pub(super) request_count_max: u32,
    /// Bytes of payload of requests in flight.
    pub(super) payload_bytes_max: u64,
}

/// A client's credits on one connection; none before the hello.
pub(super) struct Credits {
    requests: Semaphore,
    pages: Semaphore,
    page_count_max: std::sync::atomic::AtomicU32,
}

/// What one request holds.
pub(super) type Credit<'a> = (SemaphorePermit<'a>, Option<SemaphorePermit<'a>>);

impl Credits {
    pub(super) fn new() -> Credits {
        Credits {
            requests: Semaphore::new(0),
            pages: Semaphore::new(0),
            page_count_max: std::sync::atomic::AtomicU32::new(1),
        }
    }

    /// The hello came.
    pub(super) fn grant(&self, hello: Hello) {
        let pages = (hello.payload_bytes_max / PAGE_BYTES).clamp(1, PAGES_MAX) as u32;
        self.page_count_max.store(pages, std::sync::atomic::Ordering::Release);
        self.pages.add_permits(pages as usize);
        let requests = hello.request_count_max.clamp(1, REQUESTS_MAX);
        self.requests.add_permits(requests as usize);
    }

    /// The connection is gone: whoever waits fails.
    pub(super) fn close(&self) {
        self.requests.close();
        self.pages.close();
    }

    /// Waits for the credit of one request.
    pub(super) async fn acquire(&self, payload_len: usize) -> Result<Credit<'_>> {
        let request = self.requests.acquire().await.map_err(|_| closed())?;
        if payload_len == 0 {
            return Ok((request, None));
        }
        let max = self.page_count_max.load(std::sync::atomic::Ordering::Acquire);
        let pages = (payload_len as u64).div_ceil(PAGE_BYTES).min(u64::from(max)) as u32;
        let pages = self.pages.acquire_many(pages).await.map_err(|_| closed())?;
        Ok((request, Some(pages)))
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::PeerUnreachable, "the connection broke before the request was sent")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no more than granted is in flight, and an oversized payload still gets its turn.
    /// Oracle: which acquisitions wait.
    #[tokio::test(start_paused = true)]
    async fn credits_bound_what_is_in_flight() {
        let credits = Credits::new();
        credits.grant(Hello { request_count_max: 2, payload_bytes_max: 8192 });
        let whole = credits.acquire(1 << 20).await.expect("clamped to the grant");
        let brief = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(brief, credits.acquire(1)).await.is_err());
        drop(whole);
        let first = credits.acquire(0).await.expect("room");
        let _second = credits.acquire(0).await.expect("room");
        assert!(tokio::time::timeout(brief, credits.acquire(0)).await.is_err());
        drop(first);
        credits.close();
        assert!(credits.acquire(0).await.is_err());
    }
}
