//! Registers a role with the manager and keeps its lease: `fs/service/agent.py`, line by line, with
//! its constants and its order of steps. (That one is Python in a thread. What matters of it is
//! what it sends, when, and what it does with the answers; a change there belongs here, too.)

use super::manager_link::ManagerLink;
use firepond_core::routing::RoutingHandle;
use firepond_core::sys::clock::{self, now};
use firepond_core::sys::task;
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const EARLY_BEAT_DELAY: Duration = Duration::from_millis(30);
const ROUTING_POLL: Duration = Duration::from_millis(5);
const ASSIGN_PAUSE: Duration = Duration::from_secs(1);

/// A target, its chain, its disk.
pub(super) type Assignment = (u64, u32, PathBuf);

/// What an agent needs of a role; see `fs/service/roles.py`.
pub(super) trait Role: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn data_address(&self) -> String;
    fn report(&self) -> Report;
    fn assign(&self, assignments: &[Assignment]) -> Result<()>;
    fn step_down(&self, targets: &[u64]);
    fn drop_targets(&self, targets: &[u64]) -> Result<()>;
    fn lease_begin(&self) -> u64;
    fn lease_end(&self, token: u64, lease: Duration);
    fn lease_lost(&self);
}

/// What a heartbeat says of a role.
#[derive(Default, Serialize)]
pub(super) struct Report {
    pub(super) targets: Vec<TargetReport>,
    pub(super) disks: Vec<DiskReport>,
}

/// As `target_dict` in `fs/native/py/src/storage.rs`, as far as the manager decides by it.
#[derive(Serialize)]
pub(super) struct TargetReport {
    pub(super) target: u64,
    pub(super) chain: u32,
    pub(super) chain_version: u32,
    pub(super) generation: u64,
    pub(super) served: bool,
    pub(super) local_state: &'static str,
    pub(super) complete_through: u64,
    pub(super) lost_version: u32,
    pub(super) full: bool,
}

/// As `disk_dict`.
#[derive(Serialize)]
pub(super) struct DiskReport {
    pub(super) path: PathBuf,
    pub(super) total_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) failed: Option<String>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Deserialize)]
struct NodeIdReply {
    node_id: u32,
}

#[derive(Serialize)]
struct Register {
    node_id: u32,
    incarnation: u64,
    data_address: String,
    admin_address: String,
    roles: [&'static str; 1],
    disks: Vec<DiskReport>,
}

#[derive(Deserialize)]
struct Registered {
    lease_ms: u64,
    heartbeat_ms: u64,
    routing_version: u64,
}

#[derive(Serialize)]
struct Heartbeat {
    node_id: u32,
    incarnation: u64,
    routing_version: u64,
    #[serde(flatten)]
    report: Report,
}

#[derive(Deserialize)]
struct Beaten {
    lease_ms: u64,
    assignments: Vec<Assignment>,
    step_down: Vec<u64>,
    drop: Vec<u64>,
}

/// An id that no node has or had.
pub(super) async fn allocate_node_id(link: &ManagerLink) -> u32 {
    loop {
        let reply: Result<NodeIdReply> =
            link.call("allocate_node_id", &Nothing {}, REQUEST_TIMEOUT).await;
        match reply {
            Ok(reply) => return reply.node_id,
            Err(_) => clock::sleep(RETRY_PAUSE).await,
        }
    }
}

/// One role of a process, as the manager sees it.
pub(super) struct Agent {
    pub(super) link: Arc<ManagerLink>,
    pub(super) role: Arc<dyn Role>,
    pub(super) node: u32,
    pub(super) incarnation: u64,
    pub(super) admin_address: String,
    pub(super) routing: RoutingHandle,
    /// Has a heartbeat sent soon.
    pub(super) wake: Arc<Notify>,
    pub(super) assigned: Arc<Mutex<Assigned>>,
}

/// The targets that were made, and whether some are being made.
#[derive(Default)]
pub(super) struct Assigned {
    done: Vec<Assignment>,
    is_busy: bool,
}

impl Agent {
    /// Runs until the manager will never take this node.
    pub(super) async fn run(self) -> Error {
        loop {
            match self.register().await {
                Ok(Some(heartbeat)) => self.beat_until_unknown(heartbeat).await,
                Ok(None) => {}
                Err(fatal) => return fatal,
            }
        }
    }

    /// Registers; the pause between heartbeats, or none to try again.
    async fn register(&self) -> Result<Option<Duration>> {
        let body = Register {
            node_id: self.node,
            incarnation: self.incarnation,
            data_address: self.role.data_address(),
            admin_address: self.admin_address.clone(),
            roles: [self.role.name()],
            disks: self.role.report().disks,
        };
        let token = self.role.lease_begin();
        let reply: Result<Registered> = self.link.call("register", &body, REQUEST_TIMEOUT).await;
        let reply = match reply {
            Ok(reply) => reply,
            Err(error)
                if matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::NodeUnknown) =>
            {
                return Err(error);
            }
            Err(_) => {
                clock::sleep(RETRY_PAUSE).await;
                return Ok(None);
            }
        };
        let lease = Duration::from_millis(reply.lease_ms);
        if !self.follows(reply.routing_version, lease).await {
            return Ok(None);
        }
        self.role.lease_end(token, lease);
        Ok(Some(Duration::from_millis(reply.heartbeat_ms)))
    }

    /// Waits for the routing of the registration.
    async fn follows(&self, version: u64, patience: Duration) -> bool {
        let deadline = now() + patience;
        while self.routing.current().version.0 < version {
            if now() >= deadline {
                return false;
            }
            clock::sleep(ROUTING_POLL).await;
        }
        true
    }

    async fn beat_until_unknown(&self, heartbeat: Duration) {
        loop {
            let beaten = self.beat().await;
            if let Err(error) = &beaten
                && error.kind() == ErrorKind::NodeUnknown
            {
                self.role.lease_lost();
                return;
            }
            let pause = if beaten.is_ok() { heartbeat } else { RETRY_PAUSE };
            if clock::timeout_at(now() + pause, self.wake.notified()).await.is_some() {
                // The engine needs a moment to act upon new routing.
                clock::sleep(EARLY_BEAT_DELAY).await;
            }
        }
    }

    async fn beat(&self) -> Result<()> {
        let token = self.role.lease_begin();
        let body = Heartbeat {
            node_id: self.node,
            incarnation: self.incarnation,
            routing_version: self.routing.current().version.0,
            report: self.role.report(),
        };
        let reply: Beaten = self.link.call("heartbeat", &body, REQUEST_TIMEOUT).await?;
        self.role.lease_end(token, Duration::from_millis(reply.lease_ms));
        if !reply.step_down.is_empty() {
            self.role.step_down(&reply.step_down);
            // The manager hears of it at once: writers wait for the next head.
            self.wake.notify_one();
        }
        self.assign(reply.assignments, reply.drop);
        Ok(())
    }

    /// Making targets never delays a heartbeat.
    fn assign(&self, assignments: Vec<Assignment>, dropped: Vec<u64>) {
        let mut assigned = self.assigned.lock();
        if assigned.is_busy || (assigned.done == assignments && dropped.is_empty()) {
            return;
        }
        assigned.is_busy = true;
        drop(assigned);
        let (role, assigned) = (Arc::clone(&self.role), Arc::clone(&self.assigned));
        let wake = Arc::clone(&self.wake);
        task::spawn(async move {
            let made = role.drop_targets(&dropped).and_then(|()| role.assign(&assignments));
            if made.is_err() {
                clock::sleep(ASSIGN_PAUSE).await;
            }
            let mut assigned = assigned.lock();
            assigned.is_busy = false;
            if made.is_ok() {
                assigned.done = assignments;
                wake.notify_one();
            }
        });
    }
}
