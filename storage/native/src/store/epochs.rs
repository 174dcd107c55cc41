//! Keeps the pages of an old version until the last reader that may look at them is done.
//!
//! Why epochs and not a count a page: a reader costs two short critical sections, whatever it
//! reads, and versions may share pages.
//! Invariants: a reader enters before it looks a record up; pages are retired after the record that
//! dropped them is visible and durable; they are free once all readers that entered before are
//! gone.

use super::image::Extent;
use firepond_core::sys::mistake::{Mistake, planted};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// The readers of a store and what waits for them.
#[derive(Default)]
pub(super) struct Epochs {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Number of the first epoch of `epochs`.
    first: u64,
    epochs: VecDeque<Epoch>,
}

#[derive(Default)]
struct Epoch {
    readers: usize,
    retired: Vec<Extent>,
}

/// A reader.
pub(super) struct Reader {
    core: Arc<super::core::Core>,
    epoch: u64,
}

impl Reader {
    /// Enters: what is looked up from here on stays readable until the reader is dropped.
    pub(super) fn enter(core: &Arc<super::core::Core>) -> Reader {
        Reader { core: Arc::clone(core), epoch: core.epochs.enter() }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let freed = self.core.epochs.leave(self.epoch);
        self.core.release(&freed);
    }
}

impl Epochs {
    fn enter(&self) -> u64 {
        let mut state = self.state.lock();
        if state.epochs.is_empty() {
            state.epochs.push_back(Epoch::default());
        }
        let last = state.epochs.len() - 1;
        state.epochs[last].readers += 1;
        state.first + last as u64
    }

    /// Takes pages that no new reader can find; gives those back that are free already.
    #[must_use]
    pub(super) fn retire(&self, extents: Vec<Extent>) -> Vec<Extent> {
        if planted(Mistake::PagesFreedEarly) {
            return extents;
        }
        let mut state = self.state.lock();
        match state.epochs.back_mut() {
            Some(epoch) if !extents.is_empty() => {
                epoch.retired.extend(extents);
                state.epochs.push_back(Epoch::default());
                state.collect()
            }
            _ => extents,
        }
    }

    fn leave(&self, epoch: u64) -> Vec<Extent> {
        let mut state = self.state.lock();
        let index = (epoch - state.first) as usize;
        state.epochs[index].readers -= 1;
        state.collect()
    }
}

impl State {
    fn collect(&mut self) -> Vec<Extent> {
        let mut freed = Vec::new();
        while self.epochs.front().is_some_and(|epoch| epoch.readers == 0) {
            if let Some(epoch) = self.epochs.pop_front() {
                freed.extend(epoch.retired);
                self.first += 1;
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(unit: u64) -> Vec<Extent> {
        vec![Extent { unit, count: 1 }]
    }

    /// Goal: pages wait for older readers, not for younger ones. Oracle: what comes back when.
    #[test]
    fn retired_pages_wait_for_older_readers() {
        let epochs = Epochs::default();
        assert_eq!(epochs.retire(pages(1)), pages(1));
        let old = epochs.enter();
        assert_eq!(epochs.retire(pages(2)), vec![]);
        let young = epochs.enter();
        assert_eq!(epochs.retire(pages(3)), vec![]);
        assert_eq!(epochs.leave(old), pages(2));
        assert_eq!(epochs.leave(young), pages(3));
        assert_eq!(epochs.retire(pages(4)), pages(4));
    }
}
