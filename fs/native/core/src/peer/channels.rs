//! Write channels: each carries one update at a time, its sequence growing by one a write.
//!
//! Why: a write id must name one update for ever, and a replica that sees a channel's next sequence
//! knows that the one before is settled.
//! Invariants: a number is lent to one update at a time; the channel of an update whose outcome is
//! not known is never lent again. Lock: `state`, held for a push or a pop.

use crate::ids::{ClientId, WriteId};
use parking_lot::Mutex;

/// All channels of one client.
pub(super) struct Channels {
    client: ClientId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Settled channels: (number, last sequence).
    free: Vec<(u32, u64)>,
    /// The next number that was never used.
    next: u32,
}

/// A channel lent to one update. Dropped unsettled, its number is retired.
pub(super) struct Channel<'a> {
    channels: &'a Channels,
    number: u32,
    sequence: u64,
}

impl Channels {
    pub(super) fn new(client: ClientId) -> Channels {
        Channels { client, state: Mutex::default() }
    }

    /// Lends a channel, positioned at a write that was never sent.
    pub(super) fn acquire(&self) -> Channel<'_> {
        let mut state = self.state.lock();
        let (number, last) = state.free.pop().unwrap_or_else(|| {
            let number = state.next;
            state.next += 1;
            (number, 0)
        });
        Channel { channels: self, number, sequence: last + 1 }
    }
}

impl Channel<'_> {
    /// The name of the write that the channel carries now.
    pub(super) fn write_id(&self) -> WriteId {
        WriteId { client: self.channels.client, channel: self.number, sequence: self.sequence }
    }

    /// Moves on to the channel's next write, although the outcome of this one is not known: only a
    /// fence may follow it.
    pub(super) fn fence_id(&mut self) -> WriteId {
        self.sequence += 1;
        self.write_id()
    }

    /// The outcome is known: the channel may carry the next write.
    pub(super) fn settle(self) {
        self.channels.state.lock().free.push((self.number, self.sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a settled channel goes on with its sequence, an unsettled one never comes back.
    /// Method: settle one, drop another. Oracle: the ids.
    #[test]
    fn unsettled_channels_retire() {
        let channels = Channels::new(ClientId(7));
        let first = channels.acquire();
        assert_eq!((first.write_id().channel, first.write_id().sequence), (0, 1));
        first.settle();
        let again = channels.acquire();
        assert_eq!((again.write_id().channel, again.write_id().sequence), (0, 2));
        assert_eq!(channels.acquire().write_id().channel, 1, "the lent one is not lent twice");
        let _lost = again;
        assert_eq!(channels.acquire().write_id().channel, 2, "dropped unsettled: retired");
    }
}
