//! What the clients did and saw, in the order in which it happened.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A change of a chunk.
#[derive(Clone, Debug)]
pub enum Change {
    Write { offset: u32, bytes: Bytes },
    Replace { bytes: Bytes },
    Create { bytes: Bytes },
    Truncate { len: u32 },
    Remove,
}

/// What a client did.
#[derive(Clone, Debug)]
pub enum Deed {
    /// With the version that the chain answered; none: the outcome is not known.
    Update { change: Change, version: Option<u64> },
    /// With what was seen; none: the chunk did not exist.
    Read { seen: Option<(u64, Bytes)> },
}

/// A deed from its beginning to its end, in ticks of the history.
#[derive(Clone, Debug)]
pub struct Record {
    pub chunk: u32,
    pub begun: u64,
    pub ended: u64,
    pub deed: Deed,
    pub note: String,
}

/// All deeds. Cloning shares them.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    tick: u64,
    records: Vec<Record>,
}

impl History {
    /// The next tick: nothing else happens at it.
    pub fn tick(&self) -> u64 {
        let mut inner = self.0.lock();
        inner.tick += 1;
        inner.tick
    }

    /// A deed that began at `begun` ends now.
    pub fn ended(&self, chunk: u32, begun: u64, deed: Deed, note: String) {
        let ended = self.tick();
        self.0.lock().records.push(Record { chunk, begun, ended, deed, note });
    }

    /// All complete replicas died at once: what was not acknowledged yet may be lost although
    /// somebody saw it, as the tail shows an update while those above it still store it. Forgets
    /// such reads; returns the newest version of each chunk that was acknowledged.
    pub fn blackout(&self) -> BTreeMap<u32, u64> {
        let mut inner = self.0.lock();
        let mut newest = BTreeMap::new();
        for record in &inner.records {
            let version = newest.entry(record.chunk).or_insert(0);
            if let Deed::Update { version: Some(acknowledged), .. } = &record.deed {
                *version = acknowledged.max(version).to_owned();
            }
        }
        inner.records.retain(|record| match &record.deed {
            Deed::Read { seen: Some((version, _)) } => *version <= newest[&record.chunk],
            _ => true,
        });
        newest
    }

    /// The deeds on a chunk, in the order of their beginnings.
    pub fn of(&self, chunk: u32) -> Vec<Record> {
        let mut records = self.0.lock().records.clone();
        records.retain(|record| record.chunk == chunk);
        records.sort_by_key(|record| record.begun);
        records
    }

    /// How many deeds ended, and how many of them with a known outcome.
    pub fn counts(&self) -> (usize, usize) {
        let inner = self.0.lock();
        let unknown = |record: &&Record| matches!(record.deed, Deed::Update { version: None, .. });
        let unknown_count = inner.records.iter().filter(unknown).count();
        (inner.records.len(), inner.records.len() - unknown_count)
    }
}
