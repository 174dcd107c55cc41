//! What is found at the end, through the read path that ships.

use super::cluster::{Cluster, file_chain};
use super::storage::Running;
use crate::checkers::{Audit, ReplicaAudit, StoreAudit};
use bytes::Bytes;
use firepond_core::Result;
use firepond_core::ids::{ChunkId, NodeId};
use firepond_core::routing::{ChainInfo, ChainTarget, PublicState};
use firepond_core::sys::clock::now;
use firepond_core::sys::machine::Machine;
use firepond_storage::chain::Replica;
use firepond_storage::store::{ChunkState, ChunkStore, ReadVersion};
use std::sync::Arc;
use std::time::Duration;

/// How long mending one chunk may take.
const MEND_MAX: Duration = Duration::from_secs(10);
/// Chunks of one list.
const LIST_COUNT: usize = 1024;

type FoundChunk = (ChunkId, ChunkState, Option<Bytes>);

impl Cluster {
    /// Looks at everything, as a machine of its own.
    pub(super) async fn audit(self: &Arc<Cluster>, settled_after: Option<Duration>) -> Audit {
        let cluster = Arc::clone(self);
        let looking = Machine::new("audit").spawn(async move { cluster.look(settled_after).await });
        match looking.await {
            Ok(audit) => audit,
            Err(error) => {
                self.site.problem(format_args!("the audit panicked: {error}"));
                Audit::default()
            }
        }
    }

    async fn look(&self, settled_after: Option<Duration>) -> Audit {
        let routing = self.observer.current();
        let slots = 0..self.plan.topology.chain_count;
        let mut audit = Audit {
            routings: self.observer.all(),
            file_chains: slots
                .filter_map(|slot| file_chain(&routing, slot).map(|chain| chain.id))
                .collect(),
            settled_after,
            clients_stuck_count: self.history.open_count(),
            faults_done: self.faults_done.lock().clone(),
            ..Audit::default()
        };
        for (node, running) in self.running_stores() {
            audit.stores.extend(self.look_at_store(node, &running));
            let replicas = running.engine.service().targets.all();
            for chain in &routing.chains {
                for one in chain.targets.iter().filter(|one| one.node == node) {
                    match replicas.get(&one.target) {
                        Some(replica) => audit.replicas.push(found(chain, one, replica).await),
                        None => self.site.problem(format_args!("{} is not open", one.target)),
                    }
                }
            }
        }
        audit
    }

    /// What runs, by node.
    pub(super) fn running_stores(&self) -> Vec<(NodeId, Running)> {
        let lives = self.lives.lock();
        let running = lives.storages.iter().flatten().filter_map(|life| {
            let running = life.running.lock().clone()?;
            Some((running.engine.service().node.id, running))
        });
        running.collect()
    }

    fn look_at_store(&self, node: NodeId, running: &Running) -> Option<StoreAudit> {
        let store = running.store.as_ref()?;
        let counted = match store.audit() {
            Ok(counted) => counted,
            Err(error) => {
                self.site.problem(format_args!("{node} cannot be audited: {error}"));
                return None;
            }
        };
        Some(StoreAudit {
            node,
            record_bytes: counted.record_bytes,
            used_bytes: counted.used_bytes,
            accounted_bytes: counted.accounted_bytes,
            buffer_bytes: running.transport.buffers().used_bytes() as u64,
            rotten_count: counted.rotten_count,
        })
    }
}

async fn found(
    chain: &ChainInfo,
    member: &ChainTarget,
    replica: &Arc<Replica<ChunkStore>>,
) -> ReplicaAudit {
    ReplicaAudit {
        chain: chain.id,
        durability: chain.durability,
        target: member.target,
        serving: member.state == PublicState::Serving,
        chunks: chunks(replica).await.unwrap_or_default(),
        pending_count: replica.dirty_count(),
        locked_count: replica.held_count(),
    }
}

async fn chunks(replica: &Arc<Replica<ChunkStore>>) -> Result<Vec<FoundChunk>> {
    let (first, last) = (ChunkId([0; 16]), ChunkId([0xff; 16]));
    let listed = replica.backend.list(replica.target, first, last, LIST_COUNT, false)?;
    let mut chunks = Vec::with_capacity(listed.len());
    for (chunk, state) in listed {
        let len = state.committed.map_or(0, |one| one.len);
        let which = ReadVersion::Committed;
        let read = || replica.backend.read(replica.target, chunk, which, 0, len);
        let mut found = read().await;
        if found.is_err() {
            // What rotted and was not read since is mended by who reads it, as for any client.
            let deadline = now() + MEND_MAX;
            replica.read(&replica.standing(), chunk, 0, len, deadline).await.ok();
            found = read().await;
        }
        let bytes = match found {
            Ok(image) => image.payload.complete().await.ok().map(Bytes::copy_from_slice),
            Err(_) => None,
        };
        chunks.push((chunk, state, bytes));
    }
    Ok(chunks)
}
