//! One update with its payload, as the runtime carries it, and what it becomes on disk and wire.

use super::admit::{Facts, Origin};
use super::update::Plan;
use crate::store::{ChunkState, ChunkWrite, VersionState};
use firepond_core::ids::{ChainId, ChainVersion, ChangeStamp, ChunkId, ChunkVersion, TargetId};
use firepond_core::payload::Payload;
use firepond_core::routing::Durability;
use firepond_core::wire::CHUNK_MAX_BYTES;
use firepond_core::wire::storage::{ForwardRequest, RecentWrite, UpdateKind, UpdateRequest};
use firepond_core::{Error, Result};
use std::borrow::Cow;

/// An update on its way through this replica.
#[derive(Clone, Debug)]
pub struct Job {
    /// As it came.
    pub update: UpdateRequest,
    /// Its bytes; they may still be arriving.
    pub payload: Payload,
    /// Where it comes from.
    pub origin: Origin,
    /// Write ids that the sender remembers of the chunk.
    pub recent_writes: Vec<RecentWrite>,
    /// The newest version whose write the sender forgot.
    pub forgotten: ChunkVersion,
    /// When the head took it, as the predecessor says; a client's gets its stamp under the lock.
    pub stamp: ChangeStamp,
}

impl Job {
    /// An update from a client.
    ///
    /// # Errors
    /// `InvalidArgument` when its numbers contradict each other or the limits.
    pub fn from_client(update: UpdateRequest, payload: Payload) -> Result<Job> {
        check(&update, &payload)?;
        let (origin, stamp) = (Origin::Client, ChangeStamp(0));
        let (recent_writes, forgotten) = (Vec::new(), ChunkVersion(0));
        Ok(Job { update, payload, origin, recent_writes, forgotten, stamp })
    }

    /// An update from the predecessor.
    ///
    /// # Errors
    /// `InvalidArgument` as for a client's update.
    pub fn from_predecessor(request: ForwardRequest, payload: Payload) -> Result<Job> {
        check(&request.update, &payload)?;
        if request.update.kind == UpdateKind::Fence {
            return Err(Error::invalid("a fence is the head's to resolve")
                .with("chunk", request.update.chunk));
        }
        let origin =
            Origin::Predecessor { version: request.version, full_chunk: request.full_chunk };
        let unstamped = ChangeStamp::new(request.update.chain_version, 0);
        let stamp = if request.stamp.0 == 0 { unstamped } else { request.stamp };
        let (recent_writes, forgotten) = (request.recent_writes, request.forgotten);
        Ok(Job { update: request.update, payload, origin, recent_writes, forgotten, stamp })
    }

    /// A pending version that is brought to its end; its bytes are in the store.
    pub fn from_pending(
        chain: ChainId,
        target: TargetId,
        chunk: ChunkId,
        state: &VersionState,
        stamp: ChangeStamp,
    ) -> Job {
        let kind = if state.removed { UpdateKind::Remove } else { UpdateKind::Replace };
        let update = UpdateRequest {
            write_id: state.write_id,
            chunk,
            chain,
            chain_version: state.chain_version,
            target,
            kind,
            offset: 0,
            len: state.len,
            checksum: state.checksum,
            chunk_len_max: CHUNK_MAX_BYTES as u32,
            tag: [0; 32],
            capability: Vec::new(),
            since: ChunkVersion(0),
        };
        let origin = Origin::Predecessor { version: state.version, full_chunk: true };
        let (recent_writes, forgotten) = (Vec::new(), ChunkVersion(0));
        Job { update, payload: Payload::empty(), origin, recent_writes, forgotten, stamp }
    }

    /// The update, following a pending version that the chain did not take everywhere: that one
    /// counts as done, so that its retry does not happen after this.
    pub fn superseding(&self, pending: &VersionState, state: &ChunkState) -> Job {
        let (write_id, version) = (pending.write_id, pending.version);
        let mut recent_writes = state.recent_writes.clone();
        recent_writes.push(RecentWrite { write_id, version });
        Job { recent_writes, forgotten: state.forgotten, ..self.clone() }
    }

    /// What the head makes of the update: a fence keeps what the chunk is, there or not.
    pub fn resolved(&self, state: Option<&ChunkState>) -> Cow<'_, Job> {
        if self.update.kind != UpdateKind::Fence {
            return Cow::Borrowed(self);
        }
        let newest = state.and_then(|state| state.pending.or(state.committed));
        let exists = newest.is_some_and(|one| !one.removed);
        let mut job = self.clone();
        job.update.kind = if exists { UpdateKind::PunchHole } else { UpdateKind::Remove };
        Cow::Owned(job)
    }

    /// What decides over it.
    pub fn facts(&self) -> Facts {
        Facts {
            chunk: self.update.chunk,
            write_id: self.update.write_id,
            kind: self.update.kind,
            checksum: self.update.checksum,
            since: self.update.since,
            origin: self.origin,
        }
    }

    /// Whether its payload is the whole chunk, or it is a removal.
    pub fn is_whole(&self) -> bool {
        matches!(self.update.kind, UpdateKind::Replace | UpdateKind::Create | UpdateKind::Remove)
    }

    /// The update for the store.
    pub fn write(
        &self,
        plan: &Plan,
        chain_version: ChainVersion,
        commit: bool,
        durability: Durability,
    ) -> ChunkWrite {
        ChunkWrite {
            chunk: self.update.chunk,
            kind: stored_kind(self.update.kind),
            offset: self.update.offset,
            len: self.update.len,
            chunk_len_max: self.update.chunk_len_max,
            payload: self.payload.clone(),
            checksum: self.update.checksum,
            version: plan.version,
            chain_version,
            write_id: self.update.write_id,
            tag: self.update.tag,
            full_chunk: plan.replaces,
            commit,
            recent_writes: self.recent_writes.clone(),
            forgotten: self.forgotten,
            durability,
            stamp: plan.stamp,
        }
    }
}

/// The head decided that the chunk may be created; from there on it is a replacement.
pub(super) fn stored_kind(kind: UpdateKind) -> UpdateKind {
    if kind == UpdateKind::Create { UpdateKind::Replace } else { kind }
}

fn check(update: &UpdateRequest, payload: &Payload) -> Result<()> {
    let bytes = if update.kind.has_payload() { update.len as usize } else { 0 };
    let whole = matches!(update.kind, UpdateKind::Replace | UpdateKind::Create);
    let end = u64::from(update.offset) + u64::from(update.len);
    let problem = if update.chunk.kind().is_none() {
        "the chunk id has an unknown kind"
    } else if payload.len() != bytes {
        "the payload is not as long as the update says"
    } else if whole && update.offset != 0 {
        "a whole chunk starts at offset 0"
    } else if update.chunk_len_max as usize > CHUNK_MAX_BYTES {
        "the chunk is longer than any may be"
    } else if update.kind != UpdateKind::Remove && end > u64::from(update.chunk_len_max) {
        "the update ends beyond the longest chunk"
    } else {
        return Ok(());
    };
    Err(Error::invalid(problem)
        .with("chunk", update.chunk)
        .with("offset", update.offset)
        .with("len", update.len)
        .with("payload", payload.len()))
}
