//! Keeps a process's routing up to date and forwards its suspicions: `fs/routing_follower.py`, line
//! by line, with its constants. (That one is Python in threads; what it does is decided by what the
//! manager sends and by when it asks again, and both are here.)

use super::manager_link::ManagerLink;
use firepond_core::Result;
use firepond_core::ids::{ChainTableId, ChainTableVersion, NamespaceId, RoutingVersion};
use firepond_core::routing::{
    ChainInfo, ChainTable, NamespaceInfo, NodeInfo, Routing, RoutingHandle, Suspicion,
};
use firepond_core::sys::clock::{self, now};
use firepond_core::sys::task;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

const POLL_WAIT_MS: u64 = 2_000;
const POLL_TIMEOUT: Duration = Duration::from_millis(POLL_WAIT_MS + 1_000);
const SUSPICION_PAUSE: Duration = Duration::from_millis(50);
const SUSPICION_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_MS: [u64; 5] = [50, 100, 200, 500, 1000];

#[derive(Serialize)]
pub(super) struct Poll {
    pub(super) since: u64,
    pub(super) wait_ms: u64,
    pub(super) incarnation: u64,
}

#[derive(Serialize)]
struct Suspicions {
    suspicions: BTreeSet<(u32, u64)>,
}

#[derive(Deserialize)]
struct Accepted {}

#[derive(Deserialize)]
pub(super) struct Delta {
    version: RoutingVersion,
    full: bool,
    lease_ms: u64,
    nodes: Vec<NodeInfo>,
    chains: Vec<ChainInfo>,
    tables: Vec<ChainTable>,
    namespaces: Vec<NamespaceInfo>,
    removed: Removed,
}

#[derive(Deserialize)]
struct Removed {
    #[serde(default)]
    namespaces: Vec<NamespaceId>,
}

#[derive(Default)]
pub(super) struct Snapshot {
    pub(super) version: RoutingVersion,
    lease_ms: u64,
    nodes: BTreeMap<u32, NodeInfo>,
    chains: BTreeMap<u32, ChainInfo>,
    tables: BTreeMap<(ChainTableId, ChainTableVersion), ChainTable>,
    namespaces: BTreeMap<NamespaceId, NamespaceInfo>,
}

impl Snapshot {
    /// Takes what the manager sent; says whether anything changed.
    pub(super) fn merge(&mut self, delta: Delta) -> bool {
        let changed = delta.version != self.version;
        if delta.full {
            *self = Snapshot::default();
        }
        self.nodes.extend(delta.nodes.into_iter().map(|one| (one.id.0, one)));
        self.chains.extend(delta.chains.into_iter().map(|one| (one.id.0, one)));
        let tables = delta.tables.into_iter().map(|one| ((one.id, one.version), one));
        self.tables.extend(tables);
        self.namespaces.extend(delta.namespaces.into_iter().map(|one| (one.id, one)));
        for removed in delta.removed.namespaces {
            self.namespaces.remove(&removed);
        }
        self.version = delta.version;
        self.lease_ms = delta.lease_ms;
        changed
    }

    pub(super) fn routing(&self) -> Routing {
        let mut routing = Routing::default();
        routing.version = self.version;
        routing.lease_ms = self.lease_ms;
        routing.nodes = self.nodes.values().cloned().collect();
        routing.chains = self.chains.values().cloned().collect();
        routing.tables = self.tables.values().cloned().collect();
        routing.namespaces = self.namespaces.values().cloned().collect();
        routing.reindex();
        routing
    }
}

/// Follows for a process; `changed` is told of each publication.
pub(super) fn start(
    link: &Arc<ManagerLink>,
    incarnation: u64,
    changed: Arc<Notify>,
) -> RoutingHandle {
    let (handle, suspicions) = RoutingHandle::new();
    task::spawn(follow(Arc::clone(link), handle.clone(), incarnation, changed));
    task::spawn(forward_suspicions(Arc::clone(link), suspicions));
    handle
}

async fn follow(
    link: Arc<ManagerLink>,
    handle: RoutingHandle,
    incarnation: u64,
    changed: Arc<Notify>,
) {
    let mut snapshot = Snapshot::default();
    let mut failures = 0;
    loop {
        let poll = Poll { since: snapshot.version.0, wait_ms: POLL_WAIT_MS, incarnation };
        let delta: Result<Delta> = link.call("routing", &poll, POLL_TIMEOUT).await;
        let Ok(delta) = delta else {
            let pause = BACKOFF_MS[failures.min(BACKOFF_MS.len() - 1)];
            failures += 1;
            clock::sleep(Duration::from_millis(pause)).await;
            continue;
        };
        failures = 0;
        if snapshot.merge(delta) {
            handle.publish(snapshot.routing());
            changed.notify_one();
        }
    }
}

async fn forward_suspicions(link: Arc<ManagerLink>, mut suspicions: mpsc::Receiver<Suspicion>) {
    while let Some(first) = suspicions.recv().await {
        let mut message = Suspicions { suspicions: BTreeSet::new() };
        let mut add = |one: Suspicion| message.suspicions.insert((one.node.0, one.incarnation.0));
        add(first);
        while let Ok(more) = suspicions.try_recv() {
            add(more);
        }
        let sent: Result<Accepted> = link.call("suspicions", &message, SUSPICION_TIMEOUT).await;
        // What was not delivered is reported again by the next request that meets the peer.
        drop(sent);
        clock::sleep_until(now() + SUSPICION_PAUSE).await;
    }
}
