//! What all targets of one storage process share: identity, peers, lease, counters.

use super::lease::Lease;
use firepond_core::ids::{ClientId, Incarnation, NodeId, WriteId};
use firepond_core::peer::Peers;
use firepond_core::sys::clock::now;
use firepond_core::sys::random;
use parking_lot::{Mutex, RwLock};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One storage process.
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Whom it talks to.
    pub peers: Peers,
    lease: RwLock<Lease>,
    /// Names the updates that the node makes itself (eviction).
    own_client: ClientId,
    own_channel: Mutex<u32>,
    /// Chunks that were mended from another replica.
    pub repaired_count: AtomicU64,
    /// Values that were evicted.
    pub evicted_count: AtomicU64,
    /// Whom to tell that a target took itself out of its chain.
    listener: OnceLock<TakeOutListener>,
}

/// Called from any thread; it must not block.
pub type TakeOutListener = Box<dyn Fn() + Send + Sync>;

impl Node {
    /// A node without a lease.
    pub fn new(id: NodeId, incarnation: Incarnation, peers: Peers) -> Node {
        Node {
            id,
            incarnation,
            peers,
            lease: RwLock::default(),
            own_client: ClientId(random::u64()),
            own_channel: Mutex::new(0),
            repaired_count: AtomicU64::new(0),
            evicted_count: AtomicU64::new(0),
            listener: OnceLock::new(),
        }
    }

    /// Has `listener` called whenever a target took itself out; there is one listener.
    pub fn set_listener(&self, listener: TakeOutListener) {
        self.listener.set(listener).ok();
    }

    /// A target took itself out: the manager should hear of it at once.
    pub fn announce(&self) {
        if let Some(listener) = self.listener.get() {
            listener();
        }
    }

    /// Whether the node may serve now.
    pub fn holds_lease(&self) -> bool {
        self.lease.read().holds(now())
    }

    /// A heartbeat is being sent.
    pub fn heartbeat_begin(&self) -> u64 {
        self.lease.write().heartbeat_begin(now())
    }

    /// The heartbeat was answered.
    pub fn heartbeat_end(&self, token: u64, lease: Duration) {
        self.lease.write().heartbeat_end(token, lease);
    }

    /// The manager does not know us.
    pub fn lease_lost(&self) {
        self.lease.write().lost();
    }

    /// A write id that no one else uses: a channel of its own for each.
    pub fn own_write_id(&self) -> WriteId {
        let mut channel = self.own_channel.lock();
        *channel = channel.wrapping_add(1);
        WriteId { client: self.own_client, channel: *channel, sequence: 1 }
    }

    /// Counts a mended chunk.
    pub fn count_repaired(&self) {
        self.repaired_count.fetch_add(1, Ordering::Relaxed);
    }
}
