//! The index's twin in memory, for tests and simulations: it loses at a crash what a disk may lose.
//!
//! Invariants: a crash keeps all synced batches and a prefix of the others, chosen by the seed.

use super::index::{Change, ChunkIndex, Visit};
use firepond_core::Result;
use firepond_core::sys::disk::simulated::CrashPoint;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// An index in memory. Keep it to crash it and to open the store again.
pub struct MemoryIndex {
    crash_point: Arc<CrashPoint>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: BTreeMap<Vec<u8>, Vec<u8>>,
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    unsynced: Vec<Vec<Change>>,
}

impl MemoryIndex {
    /// An empty index that stops at the crash point.
    pub fn new(crash_point: Arc<CrashPoint>) -> MemoryIndex {
        MemoryIndex { crash_point, state: Mutex::default() }
    }

    /// The machine stops and starts again; of the unsynced batches the first `keep` survive.
    pub fn crash(&self, keep: usize) {
        let mut state = self.state.lock();
        let batches = std::mem::take(&mut state.unsynced);
        for batch in batches.into_iter().take(keep) {
            change(&mut state.durable, batch);
        }
        state.current = state.durable.clone();
    }
}

impl ChunkIndex for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.state.lock().current.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let state = self.state.lock();
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut pairs = state.current.range::<[u8], _>(range);
        loop {
            let next = if reverse { pairs.next_back() } else { pairs.next() };
            match next {
                Some((key, value)) if visit(key, value)? => {}
                _ => return Ok(()),
            }
        }
    }

    fn write(&self, changes: Vec<Change>, sync: bool) -> Result<()> {
        let ticked = self.crash_point.tick();
        let mut state = self.state.lock();
        if ticked.is_ok() {
            change(&mut state.current, changes.clone());
        }
        state.unsynced.push(changes);
        if sync && ticked.is_ok() {
            let batches = std::mem::take(&mut state.unsynced);
            batches.into_iter().for_each(|batch| change(&mut state.durable, batch));
        }
        ticked
    }
}

fn change(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: Vec<Change>) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}
