//! The commit thread: many transactions, one batch, one fsync.
//!
//! Steps of a group: take what waits; validate each transaction against everything committed before
//! it, those of this group included; write the survivors as one atomic batch; fsync; publish the
//! new state; answer all. A transaction that conflicts is answered at the end, too: by then its
//! retry reads the state that it lost to.
//! Invariant: no answer "committed" leaves before the fsync that covers it returned.

use super::open::{Tree, VERSION_KEY};
use super::{Published, from_fjall};
use crate::kv::CommitOutcome;
use crate::kv::conflict::Resolver;
use crate::kv::transaction::CommitIntent;
use crate::{Error, ErrorKind, Result};
use arc_swap::ArcSwap;
use bytes::Bytes;
use fjall::{PersistMode, Readable};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Most bytes of one group: bounds the batch in memory and the wait for one fsync.
const GROUP_MAX_BYTES: usize = 32 << 20;
/// Most transactions of one group.
const GROUP_MAX_COUNT: usize = 1024;
/// Below this much free space commits are refused, so that the journal never meets a full disk.
const DISK_RESERVE_BYTES: u64 = 128 << 20;

/// One transaction on its way.
pub(super) struct CommitJob {
    pub(super) intent: CommitIntent,
    pub(super) answer: oneshot::Sender<Result<CommitOutcome>>,
}

/// What the thread owns.
pub(super) struct Committer {
    pub(super) directory: PathBuf,
    pub(super) tree: Tree,
    pub(super) resolver: Resolver,
    pub(super) published: Arc<ArcSwap<Published>>,
    pub(super) queue: mpsc::Receiver<CommitJob>,
    /// Why nothing is committed any more.
    pub(super) failure: Option<Error>,
}

/// The merged writes of a group; `None` removes the key.
type Batch = BTreeMap<Bytes, Option<Bytes>>;

impl Committer {
    /// Serves until the store closes and the queue is empty.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let group = self.take_group(first);
            let (intents, answers): (Vec<_>, Vec<_>) =
                group.into_iter().map(|job| (job.intent, job.answer)).unzip();
            let outcomes = match self.commit_group(intents) {
                Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error); answers.len()],
            };
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Whoever has stopped waiting does not want the answer.
                let _ = answer.send(outcome);
            }
        }
    }

    fn take_group(&mut self, first: CommitJob) -> Vec<CommitJob> {
        let mut bytes = first.intent.size_bytes;
        let mut group = vec![first];
        while bytes < GROUP_MAX_BYTES && group.len() < GROUP_MAX_COUNT {
            let Ok(job) = self.queue.try_recv() else { break };
            bytes += job.intent.size_bytes;
            group.push(job);
        }
        group
    }

    fn commit_group(&mut self, intents: Vec<CommitIntent>) -> Result<Vec<CommitOutcome>> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.require_space()?;
        let outcome = self.validate_and_write(intents);
        if let Err(error) = &outcome {
            // The resolver and the journal may disagree now, and a failed fsync cannot be repeated
            // (Rebello et al., USENIX ATC 2020): only opening the store again tells what is
            // durable.
            tracing::error!(%error, directory = %self.directory.display(), "the store failed");
            let refusal =
                Error::new(error.kind(), "the store refuses commits since a write failed")
                    .with("directory", self.directory.display())
                    .with("cause", error.message());
            self.failure = Some(refusal);
        }
        outcome
    }

    fn require_space(&self) -> Result<()> {
        let found = rustix::fs::statvfs(&self.directory)
            .map_err(|error| Error::io(&error.into(), "ask for the free space"))?;
        let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
        if free_bytes >= DISK_RESERVE_BYTES {
            return Ok(());
        }
        Err(Error::new(ErrorKind::DiskFull, "the disk of the store is full")
            .with("directory", self.directory.display())
            .with("free_bytes", free_bytes)
            .with("reserve_bytes", DISK_RESERVE_BYTES))
    }

    fn validate_and_write(&mut self, intents: Vec<CommitIntent>) -> Result<Vec<CommitOutcome>> {
        let mut batch = Batch::new();
        let mut outcomes = Vec::with_capacity(intents.len());
        let mut version = self.tree.version;
        for intent in intents {
            if self.resolver.conflicts(&intent.reads, intent.read_version) {
                outcomes.push(CommitOutcome::Conflict);
                continue;
            }
            version += 1;
            self.resolver.record(version, intent.write_conflicts(version));
            self.merge(&mut batch, intent, version)?;
            outcomes.push(CommitOutcome::Committed(version));
        }
        if version > self.tree.version {
            self.write(batch, version)?;
        }
        Ok(outcomes)
    }

    /// Applies one transaction to the group's batch. A range is cleared key by key: of the durable
    /// state and of the group's earlier writes.
    fn merge(&self, batch: &mut Batch, intent: CommitIntent, version: u64) -> Result<()> {
        let durable = self.published.load();
        for (start, end) in intent.overlay.cleared {
            for pair in durable.snapshot.range::<&[u8], _>(&durable.pairs, &start[..]..&end[..]) {
                let key = pair.key().map_err(|error| from_fjall(&error, "read a range"))?;
                batch.insert(super::to_bytes(key), None);
            }
            let earlier = batch.range_mut((Bound::Included(start), Bound::Excluded(end)));
            earlier.for_each(|(_, value)| *value = None);
        }
        batch.extend(intent.overlay.writes);
        let stamped = intent.overlay.stamped.into_iter();
        batch.extend(stamped.map(|one| (one.key(version), Some(one.value))));
        Ok(())
    }

    fn write(&mut self, batch: Batch, version: u64) -> Result<()> {
        let tree = &mut self.tree;
        let mut writes = tree.database.batch().durability(Some(PersistMode::SyncAll));
        for (key, value) in batch {
            match value {
                Some(value) => writes.insert(&tree.pairs, &key[..], &value[..]),
                None => writes.remove(&tree.pairs, &key[..]),
            }
        }
        writes.insert(&tree.system, VERSION_KEY, version.to_be_bytes());
        writes.commit().map_err(|error| from_fjall(&error, "write the journal"))?;
        tree.version = version;
        self.published.store(Arc::new(Published {
            version,
            snapshot: tree.database.snapshot(),
            pairs: tree.pairs.clone(),
        }));
        Ok(())
    }
}
