//! What the clients did and saw, in the order in which it happened.
//!
//! Why ticks and not times: every beginning and every end has a tick of its own, so "ended before
//! the other began" is a comparison of two numbers, and no clock of the simulated machines is
//! trusted. Invariants: a deed whose outcome the client does not know is recorded as such: it may
//! have happened at any time since, may still happen, or never.

use crate::plan::{BatchItem, Change, Place};
use bytes::Bytes;
use firepond_core::ErrorKind;
use firepond_core::ids::InodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What became of an update of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged under this version.
    Version(u64),
    /// The chunk existed: it did not happen and never will. A fence may have made a version.
    Exists,
    /// The client gave up, or was refused after a try that may still be on its way.
    Unknown,
}

/// What a read of a chunk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There was no such chunk.
    Nothing,
    /// This version, these bytes from the offset of the read on, and the length of the chunk.
    Chunk {
        /// The version.
        version: u64,
        /// The bytes.
        bytes: Bytes,
        /// The length of the whole chunk.
        chunk_len: u32,
    },
    /// The read failed, which says nothing about the chunk.
    Failed(ErrorKind),
}

/// What happened to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileDeed {
    /// Pieces (offset, length) were written; `settled` when fsync or close said so.
    Write {
        /// The pieces.
        pieces: Vec<(u32, u32)>,
        /// Whether it was acknowledged.
        settled: bool,
    },
    /// All bytes that were read.
    Read {
        /// The bytes.
        bytes: Bytes,
    },
    /// The length was set.
    Truncate {
        /// The length.
        len: u32,
        /// Whether it was acknowledged.
        settled: bool,
    },
}

/// What a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// An update of a chunk.
    Update {
        /// Which.
        place: Place,
        /// What.
        change: Change,
        /// What became of it.
        outcome: Outcome,
    },
    /// A read of a part of a chunk.
    Read {
        /// Which.
        place: Place,
        /// First byte.
        offset: u32,
        /// Bytes wanted.
        len: u32,
        /// What was found.
        seen: Seen,
    },
    /// A read of a batch that must fail alone.
    BadRead {
        /// What was asked.
        item: BatchItem,
        /// What came.
        seen: Seen,
    },
    /// A value was published: stored, or there was one; none when the outcome is not known.
    KvPut {
        /// The key.
        key: u32,
        /// The length of the value.
        len: u32,
        /// Whether ours was stored.
        stored: Option<bool>,
    },
    /// A value was read; none is a miss.
    KvGet {
        /// The key.
        key: u32,
        /// The value.
        bytes: Option<Bytes>,
    },
    /// A value was removed.
    KvDelete {
        /// The key.
        key: u32,
        /// Whether it was acknowledged.
        done: bool,
    },
    /// Something was done with an open file.
    File {
        /// Which file it turned out to be.
        inode: InodeId,
        /// What.
        deed: FileDeed,
    },
    /// A name was changed, or an operation failed before it had a file.
    Names(String),
}

/// A deed from its beginning to its end, in ticks of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The entry of the plan; also the marker of what it wrote.
    pub entry: u32,
    /// Who.
    pub client: u32,
    /// When it began.
    pub begun: u64,
    /// When the client knew of its end.
    pub ended: u64,
    /// What.
    pub deed: Deed,
}

/// All complete replicas of a chain were dead at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blackout {
    /// The slot of the file table that names the chain.
    pub slot: u32,
    /// When.
    pub tick: u64,
}

/// All deeds. Cloning shares them.
#[derive(Clone)]
pub struct History(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    trace: Box<dyn Fn(String) + Send + Sync>,
}

#[derive(Default)]
struct Inner {
    tick: u64,
    records: Vec<Record>,
    /// What began and has not ended, by its first tick, as it counts if it never ends.
    open: BTreeMap<u64, Option<Record>>,
    blackouts: Vec<Blackout>,
}

/// A deed that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    entry: u32,
    client: u32,
    tick: u64,
}

impl History {
    /// An empty history, which tells every beginning and every end to `trace`.
    pub fn new(trace: impl Fn(String) + Send + Sync + 'static) -> History {
        History(Arc::new(Shared { inner: Mutex::default(), trace: Box::new(trace) }))
    }

    /// A deed begins; `unknown` is what it counts as if it never ends.
    pub fn begin(
        &self,
        entry: u32,
        client: u32,
        what: &dyn std::fmt::Display,
        unknown: Option<Deed>,
    ) -> Begun {
        (self.0.trace)(format!("client-{client} begins [{entry}] {what}"));
        let mut inner = self.0.inner.lock();
        inner.tick += 1;
        let tick = inner.tick;
        let ended = u64::MAX;
        let record = unknown.map(|deed| Record { entry, client, begun: tick, ended, deed });
        inner.open.insert(tick, record);
        Begun { entry, client, tick }
    }

    /// Part of what began is known; there may be more parts.
    pub fn part(&self, begun: Begun, deed: Deed) {
        let Begun { entry, client, tick } = begun;
        (self.0.trace)(format!("client-{client} knows [{entry}] {deed:?}"));
        let mut inner = self.0.inner.lock();
        inner.tick += 1;
        let ended = inner.tick;
        inner.records.push(Record { entry, client, begun: tick, ended, deed });
    }

    /// The last part of what began is known.
    pub fn end(&self, begun: Begun, deed: Deed) {
        self.part(begun, deed);
        self.0.inner.lock().open.remove(&begun.tick);
    }

    /// Every complete replica of a chain is dead now. What was not acknowledged may be lost
    /// although somebody saw it, as the tail shows an update while those above it still store it.
    pub fn blackout(&self, slot: u32) {
        let mut inner = self.0.inner.lock();
        inner.tick += 1;
        let tick = inner.tick;
        inner.blackouts.push(Blackout { slot, tick });
    }

    /// Deeds that began and have not ended.
    pub fn open_count(&self) -> usize {
        self.0.inner.lock().open.len()
    }

    /// All records in the order of their ends, those that never ended last, and the blackouts.
    pub fn take(&self) -> (Vec<Record>, Vec<Blackout>) {
        let inner = self.0.inner.lock();
        let open = inner.open.values().flatten().cloned();
        (inner.records.iter().cloned().chain(open).collect(), inner.blackouts.clone())
    }
}
