//! Exactly-once updates: one write id over all tries, sent to whoever is the head now.
//!
//! A refusal is not remembered by the chain, so after several tries a copy of one could still be
//! taken once the reason is gone. `ChunkExists` is an answer that callers build on: a fence makes
//! it certain first.

use super::chain_client::{ChainClient, ChunkUpdate};
use super::retry::{Tries, out_of_time, while_useful};
use crate::ids::{ChainId, ChunkVersion, NodeId, RoutingVersion, TargetId, WriteId};
use crate::sys::clock::{Instant, now};
use crate::transport::Request;
use crate::wire::storage::{SINCE_CONTEXT, UpdateKind, UpdateReply, UpdateRequest};
use crate::wire::{MessageKind, decode, encode};
use crate::{Error, ErrorKind, Result};

/// How long the first try of an update may take before the head counts as silent.
const TRY_MS: u64 = 4000;

/// The head that one try goes to.
struct Head {
    target: TargetId,
    node: NodeId,
}

impl ChainClient {
    /// Applies an update exactly once; done means durable on every serving replica.
    ///
    /// # Errors
    /// What the chain answered for good, or `DeadlineExceeded`: then the outcome is not known.
    /// `ChunkExists` is certain: the update has not happened and never will.
    pub async fn update(
        &self,
        chain: ChainId,
        update: ChunkUpdate,
        deadline: Instant,
    ) -> Result<UpdateReply> {
        let mut channel = self.channels.acquire();
        let write_id = channel.write_id();
        let mut tries = Tries::new(deadline);
        let outcome = self.carry(chain, &update, write_id, &mut tries).await;
        let exists = |error: &Error| error.kind() == ErrorKind::ChunkExists;
        let outcome = match outcome {
            // A copy of an earlier try may still be on its way, and the chunk may be gone by then.
            Err(error) if exists(&error) && tries.count > 1 => {
                let fence_id = channel.fence_id();
                let fence = ChunkUpdate::fence(&update);
                match self.carry(chain, &fence, fence_id, &mut Tries::new(deadline)).await {
                    Ok(_) => {
                        channel.settle();
                        return Err(error);
                    }
                    // It came in between: the chunk remembers its reply.
                    Err(late) if late.kind() == ErrorKind::UpdateStale => {
                        self.carry(chain, &update, write_id, &mut tries).await
                    }
                    Err(unknown) => return Err(unknown.with("fence_of", write_id)),
                }
            }
            outcome => outcome,
        };
        // The one try was answered, so nothing of it is left on the way.
        let settled = |error: &Error| tries.count == 1 && refused(error.kind());
        if outcome.as_ref().map_or_else(settled, |_| true) {
            channel.settle();
        }
        outcome
    }

    /// Sends one update until it is answered for good.
    async fn carry(
        &self,
        chain: ChainId,
        update: &ChunkUpdate,
        write_id: WriteId,
        tries: &mut Tries,
    ) -> Result<UpdateReply> {
        let deadline = tries.deadline();
        let is_fence = update.kind == UpdateKind::Fence;
        let mut since = ChunkVersion(0);
        // Every try so far was answered, and none of them began the update.
        let mut nowhere = tries.count == 0 && !is_fence;
        loop {
            if now() >= deadline {
                let late = Error::new(ErrorKind::DeadlineExceeded, "the update began too late");
                return Err(late.with("chain", chain));
            }
            tries.begin();
            let seen = self.peers.routing().current().version;
            let result = self.update_once(chain, update, write_id, since, tries).await;
            let error = match result.map_err(|error| tries.judge(error)) {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            if let Some(version) = unproven(&error).filter(|_| nowhere) {
                since = version;
                continue;
            }
            nowhere = false;
            if let Err(error) = tries.pause(self.peers.routing(), seen, error).await {
                return Err(error.with("chain", chain).with("chunk", update.chunk));
            }
        }
    }

    async fn update_once(
        &self,
        chain: ChainId,
        update: &ChunkUpdate,
        write_id: WriteId,
        since: ChunkVersion,
        tries: &Tries,
    ) -> Result<UpdateReply> {
        let routing = self.peers.routing();
        let current = routing.current();
        let info = current.chain(chain)?;
        let head = info.head().map(|head| Head { target: head.target, node: head.node });
        let Some(head) = head else { return Err(no_head(chain, current.version)) };
        let message = UpdateRequest {
            write_id,
            chunk: update.chunk,
            chain,
            chain_version: info.version,
            target: head.target,
            kind: update.kind,
            offset: update.offset,
            len: update.len,
            checksum: update.checksum,
            chunk_len_max: update.chunk_len_max,
            tag: update.tag,
            capability: Vec::new(),
            since,
        };
        let try_deadline = tries.try_deadline(TRY_MS);
        let mut request = Request::new(MessageKind::Update, encode(&message), try_deadline);
        request.payload = update.payload.clone();
        let call = self.peers.call_node(head.node, request);
        let is_head = |routing: &crate::routing::Routing| {
            let now_head = routing.chain(chain).ok().and_then(|info| info.head());
            now_head.is_some_and(|now_head| now_head.target == head.target)
        };
        decode(&while_useful(routing, head.node, is_head, call).await?.body)
    }
}

/// The version of a chunk that does not know whether the write happened, because it forgot some.
fn unproven(error: &Error) -> Option<ChunkVersion> {
    if error.kind() != ErrorKind::UpdateUnproven {
        return None;
    }
    let version = error.context().iter().find(|(name, _)| name == SINCE_CONTEXT);
    version.and_then(|(_, text)| text.parse().ok()).map(ChunkVersion)
}

/// Answers that a chain gives without having begun the update.
fn refused(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ChunkExists | ErrorKind::DiskFull | ErrorKind::InvalidArgument)
}

fn no_head(chain: ChainId, version: RoutingVersion) -> Error {
    Error::new(ErrorKind::TargetNotServing, "the chain has no serving head")
        .with("chain", chain)
        .with("routing", version)
}

/// The error of an operation that found no time for any try.
pub(super) fn too_late(last: Option<&Error>) -> Error {
    match last {
        Some(error) => out_of_time(error),
        None => Error::new(ErrorKind::DeadlineExceeded, "the operation began too late"),
    }
}
