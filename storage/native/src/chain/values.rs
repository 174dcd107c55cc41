//! Values of the KV tier on one target by last use: what eviction chooses from.
//!
//! Why in memory: the order of use is worth a write to nobody; after a restart the time of the last
//! update stands for it.
//! Invariants: bounded by `VALUES_MAX_COUNT` entries (what is beyond is not evicted by use, but is
//! found again at the next start); bytes per namespace are the sum of the entries. Lock: one.

use firepond_core::ids::{ChunkId, NamespaceId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};

/// Most values that are remembered.
const VALUES_MAX_COUNT: usize = 4 << 20;

#[derive(Clone, Copy, Debug)]
struct Value {
    len: u32,
    used_at: u64,
}

#[derive(Debug, Default)]
struct Space {
    bytes: u64,
    values: HashMap<ChunkId, Value>,
}

/// The values of one target.
#[derive(Debug, Default)]
pub struct ValueIndex(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Counts uses: a later use has a higher number.
    clock: u64,
    count: usize,
    spaces: BTreeMap<NamespaceId, Space>,
}

impl ValueIndex {
    /// A chunk was committed with this length, or removed. Chunks of files are passed over.
    pub fn committed(&self, chunk: ChunkId, len: Option<u32>) {
        let Some(namespace) = chunk.namespace() else { return };
        let mut inner = self.0.lock();
        inner.clock += 1;
        let (used_at, room) = (inner.clock, inner.count < VALUES_MAX_COUNT);
        let space = inner.spaces.entry(namespace).or_default();
        let before = space.values.remove(&chunk);
        space.bytes -= before.map_or(0, |value| u64::from(value.len));
        let mut added = 0;
        if let Some(len) = len.filter(|_| room || before.is_some()) {
            space.values.insert(chunk, Value { len, used_at });
            space.bytes += u64::from(len);
            added = 1;
        }
        inner.count = inner.count + added - usize::from(before.is_some());
    }

    /// A value was read.
    pub fn touch(&self, chunk: ChunkId) {
        let Some(namespace) = chunk.namespace() else { return };
        let mut inner = self.0.lock();
        inner.clock += 1;
        let used_at = inner.clock;
        let space = inner.spaces.get_mut(&namespace);
        if let Some(value) = space.and_then(|space| space.values.get_mut(&chunk)) {
            value.used_at = used_at;
        }
    }

    /// Loads what a store has, oldest first: (chunk, length).
    pub fn load(&self, values: impl IntoIterator<Item = (ChunkId, u32)>) {
        values.into_iter().for_each(|(chunk, len)| self.committed(chunk, Some(len)));
    }

    /// Bytes of the values of a namespace.
    pub fn bytes(&self, namespace: NamespaceId) -> u64 {
        self.0.lock().spaces.get(&namespace).map_or(0, |space| space.bytes)
    }

    /// Namespaces that have values here.
    pub fn namespaces(&self) -> Vec<NamespaceId> {
        self.0.lock().spaces.keys().copied().collect()
    }

    /// The values of a namespace that were not used for longest, of `bytes` in all, oldest first.
    pub fn oldest(&self, namespace: NamespaceId, bytes: u64) -> Vec<ChunkId> {
        let inner = self.0.lock();
        let Some(space) = inner.spaces.get(&namespace) else { return Vec::new() };
        let mut values: Vec<(u64, ChunkId, u32)> =
            space.values.iter().map(|(chunk, value)| (value.used_at, *chunk, value.len)).collect();
        drop(inner);
        values.sort_unstable();
        let mut sum = 0;
        let enough = |(_, chunk, len): (u64, ChunkId, u32)| {
            let wanted = (sum < bytes).then_some(chunk);
            sum += u64::from(len);
            wanted
        };
        values.into_iter().map_while(enough).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> ChunkId {
        ChunkId::kv(NamespaceId(3), &[number; 32])
    }

    /// Goal: the least recently used go first, exactly as many as needed. Oracle: the order of use.
    #[test]
    fn oldest_first() {
        let index = ValueIndex::default();
        index.load((0..4).map(|number| (key(number), 100)));
        index.touch(key(0));
        assert_eq!(index.oldest(NamespaceId(3), 150), [key(1), key(2)]);
        index.committed(key(1), None);
        assert_eq!(index.bytes(NamespaceId(3)), 300);
        assert_eq!(index.oldest(NamespaceId(3), 1000), [key(2), key(3), key(0)]);
        assert_eq!(index.oldest(NamespaceId(9), 1000), []);
    }
}
