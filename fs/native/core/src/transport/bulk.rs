//! Where a reply's payload lands: the caller's sink, a pooled buffer, or plain memory.
//!
//! Why plain memory at all: requests that a server received hold its pool until it got replies of
//! others, so a reply must never wait for the pool. What calls in flight can bring is bounded by
//! their credits.
//! Invariants: bytes are written in order, never beyond the announced length.

use super::{SinkPlan, SinkSlice};
use crate::buffer::{Buffer, BufferPool};
use crate::payload::Payload;
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;

/// Receives one reply's payload.
pub(super) struct ReplySink {
    plan: Option<Box<dyn SinkPlan>>,
    place: Place,
    /// Bytes announced.
    total: usize,
    /// Bytes that are there.
    filled: usize,
}

enum Place {
    /// Not begun.
    Unknown,
    /// The caller's memory: slices, the current one, bytes written into it.
    Caller {
        slices: Vec<SinkSlice>,
        current: usize,
        offset: usize,
    },
    Pooled(Buffer),
    Plain(Vec<u8>),
}

impl ReplySink {
    pub(super) fn new(plan: Option<Box<dyn SinkPlan>>) -> ReplySink {
        ReplySink { plan, place: Place::Unknown, total: 0, filled: 0 }
    }

    /// The body is known: decides where `total` bytes go. The caller checked `total`'s limit.
    pub(super) fn begin(&mut self, body: &[u8], total: usize, buffers: &BufferPool) -> Result<()> {
        self.total = total;
        self.place = match &mut self.plan {
            Some(plan) => {
                let slices = plan.plan(body, total)?;
                let room: usize = slices.iter().map(SinkSlice::len).sum();
                if room != total {
                    return Err(Error::internal("a sink plan has the wrong length")
                        .with("planned", room)
                        .with("payload_bytes", total));
                }
                Place::Caller { slices, current: 0, offset: 0 }
            }
            None if total == 0 => Place::Plain(Vec::new()),
            None => match buffers.try_acquire(total) {
                Ok(buffer) => Place::Pooled(buffer),
                Err(_) => Place::Plain(vec![0; total]),
            },
        };
        Ok(())
    }

    /// The next memory to write into, at most `limit` bytes; empty when all is there.
    pub(super) fn unfilled(&mut self, limit: usize) -> &mut [u8] {
        let filled = self.filled;
        let end = self.total.min(filled + limit);
        match &mut self.place {
            Place::Unknown => &mut [],
            Place::Pooled(buffer) => &mut buffer[filled..end],
            Place::Plain(bytes) => &mut bytes[filled..end],
            Place::Caller { slices, current, offset } => match slices.get_mut(*current) {
                Some(slice) => {
                    let end = slice.len().min(*offset + limit);
                    &mut slice.as_mut_slice()[*offset..end]
                }
                None => &mut [],
            },
        }
    }

    /// The next memory to write into: at most `limit` bytes in at most `count` slices.
    pub(super) fn unfilled_slices(&mut self, mut limit: usize, count: usize) -> Vec<&mut [u8]> {
        if !matches!(self.place, Place::Caller { .. }) {
            return vec![self.unfilled(limit)];
        }
        let Place::Caller { slices, current, offset } = &mut self.place else { return vec![] };
        let mut skip = *offset;
        let mut found = Vec::new();
        for slice in slices[*current..].iter_mut().take(count) {
            let end = slice.len().min(skip + limit);
            limit -= end - skip;
            found.push(&mut slice.as_mut_slice()[skip..end]);
            skip = 0;
            if limit == 0 {
                break;
            }
        }
        found
    }

    /// Notes that `count` bytes of what `unfilled` gave were written.
    pub(super) fn advance(&mut self, count: usize) {
        assert!(self.filled + count <= self.total, "a reply never outgrows its length");
        self.filled += count;
        let Place::Caller { slices, current, offset } = &mut self.place else { return };
        *offset += count;
        while slices.get(*current).is_some_and(|slice| *offset >= slice.len()) {
            *offset -= slices[*current].len();
            *current += 1;
        }
    }

    /// Copies bytes in.
    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.unfilled(bytes.len());
            let count = room.len();
            assert!(count > 0, "a reply never outgrows its length");
            room.copy_from_slice(&bytes[..count]);
            self.advance(count);
            bytes = &bytes[count..];
        }
    }

    /// Bytes that are still to come.
    pub(super) fn missing(&self) -> usize {
        self.total - self.filled
    }

    /// The payload for the reply; empty when the bytes went into the caller's sink.
    pub(super) fn finish(&mut self) -> Payload {
        assert_eq!(self.missing(), 0, "a reply ends complete");
        match std::mem::replace(&mut self.place, Place::Unknown) {
            Place::Pooled(buffer) => Payload::from_buffer(buffer),
            Place::Plain(bytes) => Payload::from_bytes(Bytes::from(bytes)),
            Place::Unknown | Place::Caller { .. } => Payload::empty(),
        }
    }
}

/// Copies the parts of a reply one after the other, waiting where they still arrive.
pub(super) async fn copy_parts(parts: &[Payload], sink: &mut ReplySink) -> Result<()> {
    for part in parts {
        let bytes = part.complete().await.map_err(|error| {
            Error::new(ErrorKind::IoFailed, "the peer could not send its reply")
                .with("cause", error)
        })?;
        sink.write(bytes);
    }
    Ok(())
}
