//! The files that this client has open or dirty, by inode.
//!
//! Invariants: there is at most one `InodeState` per inode at a time; a state lives as long as an
//! open file or a sending task holds it. Locks: `states`, never held across an await, before
//! `local`.

use super::inode_state::InodeState;
use firepond_core::ids::InodeId;
use firepond_core::wire::meta::Attributes;
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// The shared states.
#[derive(Default)]
pub(super) struct Inodes {
    states: Mutex<HashMap<InodeId, Weak<InodeState>>>,
}

/// The map is swept when it has doubled since the last sweep, from this size.
const SWEEP_MIN_COUNT: usize = 64;

impl Inodes {
    /// The state of a file, made if there is none; learns the attributes.
    pub(super) fn open(&self, attributes: &Attributes) -> Result<Arc<InodeState>> {
        let Some(layout) = attributes.layout else {
            return Err(Error::new(ErrorKind::IsADirectory, "only files have contents")
                .with("inode", attributes.inode));
        };
        let mut states = self.states.lock();
        if let Some(state) = states.get(&attributes.inode).and_then(Weak::upgrade) {
            state.local.lock().learn(attributes);
            return Ok(state);
        }
        if states.len() >= SWEEP_MIN_COUNT && states.len() == states.capacity() {
            states.retain(|_, state| state.strong_count() > 0);
        }
        let state = Arc::new(InodeState::new(attributes.clone(), layout));
        states.insert(attributes.inode, Arc::downgrade(&state));
        Ok(state)
    }

    /// The state of a file that is open or dirty here.
    pub(super) fn get(&self, inode: InodeId) -> Option<Arc<InodeState>> {
        self.states.lock().get(&inode).and_then(Weak::upgrade)
    }

    /// All states that live.
    pub(super) fn all(&self) -> Vec<Arc<InodeState>> {
        self.states.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// What the caller sees: the service's attributes with this client's unsettled writes.
    pub(super) fn merge(&self, attributes: Attributes) -> Attributes {
        match self.get(attributes.inode) {
            None => attributes,
            Some(state) => {
                let mut local = state.local.lock();
                local.learn(&attributes);
                local.visible()
            }
        }
    }
}
