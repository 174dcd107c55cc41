//! Reads and stats of one target: the runtime of `read`.
//!
//! Why no lock: a version that may be shown stays readable while it is the committed or the pending
//! one, and if it is neither any more the read begins again.
//! Invariants: a clean chunk costs one look at the dirty set and one read of the store.

use super::backend::Backend;
use super::read::{Chosen, ReadPlan, after_answer, plan};
use super::replica::Replica;
use super::role::Standing;
use crate::store::{ChunkState, ReadImage, ReadVersion, VersionState};
use firepond_core::ids::{ChunkId, ChunkVersion, WriteId};
use firepond_core::routing::ChainTarget;
use firepond_core::sys::clock::{Instant, now, sleep, timeout_at};
use firepond_core::transport::Request;
use firepond_core::wire::storage::{ChunkQuery, QueryCommittedReply};
use firepond_core::wire::{MessageKind, decode, encode};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// How often a read begins again because the chunk moved on.
const ROUNDS_MAX_COUNT: usize = 16;
/// How long a read waits, at first, for a version that the tail has and this replica is storing.
const ARRIVAL_PAUSE: Duration = Duration::from_micros(500);
const ARRIVAL_PAUSE_MAX: Duration = Duration::from_millis(50);
/// How long the tail may take to say what is committed.
const QUERY_PATIENCE: Duration = Duration::from_millis(1000);

/// The version of a chunk that may be shown.
enum Shown {
    /// The committed one, whichever that is when it is read.
    Committed,
    /// This one.
    Exactly(VersionState),
    /// None: the chunk does not exist.
    Nothing,
}

fn missing(chunk: ChunkId) -> Error {
    Error::new(ErrorKind::ChunkNotFound, "").with("chunk", chunk)
}

impl<B: Backend> Replica<B> {
    /// Reads a part of a chunk as a client may see it.
    ///
    /// # Errors
    /// `ChunkNotFound`, `TargetNotServing`, `LeaseExpired`, or what the store and the tail say.
    pub async fn read(
        self: &Arc<Self>,
        standing: &Standing,
        chunk: ChunkId,
        offset: u32,
        len: u32,
        deadline: Instant,
    ) -> Result<ReadImage> {
        standing.check_read()?;
        self.values.touch(chunk);
        if !self.dirty.contains(chunk) {
            return self.read_version(chunk, ReadVersion::Committed, offset, len).await;
        }
        for _ in 0..ROUNDS_MAX_COUNT {
            let which = match self.resolve(chunk, deadline).await? {
                Shown::Committed => ReadVersion::Committed,
                Shown::Exactly(state) => ReadVersion::Exactly(state.version),
                Shown::Nothing => return Err(missing(chunk)),
            };
            match self.read_version(chunk, which, offset, len).await {
                // The version was replaced between the answer and the read.
                Err(error) if error.kind() == ErrorKind::ChunkNotFound && self.exists(chunk)? => {}
                result => return result,
            }
        }
        Err(busy(chunk))
    }

    /// Reads what is there, in whatever state the target is, for a replica that knows which bytes
    /// it wants.
    ///
    /// # Errors
    /// As the store.
    pub async fn read_relaxed(
        &self,
        chunk: ChunkId,
        which: ReadVersion,
        offset: u32,
        len: u32,
    ) -> Result<ReadImage> {
        self.backend.read(self.target, chunk, which, offset, len).await
    }

    async fn read_version(
        self: &Arc<Self>,
        chunk: ChunkId,
        which: ReadVersion,
        offset: u32,
        len: u32,
    ) -> Result<ReadImage> {
        match self.backend.read(self.target, chunk, which, offset, len).await {
            Err(error) if error.kind() == ErrorKind::ChunkChecksumMismatch => {
                self.read_mended(chunk, which, offset, len, error).await
            }
            result => result,
        }
    }

    fn exists(&self, chunk: ChunkId) -> Result<bool> {
        let state = self.backend.state(self.target, chunk)?;
        Ok(state.is_some_and(|state| state.pending.is_some() || is_live(state.committed).is_some()))
    }

    /// What of a chunk may be shown now.
    async fn resolve(self: &Arc<Self>, chunk: ChunkId, deadline: Instant) -> Result<Shown> {
        let mut pause = ARRIVAL_PAUSE;
        for _ in 0..ROUNDS_MAX_COUNT {
            let standing = self.standing();
            // First: a chunk leaves the set after its state changed.
            let arriving = self.dirty.contains(chunk);
            let state = self.backend.state(self.target, chunk)?;
            match plan(&standing, state.as_ref(), arriving)? {
                ReadPlan::Committed => return Ok(Shown::Committed),
                ReadPlan::Settle => self.settle_until(chunk, deadline).await?,
                ReadPlan::AskTail(tail) => {
                    let version = self.ask_tail(&standing, tail, chunk, deadline).await?;
                    // The state before the question: the answer is about that or something newer.
                    match after_answer(state.as_ref(), version) {
                        Chosen::Version(Some(found)) => return Ok(Shown::Exactly(found)),
                        Chosen::Version(None) => return Ok(Shown::Nothing),
                        Chosen::Again if now() + pause >= deadline => break,
                        Chosen::Again => sleep(pause).await,
                    }
                    pause = (pause * 2).min(ARRIVAL_PAUSE_MAX);
                }
            }
        }
        Err(busy(chunk))
    }

    async fn settle_until(self: &Arc<Self>, chunk: ChunkId, deadline: Instant) -> Result<()> {
        match timeout_at(deadline, self.settle(chunk)).await {
            Some(result) => result,
            None => Err(busy(chunk)),
        }
    }

    async fn ask_tail(
        &self,
        standing: &Standing,
        tail: ChainTarget,
        chunk: ChunkId,
        deadline: Instant,
    ) -> Result<ChunkVersion> {
        let query = ChunkQuery {
            chain: self.chain,
            chain_version: standing.chain_version,
            target: tail.target,
            chunks: vec![chunk],
        };
        let limit = deadline.min(now() + QUERY_PATIENCE);
        let request = Request::new(MessageKind::QueryCommitted, encode(&query), limit);
        let reply = self.node.peers.call_node(tail.node, request).await;
        let reply = reply.map_err(|error| match error.kind() {
            // Not the reader's deadline but ours: another replica may know.
            ErrorKind::DeadlineExceeded => {
                Error::new(ErrorKind::PeerUnreachable, "the tail does not answer")
                    .with("tail", tail.target)
            }
            _ => error,
        })?;
        let reply: QueryCommittedReply = decode(&reply.body)?;
        reply.versions.first().copied().ok_or_else(|| Error::internal("the tail's answer is empty"))
    }

    /// What is committed of a chunk, as the tail: 0 when nothing ever was.
    ///
    /// # Errors
    /// `TargetNotServing` when this is not the tail.
    pub async fn committed(
        self: &Arc<Self>,
        chunk: ChunkId,
        deadline: Instant,
    ) -> Result<ChunkVersion> {
        for _ in 0..ROUNDS_MAX_COUNT {
            let standing = self.standing();
            standing.check_tail()?;
            let arriving = self.dirty.contains(chunk);
            let state = self.backend.state(self.target, chunk)?;
            if plan(&standing, state.as_ref(), arriving)? == ReadPlan::Settle {
                self.settle_until(chunk, deadline).await?;
                continue;
            }
            // What a resync removed is no version of the chain, and must not pass for one.
            let chains_own = |one: &VersionState| one.write_id != WriteId::default();
            let committed = state.and_then(|state| state.committed).filter(chains_own);
            return Ok(committed.map_or(ChunkVersion(0), |one| one.version));
        }
        Err(busy(chunk))
    }

    /// The version of a chunk that may be shown, with the chunk's tag; none: it does not exist.
    ///
    /// # Errors
    /// As `read`.
    pub async fn stat(
        self: &Arc<Self>,
        chunk: ChunkId,
        deadline: Instant,
    ) -> Result<Option<(VersionState, [u8; 32])>> {
        self.standing().check_read()?;
        let shown = match self.dirty.contains(chunk) {
            true => self.resolve(chunk, deadline).await?,
            false => Shown::Committed,
        };
        let state = self.backend.state(self.target, chunk)?;
        let tag = state.as_ref().map_or([0; 32], |state| state.tag);
        Ok(match shown {
            Shown::Committed => committed_of(state),
            Shown::Exactly(found) => Some(found),
            Shown::Nothing => None,
        }
        .map(|found| (found, tag)))
    }
}

fn is_live(state: Option<VersionState>) -> Option<VersionState> {
    state.filter(|state| !state.removed)
}

fn committed_of(state: Option<ChunkState>) -> Option<VersionState> {
    is_live(state.and_then(|state| state.committed))
}

fn busy(chunk: ChunkId) -> Error {
    Error::new(ErrorKind::ChunkBusy, "the chunk changes too fast to be read").with("chunk", chunk)
}
