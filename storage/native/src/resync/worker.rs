//! The predecessor's side of a resync.
//!
//! Invariants: everything runs under one chain version, stamped on every message; the successor
//! refuses it as soon as its own routing has another. Lock: a chunk's, while that chunk is sent.

use super::compare::{Difference, differences};
use super::pace::Pace;
use super::progress::Progress;
use super::successor::{LAST, PAGE_MAX_COUNT, following};
use crate::chain::forward::{image, send, whole_chunk};
use crate::chain::run::to_its_end;
use crate::chain::{Backend, Replica};
use crate::store::VersionState;
use firepond_core::ids::{ChainVersion, ChangeStamp, ChunkId, ChunkVersion, WriteId};
use firepond_core::payload::Payload;
use firepond_core::routing::ChainTarget;
use firepond_core::sys::clock::now;
use firepond_core::sys::task::{scoped, unfinished};
use firepond_core::transport::{Reply, Request};
use firepond_core::wire::storage::{
    ForwardRequest, ResyncBeginReply, ResyncChoice, ResyncControl, ResyncEntry, ResyncPageReply,
    ResyncPageRequest,
};
use firepond_core::wire::{MessageKind, decode, encode};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Chunks that are sent at the same time.
const CONCURRENT_COUNT: usize = 8;
/// How long one control message may take.
const CALL_PATIENCE: Duration = Duration::from_secs(5);

/// One resync.
pub struct Resync<B> {
    /// The predecessor.
    pub replica: Arc<Replica<B>>,
    /// The syncing successor.
    pub successor: ChainTarget,
    /// The chain version under which it runs.
    pub chain_version: ChainVersion,
    /// The bound on its rate.
    pub pace: Arc<Pace>,
    /// How far it is.
    pub progress: Arc<Progress>,
}

impl<B> Clone for Resync<B> {
    fn clone(&self) -> Resync<B> {
        Resync {
            replica: Arc::clone(&self.replica),
            successor: self.successor,
            chain_version: self.chain_version,
            pace: Arc::clone(&self.pace),
            progress: Arc::clone(&self.progress),
        }
    }
}

impl<B: Backend> Resync<B> {
    /// Brings the successor in line and tells it so.
    ///
    /// # Errors
    /// The first refusal; any change of the chain is one.
    pub async fn run(&self) -> Result<()> {
        let theirs = self.begin().await?;
        // Updates that began as the tail's are in no list yet and may end without the successor.
        self.replica.await_updates().await?;
        if !self.walk(theirs).await? {
            self.compare_all().await?;
        }
        let marks = self.replica.backend.marks(self.replica.target)?;
        let (complete_through, purged_through) = (marks.complete_through, marks.purged_through);
        let done = ResyncControl { complete_through, purged_through, ..self.message() };
        self.control(MessageKind::ResyncDone, &done).await.map(|_| ())
    }

    /// What the successor has.
    async fn begin(&self) -> Result<ChangeStamp> {
        let reply = self.control(MessageKind::ResyncBegin, &self.message()).await?;
        if reply.body.is_empty() {
            return Ok(ChangeStamp(0)); // A release without stamps.
        }
        Ok(decode::<ResyncBeginReply>(&reply.body)?.complete_through)
    }

    /// Compares everything that either side has.
    async fn compare_all(&self) -> Result<()> {
        self.progress.begin(self.replica.backend.usage(self.replica.target).chunk_count);
        let mut after = None;
        loop {
            let page = self.page(after, None).await?;
            let last = page.entries.last().map(|entry| entry.chunk);
            let end = match last.filter(|_| page.more) {
                Some(last) => following(last),
                None => LAST,
            };
            let start = after.map_or(ChunkId([0; 16]), following);
            self.compare(&page.entries, start, end).await?;
            if !page.more || last.is_none() {
                return Ok(());
            }
            after = last;
        }
    }

    fn message(&self) -> ResyncControl {
        ResyncControl {
            chain: self.replica.chain,
            chain_version: self.chain_version,
            target: self.successor.target,
            complete_through: ChangeStamp(0),
            purged_through: ChangeStamp(0),
            full: false,
        }
    }

    async fn control(&self, kind: MessageKind, control: &ResyncControl) -> Result<Reply> {
        self.check()?;
        let request = Request::new(kind, encode(control), now() + CALL_PATIENCE);
        self.replica.node.peers.call_node(self.successor.node, request).await
    }

    /// What the successor has of some chunks.
    pub(super) async fn page(
        &self,
        after: Option<ChunkId>,
        choice: Option<ResyncChoice>,
    ) -> Result<ResyncPageReply> {
        self.check()?;
        let (control, limit) = (self.message(), PAGE_MAX_COUNT);
        let body = encode(&ResyncPageRequest { control, after, limit, choice });
        let request = Request::new(MessageKind::ResyncPage, body, now() + CALL_PATIENCE);
        let reply = self.replica.node.peers.call_node(self.successor.node, request).await?;
        decode(&reply.body)
    }

    /// Still the same chain, and we may speak for it.
    fn check(&self) -> Result<()> {
        let standing = self.replica.standing();
        standing.check_version(self.chain_version)?;
        standing.check_read()?;
        if standing.successor.map(|one| one.target) != Some(self.successor.target) {
            return Err(Error::new(ErrorKind::TargetNotServing, "the successor changed"));
        }
        Ok(())
    }

    /// Compares [start, end) in pages of our own, and sends what differs.
    async fn compare(&self, theirs: &[ResyncEntry], start: ChunkId, end: ChunkId) -> Result<()> {
        let mut start = start;
        while start < end {
            let limit = PAGE_MAX_COUNT as usize;
            let ours = self.replica.backend.list(self.replica.target, start, end, limit, false)?;
            let part_end = match ours.last().filter(|_| ours.len() == limit) {
                Some((last, _)) => following(*last),
                None => end,
            };
            let within = |entry: &&ResyncEntry| (start..part_end).contains(&entry.chunk);
            let part: Vec<ResyncEntry> = theirs.iter().filter(within).copied().collect();
            self.send_all(differences(&part, &ours)).await?;
            self.progress.done(ours.len() as u64);
            start = part_end;
        }
        Ok(())
    }

    pub(super) async fn send_all(&self, differences: Vec<Difference>) -> Result<()> {
        let mut running = JoinSet::new();
        for difference in differences {
            if running.len() >= CONCURRENT_COUNT {
                ended(running.join_next().await)?;
            }
            self.check()?;
            let resync = self.clone();
            running.spawn(scoped(async move { resync.send_one(difference).await }));
        }
        while let Some(result) = running.join_next().await {
            ended(Some(result))?;
        }
        Ok(())
    }

    /// Waits for the chunk's turn, and sends it.
    async fn send_one(&self, difference: Difference) -> Result<()> {
        let len = self.replica.backend.state(self.replica.target, difference.chunk)?;
        let len = len.and_then(|state| state.committed).map_or(0, |one| u64::from(one.len));
        self.pace.take(len).await;
        let resync = self.clone();
        to_its_end(async move { resync.send_locked(difference).await }).await
    }

    /// Makes one chunk of the successor equal to ours, under the chunk's lock.
    async fn send_locked(&self, difference: Difference) -> Result<()> {
        let chunk = difference.chunk;
        let guard = self.replica.lock(chunk).await?;
        // What is pending here goes to the successor as it is brought to its end.
        let settled = self.replica.settle_locked(chunk).await;
        self.replica.refresh_dirty(chunk);
        settled?;
        let state = self.replica.backend.state(self.replica.target, chunk)?;
        let committed = state.and_then(|state| state.committed);
        let (mut message, payload) = match (committed, difference.theirs) {
            (Some(ours), _) => image(&self.replica, chunk, ours.version).await?,
            (None, Some(theirs)) => (self.removal(chunk, theirs.version), Payload::empty()),
            (None, None) => return Ok(()),
        };
        message.update.chain_version = self.chain_version;
        message.update.target = self.successor.target;
        let bytes = payload.len() as u64;
        let sent = send(&self.replica, self.successor, message, payload).await;
        drop(guard);
        if matches!(&sent, Err(error) if error.kind() == ErrorKind::DiskFull) {
            self.replica.expel(self.successor, self.chain_version, true);
        }
        self.progress.moved(bytes);
        sent.map(|_| ())
    }

    /// The removal of a chunk that we do not know.
    fn removal(&self, chunk: ChunkId, version: ChunkVersion) -> ForwardRequest {
        let state = VersionState {
            version,
            chain_version: self.chain_version,
            write_id: WriteId::default(),
            len: 0,
            checksum: 0,
            removed: true,
        };
        ForwardRequest {
            update: whole_chunk(&self.replica, chunk, &state, [0; 32]),
            version,
            full_chunk: true,
            committed: true,
            recent_writes: Vec::new(),
            forgotten: ChunkVersion(0),
            stamp: ChangeStamp(0),
        }
    }
}

fn ended(result: Option<Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match result {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(error)) => Err(unfinished(&error)),
    }
}
