//! What becomes of a message, by the seed and the faults that rage.
//!
//! Model: connections are TCP, so within one nothing is reordered or comes twice; but every message
//! may take its time, requests run side by side, and a connection may break with messages on their
//! way: then the sender does not know whether its message arrived, and a message that it has given
//! up may still arrive later, beside its own repetition. A cut eats everything one way.
//! Invariants: the same seed and the same questions give the same answers; a process always
//! reaches itself.

use crate::plan::{Dice, Process};
use parking_lot::Mutex;
use std::time::Duration;

/// The weather of one world.
pub(super) struct Weather(Mutex<State>);

struct State {
    dice: Dice,
    cuts: Vec<(u64, Cut)>,
    storms: Vec<(u64, Storm)>,
    count: u64,
}

/// Who does not hear whom.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    /// One way.
    Between(Process, Process),
    /// Both ways, from everyone.
    Around(Process),
}

/// Late, lost and repeated messages.
#[derive(Clone, Copy)]
pub(super) struct Storm {
    pub(super) delay_max: Duration,
    pub(super) lost_per_mille: u32,
    pub(super) repeated_per_mille: u32,
}

/// What becomes of one message on one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives after a while.
    Arrives(Duration),
    /// It arrives, but the sender thinks that it did not, and it comes so much later.
    Strays(Duration),
    /// The connection breaks; the sender learns that after a while.
    Breaks(Duration),
    /// Nothing arrives, and nobody says so.
    Vanishes,
}

impl Weather {
    pub(super) fn new(seed: u64) -> Weather {
        let dice = Dice::new(seed ^ 0x6e65_7477_6f72_6b21);
        Weather(Mutex::new(State { dice, cuts: Vec::new(), storms: Vec::new(), count: 0 }))
    }

    /// A cut begins; the number ends it.
    pub(super) fn cut(&self, cut: Cut) -> u64 {
        let mut state = self.0.lock();
        state.count += 1;
        let number = state.count;
        state.cuts.push((number, cut));
        number
    }

    /// A storm begins; the number ends it.
    pub(super) fn storm(&self, storm: Storm) -> u64 {
        let mut state = self.0.lock();
        state.count += 1;
        let number = state.count;
        state.storms.push((number, storm));
        number
    }

    /// What began under this number is over.
    pub(super) fn end(&self, number: u64) {
        let mut state = self.0.lock();
        state.cuts.retain(|(one, _)| *one != number);
        state.storms.retain(|(one, _)| *one != number);
    }

    /// Everything is over.
    pub(super) fn clear(&self) {
        let mut state = self.0.lock();
        state.cuts.clear();
        state.storms.clear();
    }

    /// Whether messages from one to the other vanish.
    pub(super) fn is_cut(&self, from: Process, to: Process) -> bool {
        let state = self.0.lock();
        state.is_cut(from, to)
    }

    /// What becomes of a message; `may_stray`: it may arrive when nobody waits for its answer.
    pub(super) fn fate(&self, from: Process, to: Process, may_stray: bool) -> Fate {
        let mut state = self.0.lock();
        if state.is_cut(from, to) {
            return Fate::Vanishes;
        }
        // A timer of the runtime is a millisecond; most messages arrive within one.
        let mut delay = Duration::from_millis(state.dice.pick(&[0, 0, 0, 0, 0, 1, 1, 2]));
        for at in 0..state.storms.len() {
            let storm = state.storms[at].1;
            delay +=
                Duration::from_millis(state.dice.range(0..storm.delay_max.as_millis() as u64 + 1));
            if state.dice.range(0..1000) < u64::from(storm.lost_per_mille) {
                return Fate::Breaks(delay);
            }
            if may_stray && state.dice.range(0..1000) < u64::from(storm.repeated_per_mille) {
                let late = state.dice.pick(&[5, 50, 500, 3_000]);
                return Fate::Strays(delay + Duration::from_millis(state.dice.range(0..late)));
            }
        }
        Fate::Arrives(delay)
    }

    /// How long it takes to notice that a peer is silent: a connection attempt, or a connection.
    pub(super) fn silence(&self) -> Duration {
        Duration::from_millis(self.0.lock().dice.pick(&[1000, 3000]))
    }
}

impl State {
    fn is_cut(&self, from: Process, to: Process) -> bool {
        let matches = |cut: &Cut| match *cut {
            Cut::Between(one, other) => from == one && to == other,
            Cut::Around(one) => (from == one) != (to == one),
        };
        from != to && self.cuts.iter().any(|(_, cut)| matches(cut))
    }
}
