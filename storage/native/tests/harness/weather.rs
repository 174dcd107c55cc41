//! What the network does to messages: one state for all connections of a cluster.

use firepond_core::transport::{PeerAddress, Reply, Request};
use firepond_core::wire::storage::{ForwardRequest, ResyncPageReply};
use firepond_core::wire::{MessageKind, decode};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The weather of one network; clear at first. Cloning shares it.
#[derive(Clone, Default)]
pub struct Weather(Arc<Mutex<State>>, Arc<Mutex<Traffic>>);

/// What went to the nodes, for tests of how much a resync moves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Whole chunks that were sent to be taken instead of whatever is there.
    pub whole_count: u64,
    /// Bytes of them.
    pub whole_bytes: u64,
    /// Chunks of which a resync asked what is known.
    pub entry_count: u64,
}

#[derive(Default)]
struct State {
    cut: BTreeSet<String>,
    resync_bytes_per_second: Option<u64>,
}

impl Weather {
    /// What went to the nodes since it was taken last.
    pub fn take_traffic(&self) -> Traffic {
        std::mem::take(&mut *self.1.lock())
    }

    /// A call was answered.
    pub fn note(&self, request: &Request, reply: &Reply) {
        let mut traffic = self.1.lock();
        match request.kind {
            MessageKind::Forward => {
                let forward = decode::<ForwardRequest>(&request.body).expect("our own message");
                if forward.full_chunk {
                    traffic.whole_count += 1;
                    traffic.whole_bytes += request.payload.len() as u64;
                }
            }
            MessageKind::ResyncPage => {
                let page = decode::<ResyncPageReply>(&reply.body).expect("our own message");
                traffic.entry_count += page.entries.len() as u64;
            }
            _ => {}
        }
    }

    /// The rate of resyncs of nodes that start from now on.
    pub fn set_resync_bytes_per_second(&self, rate: u64) {
        self.0.lock().resync_bytes_per_second = Some(rate);
    }

    pub fn resync_bytes_per_second(&self) -> u64 {
        self.0.lock().resync_bytes_per_second.unwrap_or(1 << 30)
    }

    /// Cuts a host off from all others.
    pub fn cut(&self, name: &str) {
        self.0.lock().cut.insert(name.to_owned());
    }

    /// Nobody is cut off, nothing is lost.
    pub fn clear(&self) {
        *self.0.lock() = State::default();
    }

    /// Whether two hosts cannot talk.
    pub fn is_cut(&self, from: &str, to: &PeerAddress) -> bool {
        let state = self.0.lock();
        let host = to.0.split(':').next().unwrap_or_default();
        state.cut.contains(from) || state.cut.contains(host)
    }
}
