//! Requests to the metadata service, from any living server of it.
//!
//! Why retries are safe: a request keeps its id over all tries, and the service answers a repeated
//! id with what the first try did. Invariants: no call outlives its deadline; an error that says
//! "never again" is not retried.

use firepond_core::ids::{ClientId, NodeId};
use firepond_core::peer::Peers;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::random;
use firepond_core::transport::Request;
use firepond_core::wire::meta::{Credentials, MetaReply, MetaRequest, Operation};
use firepond_core::wire::{self, MessageKind};
use firepond_core::{Error, ErrorKind, Result, Retry};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The pause before the second try; it doubles up to `PAUSE_MAX`.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Sends metadata requests of one client.
pub(super) struct MetaCaller {
    peers: Peers,
    client: ClientId,
    next_request: AtomicU64,
    /// The server that answered last; staying with one keeps its caches warm.
    preferred: AtomicU32,
    try_timeout: Duration,
}

impl MetaCaller {
    pub(super) fn new(peers: Peers, client: ClientId, try_timeout_ms: u64) -> MetaCaller {
        MetaCaller {
            peers,
            client,
            // A random start: a client id that is used again does not meet its old requests.
            next_request: AtomicU64::new(random::u64() >> 1),
            preferred: AtomicU32::new(u32::MAX),
            try_timeout: Duration::from_millis(try_timeout_ms),
        }
    }

    /// One operation, tried until it has an answer.
    ///
    /// # Errors
    /// What the service answered, or `DeadlineExceeded` with the last error in its message.
    pub(super) async fn call(
        &self,
        who: &Credentials,
        operation: Operation,
        deadline: Instant,
    ) -> Result<MetaReply> {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let credentials = who.clone();
        let body =
            wire::encode(&MetaRequest { client: self.client, request, credentials, operation });
        let mut pause = PAUSE_MIN;
        loop {
            let try_deadline = deadline.min(clock::now() + self.try_timeout);
            let error = match self.try_once(body.clone(), try_deadline).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if !may_retry(&error) {
                return Err(error);
            }
            tracing::debug!(%error, request, "metadata request is tried again");
            if clock::now() + pause >= deadline {
                return Err(Error::new(ErrorKind::DeadlineExceeded, "no metadata answer in time")
                    .with("last_error", error));
            }
            clock::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_once(&self, body: bytes::Bytes, deadline: Instant) -> Result<MetaReply> {
        let node = self.choose(deadline).await?;
        let request = Request::new(MessageKind::Meta, body, deadline);
        match self.peers.call_node(node, request).await {
            Ok(reply) => {
                self.preferred.store(node.0, Ordering::Relaxed);
                wire::decode(&reply.body)
            }
            Err(error) => {
                if may_retry(&error) && error.kind() != ErrorKind::SessionUnknown {
                    self.turn_away_from(node);
                }
                Err(error)
            }
        }
    }

    /// The server that answered last, or any living one; waits while there is none.
    async fn choose(&self, deadline: Instant) -> Result<NodeId> {
        loop {
            let routing = self.peers.routing().current();
            let nodes: Vec<NodeId> = routing.meta_nodes().map(|node| node.id).collect();
            let preferred = NodeId(self.preferred.load(Ordering::Relaxed));
            if nodes.contains(&preferred) {
                return Ok(preferred);
            }
            if !nodes.is_empty() {
                return Ok(nodes[random::below(nodes.len() as u64) as usize]);
            }
            let newer = self.peers.routing().wait_newer(routing.version, deadline).await;
            newer.map_err(|_| {
                Error::new(ErrorKind::ClusterNotReady, "no metadata server is alive")
                    .with("routing", routing.version)
            })?;
        }
    }

    fn turn_away_from(&self, node: NodeId) {
        let routing = self.peers.routing().current();
        let others: Vec<NodeId> =
            routing.meta_nodes().map(|other| other.id).filter(|other| *other != node).collect();
        if !others.is_empty() {
            let next = others[random::below(others.len() as u64) as usize];
            self.preferred.store(next.0, Ordering::Relaxed);
        }
    }
}

/// A try that ran out of its own time may be repeated: the request keeps its id.
fn may_retry(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::DeadlineExceeded => true,
        // The sessions put themselves right and repeat the operation.
        ErrorKind::SessionUnknown => false,
        _ => error.retry() != Retry::Never,
    }
}
