//! A read request that is asked of second replicas, too, when its answer takes long.
//!
//! Why: one slow disk or a paused process must not be every client's slowest per cent. Why the
//! second answer lands in memory of its own: the first replica may still be writing into the
//! caller's; its call is over before the bytes are copied.
//! Invariants: the first complete answer wins and the other calls are dropped; a second replica's
//! failure harms nothing; requests stay within the budget of `latency`.

use super::chain_client::{ChainClient, ReadOutcome};
use super::join::join_all;
use super::read::{choose, outcomes};
use super::read_plan::{PendingRead, ReadSinks, rows_checked};
use super::retry::{Tries, while_useful};
use crate::Result;
use crate::ids::{NodeId, TargetId};
use crate::payload::Payload;
use crate::sys::clock::{now, timeout_at};
use crate::sys::disk::BoxFuture;
use crate::transport::{Reply, Request};
use crate::wire::MessageKind;
use crate::wire::storage::encode_table;
use std::collections::BTreeMap;

/// How long the first try may take before another replica is asked.
const TRY_MS: u64 = 1000;

/// One read for a second replica: its position in the request, and whom it asks.
type Spare = (usize, TargetId);
/// The answers of second replicas.
type SpareReplies = Vec<(Vec<Spare>, Reply)>;

impl ChainClient {
    /// One request to `node`, and what came of each of its reads.
    pub(super) async fn read_hedged(
        &self,
        node: NodeId,
        reads: &mut [PendingRead],
        tries: &Tries,
    ) -> Result<Vec<Result<ReadOutcome>>> {
        let lens: Vec<u32> = reads.iter().map(|pending| pending.read.len).collect();
        let total = lens.iter().map(|len| *len as usize).sum();
        let latencies = self.peers.latencies();
        let (begin, delay) = (now(), latencies.begin(total));
        let mut first: BoxFuture<'_, _> = Box::pin(self.first_call(node, reads, &lens, tries));
        let reply = match timeout_at(begin + delay, first.as_mut()).await {
            Some(reply) => reply,
            None => match self.spare_calls(reads, tries) {
                None => first.await,
                Some(spare) => {
                    let mut spare = std::pin::pin!(spare);
                    tokio::select! {
                        biased;
                        reply = first.as_mut() => reply,
                        replies = spare.as_mut() => match replies {
                            Err(_) => first.await,
                            Ok(replies) => {
                                drop(first);
                                let waited = now().saturating_duration_since(begin);
                                latencies.observe(node, total, waited);
                                latencies.note_won();
                                return land(reads, replies);
                            }
                        },
                    }
                }
            },
        };
        let reply = reply?;
        latencies.observe(node, total, now().saturating_duration_since(begin));
        outcomes(reads, &lens, &reply)
    }

    /// The request whose bytes go straight into the sinks.
    fn first_call(
        &self,
        node: NodeId,
        reads: &[PendingRead],
        lens: &[u32],
        tries: &Tries,
    ) -> impl Future<Output = Result<Reply>> + Send + use<'_> {
        let routing = self.peers.routing();
        let current = routing.current();
        let rows: Vec<_> = reads.iter().map(|pending| pending.row(&current)).collect();
        let deadline = tries.try_deadline(TRY_MS);
        let mut request = Request::new(MessageKind::BatchRead, encode_table(&rows), deadline);
        request.reply_bytes_max = lens.iter().map(|len| *len as usize).sum();
        let slices: Vec<_> = reads
            .iter()
            .filter_map(|pending| pending.read.sink.as_ref())
            // SAFETY: the original slice is not touched before the call, which gets this one,
            // ended.
            .map(|sink| unsafe { sink.lend() })
            .collect();
        if !slices.is_empty() {
            request.sink = Some(Box::new(ReadSinks { lens: lens.to_vec(), slices }));
        }
        let call = self.peers.call_node(node, request);
        while_useful(routing, node, |_| true, call)
    }

    /// The same reads, asked of other replicas; `None` without others or without budget.
    fn spare_calls(
        &self,
        reads: &[PendingRead],
        tries: &Tries,
    ) -> Option<impl Future<Output = Result<SpareReplies>> + Send + use<'_>> {
        let current = self.peers.routing().current();
        let slow = self.peers.latencies().slow_nodes();
        let mut groups: BTreeMap<NodeId, Vec<Spare>> = BTreeMap::new();
        for (index, pending) in reads.iter().enumerate() {
            let mut avoided = pending.failed.clone();
            avoided.push(pending.target);
            let chain = current.chain(pending.read.chain).ok()?;
            let (target, node) = choose(chain, &pending.read, &avoided, &slow)?;
            groups.entry(node).or_default().push((index, target));
        }
        if !self.peers.latencies().take_budget(groups.len()) {
            return None;
        }
        let deadline = tries.try_deadline(TRY_MS);
        let calls = groups.into_iter().map(|(node, spares)| -> BoxFuture<'_, _> {
            let rows: Vec<_> =
                spares.iter().map(|(index, to)| reads[*index].row_to(&current, *to)).collect();
            let total = spares.iter().map(|(index, _)| reads[*index].read.len as usize).sum();
            let mut request = Request::new(MessageKind::BatchRead, encode_table(&rows), deadline);
            request.reply_bytes_max = total;
            Box::pin(async move {
                let begin = now();
                let reply = self.peers.call_node(node, request).await?;
                self.peers.latencies().observe(node, total, now().saturating_duration_since(begin));
                Ok((spares, reply))
            })
        });
        let calls = join_all(calls.collect());
        Some(async move { calls.await.into_iter().collect() })
    }
}

/// Puts the answers of second replicas where the reads want them.
fn land(reads: &mut [PendingRead], replies: SpareReplies) -> Result<Vec<Result<ReadOutcome>>> {
    let mut landed: BTreeMap<usize, Result<ReadOutcome>> = BTreeMap::new();
    for (spares, reply) in replies {
        let lens: Vec<u32> = spares.iter().map(|(index, _)| reads[*index].read.len).collect();
        let rows = rows_checked(&reply.body, &lens, reply.payload.len())?;
        let mut start = 0;
        for ((index, target), row) in spares.into_iter().zip(&rows) {
            let end = start + row.len.get() as usize;
            let bytes: Payload = reply.payload.part(start..end);
            reads[index].target = target;
            landed.insert(index, reads[index].land(row, bytes));
            start = end;
        }
    }
    assert_eq!(landed.len(), reads.len(), "every read was asked once more");
    Ok(landed.into_values().collect())
}
