//! The embedded engine: one directory on one machine, no server to run.
//!
//! Why this way: the log-structured tree of `fjall` keeps pairs and snapshots; serialisability
//! comes from our resolver, because one commit thread then gives group commit: all transactions
//! that wait share one journal write and one fsync.
//! Invariants: a transaction begins at the published state, which is replaced only after its batch
//! was fsynced, so nobody reads what is not durable; whoever was told "committed" finds it in the
//! next `begin`; versions go on after a restart, as each batch carries its last one; one process at
//! a time (directory lock). After a failed write the store refuses all commits until it is opened
//! again. Reads run on the caller's thread: memory answers most, a miss is one positional read.
//! Directory: `lock`, `db` (complete), `db.new` (being created; thrown away at the next opening).
//! Memory: block cache 32 MiB, tree buffers 16 MiB each, conflict window 32 MiB.

mod commit;
mod open;

use crate::kv::conflict::Resolver;
use crate::kv::overlay::{Snapshot, Visitor};
use crate::kv::transaction::{CommitIntent, Engine, Transaction};
use crate::kv::{CommitOutcome, KvStore};
use crate::sys::directory::DirectoryLock;
use crate::sys::task::spawn_thread;
use crate::{Error, ErrorKind, Result};
use arc_swap::ArcSwap;
use bytes::Bytes;
use commit::{CommitJob, Committer};
use fjall::{Keyspace, Readable};
use parking_lot::Mutex;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Bytes of recent writes that the resolver remembers.
const CONFLICT_WINDOW_BYTES: usize = 32 << 20;
/// Commits that wait for the commit thread; more wait before they enter.
const QUEUE_MAX_COUNT: usize = 1024;

/// A store in a directory. Cloning is cheap; clones and transactions share it, and the last one
/// that goes closes it.
#[derive(Clone)]
pub struct EmbeddedStore(Arc<Inner>);

struct Inner {
    published: Arc<ArcSwap<Published>>,
    /// Taken when the store closes; that ends the commit thread.
    jobs: Mutex<Option<mpsc::Sender<CommitJob>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Dropped last, so that the next opener finds everything closed.
    _lock: DirectoryLock,
}

/// The newest durable state.
struct Published {
    version: u64,
    snapshot: fjall::Snapshot,
    pairs: Keyspace,
}

impl EmbeddedStore {
    /// Opens the store of a directory; makes it when it is absent. Blocks.
    ///
    /// # Errors
    /// `StoreLocked` when another process has it open, `IoFailed`, `DiskFull`, `StoreCorrupt`.
    pub fn open(directory: &Path) -> Result<EmbeddedStore> {
        let lock = DirectoryLock::take(directory)?;
        let tree = open::open(directory)?;
        let version = tree.version;
        let published =
            Published { version, snapshot: tree.database.snapshot(), pairs: tree.pairs.clone() };
        let published = Arc::new(ArcSwap::from_pointee(published));
        let (jobs, queue) = mpsc::channel(QUEUE_MAX_COUNT);
        let committer = Committer {
            directory: directory.to_owned(),
            tree,
            resolver: Resolver::new(version, CONFLICT_WINDOW_BYTES),
            published: Arc::clone(&published),
            queue,
            failure: None,
        };
        let thread = spawn_thread("kv-commit", move || committer.run())
            .map_err(|error| Error::io(&error, "start the commit thread"))?;
        Ok(EmbeddedStore(Arc::new(Inner {
            published,
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
            _lock: lock,
        })))
    }

    /// Refuses further commits and waits until those that were accepted are answered.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Inner {
    fn close(&self) {
        drop(self.jobs.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the commit thread of the store ended with a panic");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl KvStore for EmbeddedStore {
    type Transaction = Transaction<EmbeddedStore>;

    fn begin(&self) -> Transaction<EmbeddedStore> {
        Transaction::new(self.clone(), EmbeddedSnapshot(self.0.published.load_full()))
    }
}

impl Engine for EmbeddedStore {
    type Snapshot = EmbeddedSnapshot;

    async fn commit(&self, intent: CommitIntent) -> Result<CommitOutcome> {
        let closed = || Error::new(ErrorKind::Closed, "the store is closed");
        let jobs = self.0.jobs.lock().clone().ok_or_else(closed)?;
        let (answer, outcome) = oneshot::channel();
        jobs.send(CommitJob { intent, answer }).await.map_err(|_| closed())?;
        drop(jobs);
        outcome.await.map_err(|_| closed())?
    }
}

/// One durable state of the store.
pub struct EmbeddedSnapshot(Arc<Published>);

impl Snapshot for EmbeddedSnapshot {
    fn version(&self) -> u64 {
        self.0.version
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let found = self.0.snapshot.get(&self.0.pairs, key);
        Ok(found.map_err(|error| from_fjall(&error, "read a key"))?.map(to_bytes))
    }

    fn scan(&self, keys: Range<&[u8]>, reverse: bool, visit: &mut Visitor<'_>) -> Result<()> {
        let mut pairs = self.0.snapshot.range::<&[u8], _>(&self.0.pairs, keys);
        while let Some(pair) = if reverse { pairs.next_back() } else { pairs.next() } {
            let pair = pair.into_inner().map_err(|error| from_fjall(&error, "read a range"))?;
            if visit(to_bytes(pair.0), to_bytes(pair.1)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn to_bytes(slice: fjall::Slice) -> Bytes {
    Bytes::copy_from_slice(&slice)
}

/// What the tree reports, in our terms.
fn from_fjall(error: &fjall::Error, attempted: &str) -> Error {
    match error {
        fjall::Error::Io(error) => Error::io(error, attempted),
        fjall::Error::Storage(fjall::LsmError::Io(error)) => Error::io(error, attempted),
        fjall::Error::Locked => Error::new(ErrorKind::StoreLocked, attempted),
        fjall::Error::Poisoned => {
            Error::new(ErrorKind::IoFailed, format!("{attempted}: an earlier write failed"))
        }
        other => Error::new(ErrorKind::StoreCorrupt, format!("{attempted}: {other}")),
    }
}
