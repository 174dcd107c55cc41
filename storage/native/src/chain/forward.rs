//! One try to send an update to the successor.

use super::backend::Backend;
use super::job::{Job, stored_kind};
use super::replica::Replica;
use super::update::{Event, Form, Plan};
use crate::store::{ReadVersion, VersionState};
use firepond_core::ids::{ChainVersion, ChangeStamp, ChunkId, ChunkVersion};
use firepond_core::payload::Payload;
use firepond_core::routing::ChainTarget;
use firepond_core::sys::clock::now;
use firepond_core::transport::Request;
use firepond_core::wire::storage::{
    ForwardRequest, RecentWrite, UpdateKind, UpdateReply, UpdateRequest,
};
use firepond_core::wire::{CHUNK_MAX_BYTES, MessageKind, decode, encode};
use firepond_core::{Error, ErrorKind, Result};
use std::time::Duration;

/// How long one try may take; routing that moves on ends it earlier.
const TRY: Duration = Duration::from_secs(10);

/// Sends an update under a chain version to a successor; says what became of it.
pub(super) async fn forward<B: Backend>(
    replica: &Replica<B>,
    job: &Job,
    plan: Plan,
    to: ChainTarget,
    chain_version: ChainVersion,
    form: Form,
) -> Event {
    let chunk = job.update.chunk;
    let made = match form {
        Form::Delta => Ok((delta(job, &plan), job.payload.clone())),
        Form::Whole => recent_writes(replica, job).map(|(recent_writes, forgotten)| {
            let delta = delta(job, &plan);
            let message = ForwardRequest { full_chunk: true, recent_writes, forgotten, ..delta };
            (message, job.payload.clone())
        }),
        Form::Image => image(replica, chunk, plan.version).await,
    };
    let (mut message, payload) = match made {
        Ok(made) => made,
        Err(error) if error.kind() == ErrorKind::ChunkChecksumMismatch => {
            let nowhere = replica.is_nowhere_else(chunk, plan.version).await;
            return Event::Unreadable { error, nowhere };
        }
        Err(error) => return Event::Forwarded(Err(error)),
    };
    message.update.chain_version = chain_version;
    message.update.target = to.target;
    Event::Forwarded(send(replica, to, message, payload).await)
}

/// Sends a message to the node of a successor.
pub(crate) async fn send<B: Backend>(
    replica: &Replica<B>,
    to: ChainTarget,
    message: ForwardRequest,
    payload: Payload,
) -> Result<UpdateReply> {
    let mut request = Request::new(MessageKind::Forward, encode(&message), now() + TRY);
    request.payload = payload;
    let reply = replica.node.peers.call_node(to.node, request).await?;
    decode(&reply.body)
}

fn delta(job: &Job, plan: &Plan) -> ForwardRequest {
    let mut update = job.update.clone();
    update.kind = stored_kind(update.kind);
    ForwardRequest {
        update,
        version: plan.version,
        full_chunk: false,
        committed: false,
        recent_writes: vec![],
        forgotten: ChunkVersion(0),
        stamp: plan.stamp,
    }
}

/// What goes along with a whole chunk: what the update brings, as our store may not have it yet.
fn recent_writes<B: Backend>(
    replica: &Replica<B>,
    job: &Job,
) -> Result<(Vec<RecentWrite>, ChunkVersion)> {
    if !job.recent_writes.is_empty() {
        return Ok((job.recent_writes.clone(), job.forgotten));
    }
    let state = replica.backend.state(replica.target, job.update.chunk)?;
    Ok(state.map(|state| (state.recent_writes, state.forgotten)).unwrap_or_default())
}

/// The whole chunk at a version, read back from our store. The chunk's lock is held.
pub(crate) async fn image<B: Backend>(
    replica: &Replica<B>,
    chunk: ChunkId,
    version: ChunkVersion,
) -> Result<(ForwardRequest, Payload)> {
    let state = replica.backend.state(replica.target, chunk)?;
    let versions = state.iter().flat_map(|state| [state.committed, state.pending]);
    let found = versions.flatten().find(|one| one.version == version).ok_or_else(|| {
        Error::new(ErrorKind::ChunkBusy, "the version is gone").with("chunk", chunk)
    })?;
    let committed = state.as_ref().and_then(|state| state.committed) == Some(found);
    let tag = state.as_ref().map_or([0; 32], |state| state.tag);
    let payload = match found.removed {
        true => Payload::empty(),
        false => payload_of(replica, chunk, &found, committed).await?,
    };
    let message = ForwardRequest {
        update: whole_chunk(replica, chunk, &found, tag),
        version,
        full_chunk: true,
        committed,
        forgotten: state.as_ref().map_or(ChunkVersion(0), |state| state.forgotten),
        stamp: state.as_ref().map_or(ChangeStamp(0), |state| state.stamp),
        recent_writes: state.map(|state| state.recent_writes).unwrap_or_default(),
    };
    Ok((message, payload))
}

/// The bytes of a version that is stored here, whatever rotted.
async fn payload_of<B: Backend>(
    replica: &Replica<B>,
    chunk: ChunkId,
    found: &VersionState,
    committed: bool,
) -> Result<Payload> {
    let which = ReadVersion::Exactly(found.version);
    let read = || replica.backend.read(replica.target, chunk, which, 0, found.len);
    let error = match read().await {
        Err(error) if error.kind() == ErrorKind::ChunkChecksumMismatch => error,
        image => return Ok(image?.payload),
    };
    // Whatever keeps it from being mended: this is no answer of the successor.
    if committed {
        replica.repair_locked(chunk).await.map_err(|_| error)?;
        return Ok(read().await?.payload);
    }
    // What is pending is mended here when it is committed.
    let (bytes, _) = replica.fetch_noted(chunk, found).await.map_err(|_| error)?;
    Ok(Payload::from_bytes(bytes))
}

/// The update that makes exactly this version of a chunk.
pub(crate) fn whole_chunk<B: Backend>(
    replica: &Replica<B>,
    chunk: ChunkId,
    state: &VersionState,
    tag: [u8; 32],
) -> UpdateRequest {
    UpdateRequest {
        write_id: state.write_id,
        chunk,
        chain: replica.chain,
        chain_version: state.chain_version,
        target: replica.target,
        kind: if state.removed { UpdateKind::Remove } else { UpdateKind::Replace },
        offset: 0,
        len: state.len,
        checksum: state.checksum,
        chunk_len_max: CHUNK_MAX_BYTES as u32,
        tag,
        capability: Vec::new(),
        since: ChunkVersion(0),
    }
}
