//! One lock per inode, for work on its chunks.
//!
//! Why: cutting chunks is not part of a transaction. Two that cut the same file could go on after
//! one of them has said that the cut is done, and remove what was written since.
//! Lock order: at most one inode lock at a time, taken before any transaction begins.

use firepond_core::ids::InodeId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::OwnedMutexGuard;

/// The locks that somebody holds or waits for.
#[derive(Default)]
pub(crate) struct InodeLocks {
    held: Mutex<HashMap<InodeId, Weak<tokio::sync::Mutex<()>>>>,
}

impl InodeLocks {
    /// Waits until nobody else holds the inode.
    pub(crate) async fn lock(&self, inode: InodeId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut held = self.held.lock();
            if held.len() > 1024 {
                held.retain(|_, lock| lock.strong_count() > 0);
            }
            let known = held.get(&inode).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let fresh = Arc::new(tokio::sync::Mutex::new(()));
                held.insert(inode, Arc::downgrade(&fresh));
                fresh
            })
        };
        lock.lock_owned().await
    }
}
