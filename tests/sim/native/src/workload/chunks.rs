//! Updates and reads of chunks.

use super::{CHUNK_MAX_BYTES, Client, FILE_TABLE, chunk_id, not_done};
use crate::history::{Begun, Deed, Outcome, Seen};
use crate::plan::{BatchItem, Change, Place, marker};
use bytes::Bytes;
use firepond_core::checksum::crc32c;
use firepond_core::ids::{ChainId, ChunkId};
use firepond_core::payload::Payload;
use firepond_core::peer::{ChunkRead, ChunkUpdate, ReadOutcome};
use firepond_core::sys::clock::{Instant, now};
use firepond_core::transport::Request;
use firepond_core::wire::MessageKind;
use firepond_core::wire::storage::{ReadIo, ReadResult, UpdateKind, decode_table, encode_table};
use firepond_core::{Error, ErrorKind, Result};
use std::time::Duration;

/// A chunk number that nobody writes.
const ABSENT_NUMBER: u32 = 1 << 20;
/// A chain that is in no table.
const NO_CHAIN: ChainId = ChainId(4_000_000);
/// How long one replica may take to answer: shorter than the test's patience with the whole.
const ONE_REPLICA: Duration = Duration::from_secs(2);

impl Client<'_> {
    /// The chain of a slot of the file table.
    fn chain(&self, slot: u32) -> Result<ChainId> {
        let routing = self.handles.chains.peers().routing().current();
        let table = routing.table_newest(FILE_TABLE)?;
        let chain = table.chains.get(slot as usize).copied();
        chain.ok_or_else(|| Error::new(ErrorKind::ClusterNotReady, "the table has no such slot"))
    }

    pub(super) async fn update(
        &self,
        entry: u32,
        place: Place,
        change: Change,
        deadline: Instant,
    ) -> Deed {
        let Ok(chain) = self.chain(place.slot) else { return not_done("no chain") };
        let update = made(chunk_id(place.number), entry, change);
        let result = self.handles.chains.update(chain, update, deadline).await;
        let outcome = match result {
            Ok(reply) => Outcome::Version(reply.version.0),
            Err(error) if error.kind() == ErrorKind::ChunkExists => Outcome::Exists,
            Err(_) => Outcome::Unknown,
        };
        Deed::Update { place, change, outcome }
    }

    /// A read as any client does it, with fail-over.
    pub(super) async fn read_any(&self, place: Place, head: bool, deadline: Instant) -> Deed {
        let Ok(chain) = self.chain(place.slot) else { return not_done("no chain") };
        let read = whole(chain, chunk_id(place.number), head);
        let outcome = self.handles.chains.batch_read(vec![read], deadline).await.pop();
        let outcome = outcome.unwrap_or_else(|| Err(Error::internal("a read was lost")));
        let seen = seen(outcome).await;
        Deed::Read { place, offset: 0, len: CHUNK_MAX_BYTES, seen }
    }

    /// A read of one replica, whichever state it is in.
    pub(super) async fn read_one(&self, place: Place, member: u32, deadline: Instant) -> Deed {
        let Ok(chain) = self.chain(place.slot) else { return not_done("no chain") };
        let deadline = deadline.min(now() + ONE_REPLICA);
        let seen = match self.read_member(chain, member, chunk_id(place.number), deadline).await {
            Ok(seen) => seen,
            Err(error) => Seen::Failed(error.kind()),
        };
        Deed::Read { place, offset: 0, len: CHUNK_MAX_BYTES, seen }
    }

    async fn read_member(
        &self,
        chain: ChainId,
        member: u32,
        chunk: ChunkId,
        deadline: Instant,
    ) -> Result<Seen> {
        let routing = self.handles.chains.peers().routing().current();
        let info = routing.chain(chain)?;
        let target = info.targets[member as usize % info.targets.len()];
        let io = ReadIo {
            chunk: chunk.0,
            chain: chain.0.into(),
            chain_version: info.version.0.into(),
            offset: 0.into(),
            len: CHUNK_MAX_BYTES.into(),
            target: target.target.0.into(),
            flags: 0.into(),
            reserved: 0.into(),
        };
        let request = Request::new(MessageKind::BatchRead, encode_table(&[io]), deadline);
        let reply = self.handles.chains.peers().call_node(target.node, request).await?;
        let results = decode_table::<ReadResult>(&reply.body)?;
        let bytes = Bytes::copy_from_slice(reply.payload.complete().await?);
        let row = results.first().ok_or_else(|| Error::internal("an empty reply"))?;
        match row.status.get() {
            0 if crc32c(&bytes) != row.checksum.get() => {
                Err(Error::new(ErrorKind::PayloadChecksumMismatch, "changed on its way"))
            }
            0 => Ok(Seen::Chunk {
                version: row.version.get(),
                bytes,
                chunk_len: row.chunk_len.get(),
            }),
            code if code == ErrorKind::ChunkNotFound as u16 => Ok(Seen::Nothing),
            _ => Err(Error::new(ErrorKind::TargetNotServing, "the replica refused")),
        }
    }

    /// A batch of good and bad reads: each has an outcome of its own.
    pub(super) async fn batch(&self, items: &[BatchItem], begun: Begun, deadline: Instant) -> Deed {
        let chain = |slot: u32| self.chain(slot).unwrap_or(NO_CHAIN);
        let reads = items.iter().map(|item| match *item {
            BatchItem::Whole(place) => whole(chain(place.slot), chunk_id(place.number), false),
            BatchItem::Part { place, offset, len } => {
                let whole = whole(chain(place.slot), chunk_id(place.number), false);
                ChunkRead { offset, len, ..whole }
            }
            BatchItem::Absent { slot } => whole(chain(slot), chunk_id(ABSENT_NUMBER), false),
            BatchItem::NoChain => whole(NO_CHAIN, chunk_id(0), false),
        });
        // A chain that does not exist is looked for until the deadline: not for long, here.
        let deadline = deadline.min(now() + ONE_REPLICA);
        let outcomes = self.handles.chains.batch_read(reads.collect(), deadline).await;
        for (item, outcome) in items.iter().zip(outcomes) {
            let seen = seen(outcome).await;
            let deed = match *item {
                BatchItem::Whole(place) => {
                    Deed::Read { place, offset: 0, len: CHUNK_MAX_BYTES, seen }
                }
                BatchItem::Part { place, offset, len } => Deed::Read { place, offset, len, seen },
                item => Deed::BadRead { item, seen },
            };
            self.history.part(begun, deed);
        }
        Deed::Names("end of the batch".to_owned())
    }
}

fn whole(chain: ChainId, chunk: ChunkId, prefer_head: bool) -> ChunkRead {
    ChunkRead { chain, chunk, offset: 0, len: CHUNK_MAX_BYTES, sink: None, prefer_head }
}

async fn seen(outcome: Result<ReadOutcome>) -> Seen {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) if error.kind() == ErrorKind::ChunkNotFound => return Seen::Nothing,
        Err(error) => return Seen::Failed(error.kind()),
    };
    match outcome.bytes.complete().await {
        Ok(bytes) => Seen::Chunk {
            version: outcome.version.0,
            bytes: Bytes::copy_from_slice(bytes),
            chunk_len: outcome.chunk_len,
        },
        Err(error) => Seen::Failed(error.kind()),
    }
}

fn made(chunk: ChunkId, entry: u32, change: Change) -> ChunkUpdate {
    let (kind, offset, len, bytes) = match change {
        Change::Write { offset, len } => (UpdateKind::Write, offset, len, marker(entry, len)),
        Change::Replace { len } => (UpdateKind::Replace, 0, len, marker(entry, len)),
        Change::Create { len } => (UpdateKind::Create, 0, len, marker(entry, len)),
        Change::Truncate { len } => (UpdateKind::Truncate, 0, len, Vec::new()),
        Change::Remove => (UpdateKind::Remove, 0, 0, Vec::new()),
    };
    let bytes = Bytes::from(bytes);
    ChunkUpdate {
        chunk,
        kind,
        offset,
        len,
        checksum: crc32c(&bytes),
        payload: Payload::from_bytes(bytes),
        chunk_len_max: CHUNK_MAX_BYTES,
        tag: [0; 32],
    }
}
