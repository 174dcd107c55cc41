//! Queries of chains: lists, stats and space.
//!
//! Why the tail is asked first: it commits first, so nothing that anybody saw is missing there.

use super::chain_client::ChainClient;
use super::join::join_all;
use super::retry::{Tries, while_useful};
use super::update::too_late;
use crate::ids::{ChainId, ChunkId, NodeId, TargetId};
use crate::routing::Routing;
use crate::sys::clock::{Instant, now};
use crate::sys::disk::BoxFuture;
use crate::transport::Request;
use crate::wire::storage::{
    BatchStatReply, BatchStatRequest, ChunkQuery, ChunkStat, ListChunksReply, ListChunksRequest,
    SpaceReply, TargetSpace,
};
use crate::wire::{MessageKind, decode, encode};
use crate::{Error, ErrorKind, Result, Retry};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// How long the first try may take before another replica is asked.
const TRY_MS: u64 = 1000;
/// Chunks of one request; a storage server takes no more.
const STAT_MAX_COUNT: usize = 16_384;

/// The chunks of one query in order, each with its own outcome.
type Stats = Result<Vec<Result<ChunkStat>>>;

impl ChainClient {
    /// The chunks of a key range, in order; backwards with `reverse`.
    ///
    /// # Errors
    /// `DeadlineExceeded`, or what the replicas answered for good.
    pub async fn list_chunks(
        &self,
        chain: ChainId,
        from: ChunkId,
        to: ChunkId,
        limit: u32,
        reverse: bool,
        deadline: Instant,
    ) -> Result<ListChunksReply> {
        let message = |routing: &Routing, target: TargetId| -> Result<Bytes> {
            let chain_version = routing.chain(chain)?.version;
            let request =
                ListChunksRequest { chain, chain_version, target, from, to, limit, reverse };
            Ok(encode(&request))
        };
        self.query(chain, MessageKind::ListChunks, message, decode, deadline).await
    }

    /// What is committed of some chunks, in their order; version 0 where a chunk does not exist.
    /// One round trip a node; a chain whose tail does not answer is asked again by itself.
    pub async fn batch_stat(
        &self,
        chunks: &[(ChainId, ChunkId)],
        deadline: Instant,
    ) -> Vec<Result<ChunkStat>> {
        let mut by_chain: BTreeMap<ChainId, Vec<usize>> = BTreeMap::new();
        for (index, (chain, _)) in chunks.iter().enumerate() {
            by_chain.entry(*chain).or_default().push(index);
        }
        let ids_of = |indexes: &Vec<usize>| indexes.iter().map(|index| chunks[*index].1).collect();
        let asked = by_chain.iter().map(|(chain, indexes)| (*chain, ids_of(indexes))).collect();
        let mut found = self.stat_tails(asked, deadline).await;
        let rest: Vec<ChainId> =
            by_chain.keys().copied().filter(|chain| !found.contains_key(chain)).collect();
        let runs = rest.iter().map(|chain| -> BoxFuture<'_, _> {
            Box::pin(self.stat_chain(*chain, ids_of(&by_chain[chain]), deadline))
        });
        let replies = join_all(runs.collect()).await;
        found.extend(rest.iter().copied().zip(replies));
        let mut stats: Vec<Option<Result<ChunkStat>>> = chunks.iter().map(|_| None).collect();
        for (chain, indexes) in &by_chain {
            for (position, index) in indexes.iter().enumerate() {
                stats[*index] = found.get(chain).map(|reply| match reply {
                    Ok(found) => found[position].clone(),
                    Err(error) => Err(error.clone()),
                });
            }
        }
        let missing = || Err(Error::internal("a stat was lost"));
        stats.into_iter().map(|stat| stat.unwrap_or_else(missing)).collect()
    }

    /// Asks the tails of all chains, in one request a node; only what was answered comes back.
    async fn stat_tails(
        &self,
        asked: Vec<(ChainId, Vec<ChunkId>)>,
        deadline: Instant,
    ) -> BTreeMap<ChainId, Stats> {
        let routing = self.peers.routing().current();
        let mut requests: BTreeMap<NodeId, Vec<Vec<ChunkQuery>>> = BTreeMap::new();
        for (chain, chunks) in asked {
            let Some((info, tail)) =
                routing.chain(chain).ok().and_then(|info| Some((info, info.tail()?)))
            else {
                continue;
            };
            let (chain_version, target) = (info.version, tail.target);
            let query = ChunkQuery { chain, chain_version, target, chunks };
            let node = requests.entry(tail.node).or_default();
            let count = |queries: &Vec<ChunkQuery>| -> usize {
                queries.iter().map(|query| query.chunks.len()).sum()
            };
            match node.last_mut() {
                Some(last) if count(last) + query.chunks.len() <= STAT_MAX_COUNT => {
                    last.push(query)
                }
                _ => node.push(vec![query]),
            }
        }
        let flat =
            requests.into_iter().flat_map(|(node, list)| list.into_iter().map(move |q| (node, q)));
        let runs = flat.map(|(node, queries)| -> BoxFuture<'_, _> {
            Box::pin(self.stat_node(node, queries, deadline))
        });
        join_all(runs.collect()).await.into_iter().flatten().collect()
    }

    async fn stat_node(
        &self,
        node: NodeId,
        queries: Vec<ChunkQuery>,
        deadline: Instant,
    ) -> Vec<(ChainId, Stats)> {
        let asked: Vec<(ChainId, usize)> =
            queries.iter().map(|query| (query.chain, query.chunks.len())).collect();
        let limit = Tries::new(deadline).try_deadline(TRY_MS);
        let body = encode(&BatchStatRequest { queries, alone: true });
        let request = Request::new(MessageKind::BatchStat, body, limit);
        let Ok(body) = self.query_node(node, request).await else { return Vec::new() };
        let Ok(reply) = decode::<BatchStatReply>(&body) else { return Vec::new() };
        // A chain with a chunk that failed is asked again by itself.
        let failed: BTreeSet<u32> = reply.failed.iter().map(|one| one.query).collect();
        let answers = asked.into_iter().zip(reply.results).zip(0_u32..);
        let whole = answers.filter_map(|(((chain, count), answer), index)| match answer {
            Ok(stats) if stats.len() == count && !failed.contains(&index) => {
                Some((chain, Ok(stats.into_iter().map(Ok).collect())))
            }
            _ => None,
        });
        whole.collect()
    }

    async fn stat_chain(&self, chain: ChainId, ids: Vec<ChunkId>, deadline: Instant) -> Stats {
        // While it may help, another replica is asked; then the others are answered for.
        let last_chance = now() + deadline.saturating_duration_since(now()) / 2;
        let message = |routing: &Routing, target: TargetId| -> Result<Bytes> {
            let chain_version = routing.chain(chain)?.version;
            let query = ChunkQuery { chain, chain_version, target, chunks: ids.clone() };
            Ok(encode(&BatchStatRequest { queries: vec![query], alone: true }))
        };
        let answer = |body: &[u8]| -> Stats {
            let reply: BatchStatReply = decode(body)?;
            let errors = reply.failed.iter().map(|one| Error::from_wire(one.error.clone()));
            let mut transient = errors.filter(|error| error.retry() != Retry::Never);
            if let Some(error) = transient.next().filter(|_| now() < last_chance) {
                return Err(error);
            }
            let first = reply.results.into_iter().next();
            match first {
                Some(Ok(stats)) if stats.len() == ids.len() => {
                    let mut stats: Vec<Result<ChunkStat>> = stats.into_iter().map(Ok).collect();
                    for failed in reply.failed {
                        if let Some(stat) = stats.get_mut(failed.chunk as usize) {
                            *stat = Err(Error::from_wire(failed.error));
                        }
                    }
                    Ok(stats)
                }
                Some(Err(wire)) => Err(Error::from_wire(wire)),
                _ => Err(Error::new(ErrorKind::FrameInvalid, "a stat reply has the wrong length")),
            }
        };
        self.query(chain, MessageKind::BatchStat, message, answer, deadline).await
    }

    /// Space of all targets of all living storage nodes that answer.
    ///
    /// # Errors
    /// The error of a node when none answers; `ClusterNotReady` when there is none.
    pub async fn space(&self, deadline: Instant) -> Result<Vec<TargetSpace>> {
        let routing = self.peers.routing().current();
        let stores = routing
            .nodes
            .iter()
            .filter(|node| node.alive && node.roles.iter().any(|role| role == "storage"));
        let runs = stores.map(|node| -> BoxFuture<'_, Result<SpaceReply>> {
            let id = node.id;
            Box::pin(async move {
                let limit = Tries::new(deadline).try_deadline(TRY_MS);
                let request = Request::new(MessageKind::Space, Bytes::new(), limit);
                decode(&self.peers.call_node(id, request).await?.body)
            })
        });
        let replies = join_all(runs.collect()).await;
        let mut last = Error::new(ErrorKind::ClusterNotReady, "no storage node is alive");
        let mut targets = None;
        for reply in replies {
            match reply {
                Ok(reply) => targets.get_or_insert_with(Vec::new).extend(reply.targets),
                Err(error) => last = error,
            }
        }
        targets.ok_or(last)
    }

    /// Asks the replicas of a chain, the tail first, until one answers.
    async fn query<T>(
        &self,
        chain: ChainId,
        kind: MessageKind,
        message: impl Fn(&Routing, TargetId) -> Result<Bytes> + Sync,
        answer: impl Fn(&[u8]) -> Result<T> + Sync,
        deadline: Instant,
    ) -> Result<T> {
        let routing = self.peers.routing();
        let mut tries = Tries::new(deadline);
        let mut failed: Vec<TargetId> = Vec::new();
        let mut last: Option<Error> = None;
        loop {
            if now() >= deadline {
                return Err(too_late(last.as_ref()).with("chain", chain));
            }
            tries.begin();
            let current = routing.current();
            let info = current.chain(chain);
            let untried = info.as_ref().ok().and_then(|info| {
                info.serving().rev().find(|one| !failed.contains(&one.target)).copied()
            });
            let Some(replica) = untried else {
                let nobody = || Error::new(ErrorKind::TargetNotServing, "nobody serves the chain");
                let error = last.clone().unwrap_or_else(nobody).with("chain", chain);
                tries.pause(routing, current.version, error).await?;
                failed.clear();
                continue;
            };
            let limit = tries.try_deadline(TRY_MS);
            let request = Request::new(kind, message(&current, replica.target)?, limit);
            let result =
                self.query_node(replica.node, request).await.and_then(|body| answer(&body));
            match result.map_err(|error| tries.judge(error)) {
                Ok(reply) => return Ok(reply),
                Err(error) if error.retry() == Retry::Never => return Err(error),
                Err(error) => last = Some(error),
            }
            failed.push(replica.target);
        }
    }

    async fn query_node(&self, node: NodeId, request: Request) -> Result<Bytes> {
        let call = self.peers.call_node(node, request);
        Ok(while_useful(self.peers.routing(), node, |_| true, call).await?.body)
    }
}
