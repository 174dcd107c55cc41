//! The newest routing that a manager published, known at the moment at which it is published: for
//! the rule of what may be lost, and for the audit. No process of the world knows it.

use super::follower::{Delta, Poll, Snapshot};
use super::managers::ManagerPort;
use super::site::Site;
use firepond_core::routing::{ChainInfo, PublicState, Routing};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long a poll waits, and how long to wait while no manager answers.
const POLL_WAIT_MS: u64 = 30_000;
const PAUSE: Duration = Duration::from_millis(1);

/// All routings so far.
#[derive(Default)]
pub(super) struct Observer {
    seen: Mutex<Vec<Arc<Routing>>>,
    pub(super) changed: Notify,
}

impl Observer {
    /// Begins to watch the manager that leads, from inside of its process.
    pub(super) fn start(site: &Arc<Site>, port: &ManagerPort) -> Arc<Observer> {
        let observer = Arc::new(Observer::default());
        tokio::spawn(watch(Arc::clone(site), port.clone(), Arc::clone(&observer)));
        observer
    }

    /// The newest one.
    pub(super) fn current(&self) -> Arc<Routing> {
        self.seen.lock().last().cloned().unwrap_or_default()
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> Vec<Arc<Routing>> {
        self.seen.lock().clone()
    }

    fn saw(&self, site: &Site, routing: Routing) {
        let before = self.current();
        for chain in &routing.chains {
            if before.chain(chain.id).ok() != Some(chain) {
                site.trace.line(format_args!("routing {}: {}", routing.version.0, brief(chain)));
            }
        }
        for node in &routing.nodes {
            if before.node(node.id).ok() != Some(node) {
                let state = if node.alive { "lives" } else { "is away" };
                let (version, life) = (routing.version.0, node.incarnation.0);
                let name = node.data_address.as_str();
                site.trace.line(format_args!("routing {version}: {name} life {life} {state}"));
            }
        }
        self.seen.lock().push(Arc::new(routing));
        self.changed.notify_waiters();
    }
}

async fn watch(site: Arc<Site>, port: ManagerPort, observer: Arc<Observer>) {
    let mut snapshot = Snapshot::default();
    loop {
        let poll = Poll { since: snapshot.version.0, wait_ms: POLL_WAIT_MS, incarnation: 0 };
        let body = rmp_serde::to_vec_named(&poll).unwrap_or_default();
        let answer = port.request(port.newest(), "routing", body).await;
        let delta = answer.filter(|(ok, _)| *ok);
        let delta = delta.and_then(|(_, body)| rmp_serde::from_slice::<Delta>(&body).ok());
        match delta {
            Some(delta) => {
                if snapshot.merge(delta) {
                    observer.saw(&site, snapshot.routing());
                }
            }
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// A chain on a line: "chain 3 v7: 11 serving, 12 syncing".
pub(super) fn brief(chain: &ChainInfo) -> String {
    let member = |state: PublicState| match state {
        PublicState::Serving => "serving",
        PublicState::LastServing => "last-serving",
        PublicState::Syncing => "syncing",
        PublicState::Waiting => "waiting",
        PublicState::Offline => "offline",
    };
    let targets = chain.targets.iter();
    let targets: Vec<String> = targets
        .map(|one| format!("{}@{} {}", one.target.0, one.node.0, member(one.state)))
        .collect();
    format!("chain {} v{}: {}", chain.id.0, chain.version.0, targets.join(", "))
}
