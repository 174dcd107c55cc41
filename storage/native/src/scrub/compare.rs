//! The head compares what the replicas have of some chunks with what it has.
//!
//! Why the head: every update came from there, so its content is the chain's. A difference that is
//! seen in passing may be an update under way; it is looked at again under the chunk's lock, when
//! none can be, and only then the head's chunk is sent to those that differ. It goes to each of
//! them and not down the chain, for one in between that agrees would not pass it on.
//! Invariant: nothing is replaced but a chunk of the same chain version under its lock.

use crate::chain::forward::{image, send};
use crate::chain::run::to_its_end;
use crate::chain::{Backend, Replica};
use crate::store::VersionState;
use firepond_core::ids::ChunkId;
use firepond_core::routing::ChainTarget;
use firepond_core::sys::clock::now;
use firepond_core::transport::Request;
use firepond_core::wire::storage::{BatchStatReply, BatchStatRequest, ChunkQuery, ChunkStat};
use firepond_core::wire::{MessageKind, decode, encode};
use firepond_core::{Error, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a replica may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(2);

impl<B: Backend> Replica<B> {
    /// Compares chunks that are sound here with all other serving replicas.
    pub(super) async fn compare_replicas(self: &Arc<Self>, chunks: &[ChunkId]) -> Result<()> {
        let mut suspects = BTreeSet::new();
        for other in self.others()? {
            // One that does not answer is compared in the next pass.
            let Ok(stats) = self.stat_at(other, chunks).await else { continue };
            for (chunk, stat) in chunks.iter().zip(&stats) {
                if !self.has_equal(*chunk, stat)? {
                    suspects.insert(*chunk);
                }
            }
        }
        for chunk in suspects {
            let replica = Arc::clone(self);
            let result = to_its_end(async move {
                let guard = replica.lock(chunk).await?;
                let result = replica.compare_locked(chunk).await;
                replica.refresh_dirty(chunk);
                drop(guard);
                result
            });
            if let Err(error) = result.await {
                tracing::debug!(%chunk, target_id = self.target.0, %error, "not compared");
            }
        }
        Ok(())
    }

    fn others(&self) -> Result<Vec<ChainTarget>> {
        let routing = self.node.peers.routing().current();
        let serving = routing.chain(self.chain)?.serving();
        Ok(serving.filter(|other| other.target != self.target).copied().collect())
    }

    async fn stat_at(&self, other: ChainTarget, chunks: &[ChunkId]) -> Result<Vec<ChunkStat>> {
        let query = ChunkQuery {
            chain: self.chain,
            chain_version: self.standing().chain_version,
            target: other.target,
            chunks: chunks.to_vec(),
        };
        let body = encode(&BatchStatRequest { queries: vec![query], alone: false });
        let request = Request::new(MessageKind::BatchStat, body, now() + PATIENCE);
        let reply = self.node.peers.call_node(other.node, request).await?;
        let reply: BatchStatReply = decode(&reply.body)?;
        let stats = reply.results.into_iter().next();
        let stats = stats.ok_or_else(|| Error::internal("an empty stat reply"))?;
        let stats = stats.map_err(Error::from_wire)?;
        if stats.len() != chunks.len() {
            return Err(Error::internal("a stat reply has the wrong length"));
        }
        Ok(stats)
    }

    fn has_equal(&self, chunk: ChunkId, stat: &ChunkStat) -> Result<bool> {
        let state = self.backend.state(self.target, chunk)?;
        let live = state.and_then(|state| state.committed).filter(|one| !one.removed);
        Ok(live.is_some_and(|one| is_equal(&one, stat)))
    }

    /// Under the chunk's lock: nothing of it is under way, so a difference is one.
    async fn compare_locked(&self, chunk: ChunkId) -> Result<()> {
        self.settle_locked(chunk).await?;
        let standing = self.standing();
        standing.check_client_update(standing.chain_version)?;
        let state = self.backend.state(self.target, chunk)?;
        let live = state.and_then(|state| state.committed).filter(|one| !one.removed);
        let Some(committed) = live else { return Ok(()) };
        let differing = self.differing(chunk, &committed).await?;
        if differing.is_empty() {
            return Ok(());
        }
        if self.findings.bad(chunk) {
            let targets: Vec<u64> = differing.iter().map(|other| other.target.0).collect();
            tracing::warn!(
                %chunk, target_id = self.target.0, ?targets, "replicas differ from the head"
            );
        }
        for other in differing {
            let (mut message, payload) = image(self, chunk, committed.version).await?;
            message.update.chain_version = standing.chain_version;
            message.update.target = other.target;
            send(self, other, message, payload).await?;
        }
        if self.differing(chunk, &committed).await?.is_empty() {
            self.findings.repaired(chunk);
        }
        Ok(())
    }

    /// The replicas that have something else.
    async fn differing(&self, chunk: ChunkId, ours: &VersionState) -> Result<Vec<ChainTarget>> {
        let mut differing = Vec::new();
        for other in self.others()? {
            let stats = self.stat_at(other, &[chunk]).await?;
            if !stats.iter().all(|stat| is_equal(ours, stat)) {
                differing.push(other);
            }
        }
        Ok(differing)
    }
}

fn is_equal(ours: &VersionState, theirs: &ChunkStat) -> bool {
    ours.version == theirs.version && ours.checksum == theirs.checksum && ours.len == theirs.len
}
