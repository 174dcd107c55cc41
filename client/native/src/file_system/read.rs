//! Reads: a range becomes parts of chunks, which are read in one batch straight into the caller's
//! memory.
//!
//! Why the dirty bytes are taken first: an extent that is acknowledged while we read is then either
//! in our hands or already in the chunk; the other way round it could be in neither. Invariants: a
//! chunk that is absent or short reads as zeros; nothing is read beyond the file's size; one failed
//! read of a batch fails alone.

use super::Inner;
use super::chunk_map::{chain_of, chunk_id, pieces};
use super::destination::Destination;
use super::inode_state::{InodeState, ReadView};
use firepond_core::peer::{ChunkRead, ReadOutcome};
use firepond_core::sys::clock::{self, Instant};
use firepond_core::wire::meta::{Credentials, MetaReply, Operation};
use firepond_core::{ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// How old what is known of a file may become while it is read: the bound after which another
/// client's truncation is seen.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
/// How long a read waits to learn of it. Data stays readable while the metadata service is away.
const FOLLOW_PATIENCE: Duration = Duration::from_millis(200);

/// One read of a batch.
pub(super) struct FileRead {
    /// The file.
    pub(super) state: Arc<InodeState>,
    /// First byte.
    pub(super) offset: u64,
    /// Where the bytes go; its length is the length of the read.
    pub(super) destination: Destination,
}

/// Which part of which read a chunk read serves.
struct Part {
    read: usize,
    range: Range<usize>,
}

impl Inner {
    /// Reads; each result is the number of bytes, short only at the end of the file.
    pub(super) async fn read_files(
        &self,
        mut reads: Vec<FileRead>,
        deadline: Instant,
    ) -> Vec<Result<usize>> {
        let mut views = Vec::with_capacity(reads.len());
        for read in &reads {
            views.push(self.view(read, deadline).await);
        }
        let mut chunk_reads = Vec::with_capacity(reads.len());
        let mut parts = Vec::with_capacity(reads.len());
        for (at, read) in reads.iter().enumerate() {
            let Ok(view) = &views[at] else { continue };
            if covers(view, read.offset) {
                continue;
            }
            let planned = self.plan(read, view.len, at, &mut chunk_reads, &mut parts, deadline);
            if let Err(error) = planned.await {
                views[at] = Err(error);
            }
        }
        let outcomes = match chunk_reads.is_empty() {
            true => Vec::new(),
            false => self.chains.batch_read(chunk_reads, deadline).await,
        };
        for (part, outcome) in parts.into_iter().zip(outcomes) {
            let settled = settle_part(&mut reads[part.read], part.range, outcome);
            if let Err(error) = settled {
                views[part.read] = Err(error);
            }
        }
        let finished = reads.iter_mut().zip(views);
        finished.map(|(read, view)| view.map(|view| lay_over(read, &view))).collect()
    }

    /// Size and dirty bytes of one read; at the end of the file the service is asked if it was not
    /// asked lately, inside of it once in a while, for what another client has changed.
    async fn view(&self, read: &FileRead, deadline: Instant) -> Result<ReadView> {
        let wanted = read.destination.len();
        let valid = Duration::from_millis(self.options.attributes_valid_ms);
        let deadline = {
            let mut local = read.state.local.lock();
            let view = local.view(read.offset, wanted);
            let inside = view.len == wanted;
            let believed = if inside { FOLLOW_INTERVAL } else { valid };
            if local.age() < believed || (inside && !local.begin_asking(FOLLOW_INTERVAL)) {
                return Ok(view);
            }
            if inside { deadline.min(clock::now() + FOLLOW_PATIENCE) } else { deadline }
        };
        let operation = Operation::GetAttributes { inode: read.state.inode };
        let reply = self.sessions.call(&Credentials::default(), operation, deadline).await;
        let mut local = read.state.local.lock();
        // Without an answer the size that is known stands: what is read is checked anyway.
        if let Ok(MetaReply::Attributes(attributes)) = reply {
            local.learn(&attributes);
        }
        Ok(local.view(read.offset, wanted))
    }

    async fn plan(
        &self,
        read: &FileRead,
        len: usize,
        at: usize,
        chunk_reads: &mut Vec<ChunkRead>,
        parts: &mut Vec<Part>,
        deadline: Instant,
    ) -> Result<()> {
        let state = &read.state;
        let routing = self.chains.peers().routing();
        for piece in pieces(state.layout, read.offset, len) {
            let chain = chain_of(routing, &state.layout, piece.index, deadline).await?;
            let range = piece.position..piece.position + piece.len as usize;
            let mut offset = piece.chunk_offset;
            let mut position = range.start;
            for sink in read.destination.sinks(range) {
                let part_len = sink.len();
                chunk_reads.push(ChunkRead {
                    chain,
                    chunk: chunk_id(state.inode, piece.index),
                    offset,
                    len: part_len as u32,
                    sink: Some(sink),
                    prefer_head: false,
                });
                parts.push(Part { read: at, range: position..position + part_len });
                offset += part_len as u32;
                position += part_len;
            }
        }
        Ok(())
    }
}

/// Zeroes what a chunk does not have.
fn settle_part(
    read: &mut FileRead,
    range: Range<usize>,
    outcome: Result<ReadOutcome>,
) -> Result<()> {
    let found = match outcome {
        Ok(outcome) => outcome.len as usize,
        Err(error) if error.kind() == ErrorKind::ChunkNotFound => 0,
        Err(error) => return Err(error.with("inode", read.state.inode)),
    };
    if found < range.len() {
        read.destination.zero(range.start + found..range.end);
    }
    Ok(())
}

/// Whether dirty bytes are all there is to read.
fn covers(view: &ReadView, offset: u64) -> bool {
    let end = offset + view.len as u64;
    view.len == 0
        || view
            .overlay
            .iter()
            .any(|part| part.offset <= offset && part.offset + part.as_slice().len() as u64 >= end)
}

fn lay_over(read: &mut FileRead, view: &ReadView) -> usize {
    let end = read.offset + view.len as u64;
    for part in &view.overlay {
        let bytes = part.as_slice();
        let from = part.offset.max(read.offset);
        let to = (part.offset + bytes.len() as u64).min(end);
        if from < to {
            let range = (from - part.offset) as usize..(to - part.offset) as usize;
            read.destination.put((from - read.offset) as usize, &bytes[range]);
        }
    }
    view.len
}
