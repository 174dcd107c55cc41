//! What the network does to messages: one state for all connections of a cluster.

use firepond_core::sys::random;
use firepond_core::transport::PeerAddress;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How late a repeated message is at most: a chunk remembers the last writes of 16 channels, and
/// one that is older than all of them is beyond what replication promises.
const REPEAT_MAX_MS: u64 = 1000;

/// The weather of one network; clear at first. Cloning shares it.
#[derive(Clone, Default)]
pub struct Weather(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cut: BTreeSet<String>,
    delay_max_ms: u64,
    loss_percent: u64,
    repeat_percent: u64,
}

/// What becomes of one call.
pub struct Fate {
    pub cut: bool,
    pub delay: Duration,
    pub lose_request: bool,
    pub lose_reply: bool,
    pub repeat_after: Option<Duration>,
}

fn chance(percent: u64) -> bool {
    percent > 0 && random::below(100) < percent
}

impl Weather {
    /// Cuts a host off from all others.
    pub fn cut(&self, name: &str) {
        self.0.lock().cut.insert(name.to_owned());
    }

    /// Messages are late, lost, repeated.
    pub fn storm(&self, delay_max_ms: u64, loss_percent: u64, repeat_percent: u64) {
        let mut state = self.0.lock();
        state.delay_max_ms = delay_max_ms;
        state.loss_percent = loss_percent;
        state.repeat_percent = repeat_percent;
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

    /// Decides over one call.
    pub fn fate(&self, from: &str, to: &PeerAddress) -> Fate {
        let cut = self.is_cut(from, to);
        let state = self.0.lock();
        let delay_ms = if state.delay_max_ms > 0 { random::below(state.delay_max_ms) } else { 0 };
        let repeat = chance(state.repeat_percent);
        Fate {
            cut,
            delay: Duration::from_millis(delay_ms),
            lose_request: chance(state.loss_percent),
            lose_reply: chance(state.loss_percent),
            repeat_after: repeat.then(|| Duration::from_millis(random::below(REPEAT_MAX_MS))),
        }
    }
}
