//! The open targets of a node.

use crate::chain::{Backend, Replica};
use arc_swap::ArcSwap;
use firepond_core::ids::{ChainId, TargetId};
use firepond_core::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

type Map<B> = BTreeMap<TargetId, Arc<Replica<B>>>;

/// Targets by id; readers take a snapshot.
pub struct Targets<B>(ArcSwap<Map<B>>);

impl<B: Backend> Default for Targets<B> {
    fn default() -> Targets<B> {
        Targets(ArcSwap::from_pointee(BTreeMap::new()))
    }
}

impl<B: Backend> Targets<B> {
    /// All of them, now.
    pub fn all(&self) -> Arc<Map<B>> {
        self.0.load_full()
    }

    /// Adds a target.
    pub fn insert(&self, replica: Arc<Replica<B>>) {
        self.0.rcu(|map| {
            let mut map = Map::clone(map);
            map.insert(replica.target, Arc::clone(&replica));
            map
        });
    }

    /// Removes a target: what comes for it from now on finds none.
    pub fn remove(&self, target: TargetId) {
        self.0.rcu(|map| {
            let mut map = Map::clone(map);
            map.remove(&target);
            map
        });
    }

    /// A target of a chain.
    ///
    /// # Errors
    /// `NoSuchTarget`.
    pub fn find(&self, chain: ChainId, target: TargetId) -> Result<Arc<Replica<B>>> {
        find_in(&self.0.load(), chain, target)
    }
}

/// A target of a chain in a snapshot.
///
/// # Errors
/// `NoSuchTarget`.
pub(super) fn find_in<B>(
    map: &Map<B>,
    chain: ChainId,
    target: TargetId,
) -> Result<Arc<Replica<B>>> {
    map.get(&target).filter(|replica| replica.chain == chain).cloned().ok_or_else(|| {
        Error::new(ErrorKind::NoSuchTarget, "the node has no such target")
            .with("target", target)
            .with("chain", chain)
    })
}
