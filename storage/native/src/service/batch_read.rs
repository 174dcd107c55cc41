//! `BatchRead`: the hot path. One request, many reads, one reply; each read has its own status.
//!
//! Invariants: the payload parts are in the order of the I/Os and are sent without a copy; bytes of
//! reads in flight are bounded over all requests, and are taken all at once, so that two batches
//! never wait for each other.

use super::handler::StorageService;
use super::join::join_bounded;
use super::targets::find_in;
use crate::chain::{Backend, Replica};
use crate::store::{ReadImage, ReadVersion};
use firepond_core::ids::{ChainId, ChunkId, TargetId};
use firepond_core::payload::Payload;
use firepond_core::routing::Routing;
use firepond_core::sys::clock::{Instant, timeout_at};
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::transport::{IncomingRequest, OutgoingReply};
use firepond_core::wire::storage::{
    READ_FLAG_NEWEST, READ_FLAG_RELAXED, ReadIo, ReadResult, decode_table, encode_table,
};
use firepond_core::wire::{CHUNK_MAX_BYTES, PAYLOAD_MAX_BYTES};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Reads of one batch that wait for the disk at the same time.
const CONCURRENT_COUNT: usize = 64;
/// The unit in which bytes in flight are counted.
pub(super) const BUDGET_UNIT_BYTES: usize = 4096;

impl<B: Backend> StorageService<B> {
    /// Answers a batch of reads.
    ///
    /// # Errors
    /// Only for the batch as a whole: it does not decode, or its deadline passed while it waited.
    pub(super) async fn batch_read(&self, request: &IncomingRequest) -> Result<OutgoingReply> {
        let ios = decode_table::<ReadIo>(&request.body)?;
        let lens = ios.iter().map(|io| (io.len.get() as usize).min(CHUNK_MAX_BYTES));
        let units: usize = lens.map(|len| len.div_ceil(BUDGET_UNIT_BYTES)).sum();
        let units = units.min(self.read_units) as u32;
        let waiting = timeout_at(request.deadline, self.read_budget.acquire_many(units)).await;
        let Some(Ok(_budget)) = waiting else {
            return Err(Error::new(ErrorKind::PeerOverloaded, "too many bytes of reads in flight"));
        };
        let routing = self.node.peers.routing().current();
        let targets = self.targets.all();
        let mut total = 0_usize;
        let deadline = request.deadline;
        let reads = ios.iter().map(|io| {
            total = total.saturating_add(io.len.get() as usize);
            let fits = total <= PAYLOAD_MAX_BYTES;
            let (targets, routing) = (&targets, &routing);
            async move {
                if !fits {
                    return Err(Error::invalid("the batch is longer than a payload may be"));
                }
                let target = TargetId(io.target.get());
                let replica = find_in(targets, ChainId(io.chain.get()), target)?;
                read_one(&replica, routing, io, deadline).await
            }
        });
        let mut results = join_bounded(reads, CONCURRENT_COUNT).await;
        if planted(Mistake::BatchFailsAsOne)
            && let Some(error) = results.iter().find_map(|result| result.as_ref().err().cloned())
        {
            results.iter_mut().for_each(|result| *result = Err(error.clone()));
        }
        Ok(reply(results))
    }
}

async fn read_one<B: Backend>(
    replica: &Arc<Replica<B>>,
    routing: &Routing,
    io: &ReadIo,
    deadline: Instant,
) -> Result<ReadImage> {
    let (chunk, offset, len) = (ChunkId(io.chunk), io.offset.get(), io.len.get());
    if len as usize > CHUNK_MAX_BYTES {
        return Err(Error::invalid("the read is longer than a chunk").with("len", len));
    }
    if io.flags.get() & READ_FLAG_RELAXED != 0 {
        let newest = io.flags.get() & READ_FLAG_NEWEST != 0;
        let which = if newest { ReadVersion::Newest } else { ReadVersion::Committed };
        return replica.read_relaxed(chunk, which, offset, len).await;
    }
    let standing = replica.standing_in(routing);
    replica.read(&standing, chunk, offset, len, deadline).await
}

fn reply(results: Vec<Result<ReadImage>>) -> OutgoingReply {
    let mut rows = Vec::with_capacity(results.len());
    let mut payload: Vec<Payload> = Vec::with_capacity(results.len());
    for result in results {
        match result {
            Ok(image) => {
                rows.push(row(&image));
                if !image.payload.is_empty() {
                    payload.push(image.payload);
                }
            }
            Err(error) => {
                if error.kind() != ErrorKind::ChunkNotFound {
                    tracing::debug!(%error, "a read of a batch failed");
                }
                rows.push(failed(&error));
            }
        }
    }
    OutgoingReply { body: encode_table(&rows), payload }
}

fn row(image: &ReadImage) -> ReadResult {
    ReadResult {
        status: 0.into(),
        reserved: 0.into(),
        len: (image.payload.len() as u32).into(),
        checksum: image.checksum.into(),
        chunk_len: image.chunk_len.into(),
        version: image.version.0.into(),
        tag: image.tag,
        reserved_more: [0; 16],
    }
}

fn failed(error: &Error) -> ReadResult {
    ReadResult {
        status: (error.kind() as u16).into(),
        reserved: 0.into(),
        len: 0.into(),
        checksum: 0.into(),
        chunk_len: 0.into(),
        version: 0.into(),
        tag: [0; 32],
        reserved_more: [0; 16],
    }
}
