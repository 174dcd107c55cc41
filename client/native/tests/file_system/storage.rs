//! A storage node in memory: one replica, no disk, faults on demand.

use bytes::Bytes;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{ChainVersion, ChunkId, ChunkVersion, WriteId};
use firepond_core::payload::Payload;
use firepond_core::sys::clock;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::transport::{Handler, IncomingRequest, OutgoingReply};
use firepond_core::wire::storage::{
    BatchStatReply, BatchStatRequest, ChunkStat, ListChunksReply, ListChunksRequest, ReadIo,
    ReadResult, SpaceReply, UpdateKind, UpdateReply, UpdateRequest, decode_table, encode_table,
};
use firepond_core::wire::{MessageKind, decode, encode};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Chunks by id, and what goes wrong.
#[derive(Default)]
pub(crate) struct Storage {
    chunks: Mutex<BTreeMap<ChunkId, (u64, Vec<u8>)>>,
    seen: Mutex<HashMap<WriteId, UpdateReply>>,
    /// Updates wait while this is set.
    pub(crate) blocked: AtomicBool,
    /// So many updates are done, but their replies are lost.
    pub(crate) lose_replies: AtomicU32,
    /// Updates fail for good while this is set.
    pub(crate) full: AtomicBool,
    pub(crate) update_count: AtomicU64,
    pub(crate) read_count: AtomicU64,
}

impl Storage {
    async fn answer(&self, request: IncomingRequest) -> Result<OutgoingReply> {
        match request.kind {
            MessageKind::Update => self.update(request).await,
            MessageKind::BatchRead => self.read(decode_table(&request.body)?),
            MessageKind::ListChunks => self.list(&decode(&request.body)?),
            MessageKind::BatchStat => self.stat(&decode(&request.body)?),
            MessageKind::Space => {
                Ok(OutgoingReply::body(encode(&SpaceReply { targets: Vec::new() })))
            }
            kind => Err(Error::invalid(format!("unexpected: {kind:?}"))),
        }
    }

    async fn update(&self, request: IncomingRequest) -> Result<OutgoingReply> {
        while self.blocked.load(Ordering::SeqCst) {
            clock::sleep(Duration::from_millis(2)).await;
        }
        if self.full.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::DiskFull, "told to"));
        }
        let update: UpdateRequest = decode(&request.body)?;
        let payload = request.payload.complete().await?;
        assert_eq!(crc32c(payload), update.checksum, "the checksum is that of the payload");
        let known = self.seen.lock().get(&update.write_id).copied();
        let reply = match known {
            Some(reply) => reply,
            None => {
                let reply = self.apply(&update, payload);
                self.seen.lock().insert(update.write_id, reply);
                self.update_count.fetch_add(1, Ordering::SeqCst);
                reply
            }
        };
        let lose = |left: u32| left.checked_sub(1);
        if self.lose_replies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
            return Err(Error::new(ErrorKind::PeerUnreachable, "the reply was lost"));
        }
        Ok(OutgoingReply::body(encode(&reply)))
    }

    fn apply(&self, update: &UpdateRequest, payload: &[u8]) -> UpdateReply {
        let mut chunks = self.chunks.lock();
        if update.kind == UpdateKind::Remove {
            chunks.remove(&update.chunk);
        } else {
            let (version, bytes) = chunks.entry(update.chunk).or_default();
            let (offset, len) = (update.offset as usize, update.len as usize);
            match update.kind {
                UpdateKind::PunchHole | UpdateKind::Fence => {
                    let end = (offset + len).min(bytes.len());
                    bytes[offset.min(end)..end].fill(0);
                }
                UpdateKind::Truncate => bytes.resize(len, 0),
                UpdateKind::Replace | UpdateKind::Create => *bytes = payload.to_vec(),
                UpdateKind::Write | UpdateKind::Remove => {
                    bytes.resize(bytes.len().max(offset + len), 0);
                    bytes[offset..offset + len].copy_from_slice(payload);
                }
            }
            assert!(bytes.len() <= update.chunk_len_max as usize, "a chunk keeps its bound");
            *version += 1;
        }
        let (version, bytes) = chunks.get(&update.chunk).cloned().unwrap_or_default();
        UpdateReply {
            version: ChunkVersion(version),
            chain_version: ChainVersion(1),
            checksum: crc32c(&bytes),
            len: bytes.len() as u32,
        }
    }

    fn read(&self, rows: &[ReadIo]) -> Result<OutgoingReply> {
        self.read_count.fetch_add(1, Ordering::SeqCst);
        let chunks = self.chunks.lock();
        let (mut results, mut payload) = (Vec::new(), Vec::new());
        for row in rows {
            let found = chunks.get(&ChunkId(row.chunk));
            let (version, bytes) = found.map_or((0, &[][..]), |(version, bytes)| (*version, bytes));
            let start = (row.offset.get() as usize).min(bytes.len());
            let end = (start + row.len.get() as usize).min(bytes.len());
            let part = Bytes::copy_from_slice(&bytes[start..end]);
            let status = if found.is_none() { ErrorKind::ChunkNotFound as u16 } else { 0 };
            results.push(ReadResult {
                status: status.into(),
                reserved: 0.into(),
                len: (part.len() as u32).into(),
                checksum: crc32c(&part).into(),
                chunk_len: (bytes.len() as u32).into(),
                version: version.into(),
                tag: [0; 32],
                reserved_more: [0; 16],
            });
            payload.push(Payload::from_bytes(part));
        }
        Ok(OutgoingReply { body: encode_table(&results), payload })
    }

    fn list(&self, request: &ListChunksRequest) -> Result<OutgoingReply> {
        let chunks = self.chunks.lock();
        let range = chunks.range(request.from..request.to);
        let mut found: Vec<ChunkStat> = range.map(|(id, chunk)| stat_of(*id, chunk)).collect();
        if request.reverse {
            found.reverse();
        }
        let more = found.len() > request.limit as usize;
        found.truncate(request.limit as usize);
        Ok(OutgoingReply::body(encode(&ListChunksReply { chunks: found, more })))
    }

    fn stat(&self, request: &BatchStatRequest) -> Result<OutgoingReply> {
        let chunks = self.chunks.lock();
        let of = |id: &ChunkId| stat_of(*id, chunks.get(id).unwrap_or(&(0, Vec::new())));
        let queries = request.queries.iter();
        let results = queries.map(|query| Ok(query.chunks.iter().map(of).collect())).collect();
        Ok(OutgoingReply::body(encode(&BatchStatReply { results, failed: vec![] })))
    }
}

fn stat_of(chunk: ChunkId, (version, bytes): &(u64, Vec<u8>)) -> ChunkStat {
    ChunkStat {
        chunk,
        version: ChunkVersion(*version),
        len: bytes.len() as u32,
        checksum: crc32c(bytes),
        tag: [0; 32],
    }
}

/// The handler of a shared node.
pub(crate) struct Shared(pub(crate) Arc<Storage>);

impl Handler for Shared {
    fn handle(&self, request: IncomingRequest) -> BoxFuture<'_, Result<OutgoingReply>> {
        Box::pin(self.0.answer(request))
    }
}
