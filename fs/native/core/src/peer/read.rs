//! Batched reads: one request a node, each read failing over on its own.
//!
//! Why the replica is picked by a hash of the chunk: all replicas share the load, and the same
//! bytes are always asked of the same one, so that a chunk occupies one host's page cache and not
//! three.
//! Invariants: a read ends with bytes whose checksum was verified or with an error of its own; one
//! that all replicas of its chain answered with "damaged" ends at once.

use super::chain_client::{ChainClient, ChunkRead, ReadOutcome};
use super::join::join_all;
use super::read_plan::{PendingRead, rows_checked};
use super::retry::Tries;
use super::update::too_late;
use crate::ids::{NodeId, TargetId};
use crate::payload::Payload;
use crate::routing::{ChainInfo, Routing};
use crate::sys::clock::{Instant, now};
use crate::sys::disk::BoxFuture;
use crate::transport::Reply;
use crate::wire::storage::BATCH_MAX_COUNT;
use crate::{Error, ErrorKind, Result, Retry};
use std::collections::BTreeMap;

/// Bytes of one request's reads; a single longer read still is one request. So much fits into a
/// slot of shared memory, and a reader works on one reply while the next is made.
const REQUEST_MAX_BYTES: u64 = 2 << 20;

type Settled = Vec<(usize, Result<ReadOutcome>)>;

impl ChainClient {
    /// Reads parts of chunks, in the order of `reads`, each with its own outcome.
    pub async fn batch_read(
        &self,
        reads: Vec<ChunkRead>,
        deadline: Instant,
    ) -> Vec<Result<ReadOutcome>> {
        let mut outcomes: Vec<Option<Result<ReadOutcome>>> = reads.iter().map(|_| None).collect();
        let mut pending = Vec::with_capacity(reads.len());
        for (index, read) in reads.into_iter().enumerate() {
            let short = read.sink.as_ref().is_some_and(|sink| sink.len() < read.len as usize);
            if short {
                let error = Error::invalid("a read's sink is shorter than the read");
                outcomes[index] = Some(Err(error.with("chunk", read.chunk)));
            } else {
                pending.push(PendingRead::new(index, read));
            }
        }
        let routing = self.peers.routing().current();
        let (groups, settled) = group(&routing, pending, &self.peers.latencies().slow_nodes());
        let runs = groups.into_iter().map(|(node, reads)| -> BoxFuture<'_, Settled> {
            Box::pin(self.read_group(node, reads, deadline))
        });
        let runs = join_all(runs.collect()).await;
        let unplaced = self.retry_reads(settled, deadline).await;
        for (index, outcome) in runs.into_iter().flatten().chain(unplaced) {
            outcomes[index] = Some(outcome);
        }
        let missing = || Err(Error::internal("a read was lost"));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
    }

    /// The first try of a group, and then the repeats of those that failed.
    async fn read_group(
        &self,
        node: NodeId,
        reads: Vec<PendingRead>,
        deadline: Instant,
    ) -> Settled {
        let mut tries = Tries::new(deadline);
        tries.begin();
        let (mut settled, failed) = self.read_once(node, reads, &tries).await;
        if !failed.is_empty() {
            settled.extend(self.retry_reads(failed, deadline).await);
        }
        settled
    }

    /// Repeats failed reads until each is settled.
    async fn retry_reads(&self, mut failed: Vec<PendingRead>, deadline: Instant) -> Settled {
        let routing = self.peers.routing();
        let mut tries = Tries::new(deadline);
        tries.begin();
        let mut settled = Settled::new();
        while !failed.is_empty() {
            tries.begin();
            let current = routing.current();
            let (groups, stuck) = group(&current, failed, &[]);
            let runs = groups.into_iter().map(|(node, reads)| -> BoxFuture<'_, _> {
                Box::pin(self.read_once(node, reads, &tries))
            });
            let runs = join_all(runs.collect()).await;
            failed = Vec::new();
            for (done, again) in runs {
                settled.extend(done);
                failed.extend(again);
            }
            if stuck.is_empty() {
                continue;
            }
            settled.extend(pause(&mut tries, routing, &current, stuck, &mut failed).await);
        }
        settled
    }

    /// One request; gives the settled reads, and those that may be tried again.
    async fn read_once(
        &self,
        node: NodeId,
        mut reads: Vec<PendingRead>,
        tries: &Tries,
    ) -> (Settled, Vec<PendingRead>) {
        let result = self.read_hedged(node, &mut reads, tries).await;
        let mut settled = Settled::new();
        let mut failed = Vec::new();
        match result.map_err(|error| tries.judge(error)) {
            Ok(outcomes) => {
                for (mut pending, outcome) in reads.into_iter().zip(outcomes) {
                    match outcome {
                        Err(error) if error.retry() != Retry::Never => {
                            pending.fail(error);
                            match pending.lost(&self.peers.routing().current()) {
                                Some(lost) => settled.push((pending.index, Err(lost))),
                                None => failed.push(pending),
                            }
                        }
                        outcome => settled.push((pending.index, outcome)),
                    }
                }
            }
            Err(error) => {
                for mut pending in reads {
                    pending.fail(error.clone());
                    failed.push(pending);
                }
                if error.retry() == Retry::Never {
                    let give_up = |pending: PendingRead| (pending.index, Err(error.clone()));
                    settled.extend(failed.drain(..).map(give_up));
                }
            }
        }
        (settled, failed)
    }
}

/// The outcomes of a reply, row by row.
pub(super) fn outcomes(
    reads: &mut [PendingRead],
    lens: &[u32],
    reply: &Reply,
) -> Result<Vec<Result<ReadOutcome>>> {
    let with_sinks = reads.first().is_some_and(|pending| pending.read.sink.is_some());
    let rows = if with_sinks {
        // The plan checked the lengths against the payload when it placed it.
        let rows: &[crate::wire::storage::ReadResult] =
            crate::wire::storage::decode_table(&reply.body)?;
        let total = rows.iter().map(|row| row.len.get() as usize).sum();
        rows_checked(&reply.body, lens, total)?
    } else {
        rows_checked(&reply.body, lens, reply.payload.len())?
    };
    let mut start = 0;
    let mut outcomes = Vec::with_capacity(rows.len());
    for (pending, row) in reads.iter_mut().zip(&rows) {
        let end = start + row.len.get() as usize;
        let bytes = if with_sinks { Payload::empty() } else { reply.payload.part(start..end) };
        outcomes.push(pending.outcome(row, bytes));
        start = end;
    }
    Ok(outcomes)
}

/// Reads by node, each aimed at a serving replica that has not failed it; and those without one.
fn group(
    routing: &Routing,
    reads: Vec<PendingRead>,
    slow: &[NodeId],
) -> (Vec<(NodeId, Vec<PendingRead>)>, Vec<PendingRead>) {
    let mut open: BTreeMap<(NodeId, bool), (Vec<PendingRead>, u64)> = BTreeMap::new();
    let mut full = Vec::new();
    let mut stuck = Vec::new();
    for mut pending in reads {
        let Some((target, node)) = aim(routing, &mut pending, slow) else {
            stuck.push(pending);
            continue;
        };
        pending.target = target;
        let key = (node, pending.read.sink.is_some());
        let (batch, bytes) = open.entry(key).or_default();
        let len = u64::from(pending.read.len);
        if !batch.is_empty() && (batch.len() == BATCH_MAX_COUNT || *bytes + len > REQUEST_MAX_BYTES)
        {
            full.push((node, std::mem::take(batch)));
            *bytes = 0;
        }
        *bytes += len;
        batch.push(pending);
    }
    full.extend(open.into_iter().map(|((node, _), (batch, _))| (node, batch)));
    (full, stuck)
}

fn aim(
    routing: &Routing,
    pending: &mut PendingRead,
    slow: &[NodeId],
) -> Option<(TargetId, NodeId)> {
    let chain = match routing.chain(pending.read.chain) {
        Ok(chain) => chain,
        Err(error) => {
            pending.error = Some(error);
            return None;
        }
    };
    let chosen = choose(chain, &pending.read, &pending.failed, slow);
    if chosen.is_none() {
        let error = || Error::new(ErrorKind::TargetNotServing, "no replica serves the chain");
        pending.error.get_or_insert_with(|| error().with("chain", pending.read.chain));
    }
    chosen
}

/// A serving replica that is not among the failed ones, and not slow if another one is there.
pub(super) fn choose(
    chain: &ChainInfo,
    read: &ChunkRead,
    failed: &[TargetId],
    slow: &[NodeId],
) -> Option<(TargetId, NodeId)> {
    let untried = || chain.serving().filter(|one| !failed.contains(&one.target));
    let quick = || untried().filter(|one| !slow.contains(&one.node));
    let at = if read.prefer_head { 0 } else { spread(&read.chunk.0) };
    let chosen = match quick().count() {
        0 => untried().nth(at % untried().count().max(1)),
        count => quick().nth(at % count),
    };
    chosen.map(|one| (one.target, one.node))
}

/// A number that spreads chunk ids; neighbouring chunks of a file differ.
fn spread(chunk: &[u8; 16]) -> usize {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = chunk.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    (hash >> 33) as usize
}

/// Waits once for all reads that have no replica left, and then lets them begin anew; those that
/// may not, or have no time, are settled with their error.
async fn pause(
    tries: &mut Tries,
    routing: &crate::routing::RoutingHandle,
    current: &Routing,
    stuck: Vec<PendingRead>,
    failed: &mut Vec<PendingRead>,
) -> Settled {
    let first = stuck.iter().find_map(|pending| pending.error.clone());
    let first = first.unwrap_or_else(|| too_late(None));
    let waited = tries.pause(routing, current.version, first).await;
    let mut settled = Settled::new();
    for mut pending in stuck {
        pending.forget_failed();
        match &waited {
            Ok(()) if now() < tries.deadline() => failed.push(pending),
            Ok(()) => settled.push((pending.index, Err(too_late(pending.error.as_ref())))),
            Err(error) => settled.push((pending.index, Err(error.clone()))),
        }
    }
    settled
}
