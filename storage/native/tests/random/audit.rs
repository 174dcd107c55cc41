//! What serving replicas have committed, sampled all the time: a version is one write for ever, a
//! write is one version, and both are the same on every replica.

use super::CHUNK_COUNT;
use crate::harness::memory_store::MemoryStore;
use crate::harness::{chunk, node::TestNode};
use firepond_core::ids::WriteId;
use firepond_core::sys::clock;
use firepond_storage::chain::{Backend, Replica};
use firepond_storage::store::VersionState;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(2);

/// The committed versions that were ever seen. Cloning shares them.
#[derive(Clone, Default)]
pub struct Audit(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    by_version: HashMap<(u32, u64), VersionState>,
    by_write: HashMap<(u32, WriteId), VersionState>,
    problem: Option<String>,
}

impl Audit {
    /// Watches a life of a node until it ends.
    pub fn watch(&self, node: &TestNode) {
        let (audit, replica) = (self.clone(), Arc::clone(&node.replica));
        tokio::spawn(async move {
            while audit.look(&replica) {
                clock::sleep(PERIOD).await;
            }
        });
    }

    /// Forgets what is newer than these versions.
    pub fn blackout(&self, newest: &BTreeMap<u32, u64>) {
        let mut inner = self.0.lock();
        let kept = |number: u32, version: u64| version <= newest.get(&number).map_or(0, |v| *v);
        inner.by_version.retain(|(number, version), _| kept(*number, *version));
        inner.by_write.retain(|(number, _), state| kept(*number, state.version.0));
    }

    /// The first thing that was wrong.
    pub fn problem(&self) -> Option<String> {
        self.0.lock().problem.clone()
    }

    /// Looks at all chunks; says whether the store still belongs to this life.
    fn look(&self, replica: &Replica<MemoryStore>) -> bool {
        for number in 0..CHUNK_COUNT {
            let Ok(state) = replica.backend.state(replica.target, chunk(number)) else {
                return false;
            };
            let standing = replica.standing();
            let committed = state.and_then(|state| state.committed);
            // A dropped version is one of no write.
            let committed = committed.filter(|one| one.write_id != WriteId::default());
            if let Some(committed) = committed.filter(|_| standing.check_read().is_ok()) {
                self.note(number, committed, &format!("{} {standing:?}", replica.target));
            }
        }
        true
    }

    fn note(&self, number: u32, found: VersionState, place: &str) {
        let mut inner = self.0.lock();
        let by_version = *inner.by_version.entry((number, found.version.0)).or_insert(found);
        let key = (number, found.write_id);
        let by_write = *inner.by_write.entry(key).or_insert(found);
        let comparable =
            |one: VersionState| (one.version, one.write_id, one.checksum, one.len, one.removed);
        let same = comparable(by_version) == comparable(found)
            && comparable(by_write) == comparable(found);
        if !same && inner.problem.is_none() {
            inner.problem = Some(format!(
                "chunk {number} at {place}: {found:?}\nversion was {by_version:?}\n\
                 write was {by_write:?}"
            ));
        }
    }
}
