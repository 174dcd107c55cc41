//! Messages on their way out, cut into frames.
//!
//! Invariants: a message's frames leave in order; the payload is referenced, never copied.

use crate::payload::Payload;
use crate::transport::frame::{
    FLAG_CONTINUATION, FLAG_END, FrameHeader, HEADER_BYTES, SEGMENT_MAX_BYTES,
};
use bytes::Bytes;
use std::io::IoSlice;

/// A message, or the part of one whose payload is there.
pub(super) struct Outgoing {
    header: FrameHeader,
    body: Bytes,
    parts: Vec<Payload>,
    /// The part that is being sent, and the bytes of it that were.
    part: usize,
    offset: usize,
    /// Bytes to send, and whether the message ends with them.
    remaining: usize,
    last: bool,
    first: bool,
}

/// One frame.
pub(super) struct Frame {
    header: [u8; HEADER_BYTES],
    body: Bytes,
    /// (payload, first byte, bytes).
    slices: Vec<(Payload, usize, usize)>,
    pub(super) len: usize,
}

impl Outgoing {
    /// A message whose payload parts are complete.
    pub(super) fn whole(mut header: FrameHeader, body: Bytes, parts: Vec<Payload>) -> Outgoing {
        let remaining: usize = parts.iter().map(Payload::len).sum();
        header.payload_total = (remaining as u32).into();
        Outgoing { header, body, parts, part: 0, offset: 0, remaining, last: true, first: true }
    }

    /// A reply of so many bytes of payload that are in shared memory already.
    pub(super) fn in_slot(mut header: FrameHeader, body: Bytes, total: usize) -> Outgoing {
        header.payload_total = (total as u32).into();
        let parts = Vec::new();
        Outgoing { header, body, parts, part: 0, offset: 0, remaining: 0, last: true, first: true }
    }

    /// One segment of a message whose payload still arrives: `count` bytes of `part` from `offset`.
    /// `header` has the total; `first` and `last` say where the segment is in the message.
    pub(super) fn segment(
        header: FrameHeader,
        body: Bytes,
        part: Payload,
        (offset, count): (usize, usize),
        (first, last): (bool, bool),
    ) -> Outgoing {
        assert!(count <= SEGMENT_MAX_BYTES, "a segment is one frame");
        let remaining = count;
        Outgoing { header, body, parts: vec![part], part: 0, offset, remaining, last, first }
    }

    /// Whose message this is.
    pub(super) fn request_id(&self) -> u64 {
        self.header.request_id.get()
    }

    /// The next frame, and whether more follow.
    pub(super) fn next_frame(&mut self) -> (Frame, bool) {
        let count = self.remaining.min(SEGMENT_MAX_BYTES);
        self.remaining -= count;
        let more = self.remaining > 0;
        let mut header = self.header;
        let mut flags = header.flags.get();
        if !std::mem::replace(&mut self.first, false) {
            flags |= FLAG_CONTINUATION;
        }
        if self.last && !more {
            flags |= FLAG_END;
        }
        header.flags = flags.into();
        header.payload_len = (count as u32).into();
        let body = std::mem::take(&mut self.body);
        let slices = self.take_slices(count);
        let len = HEADER_BYTES + body.len() + count;
        (Frame { header: header.seal(&body), body, slices, len }, more)
    }

    fn take_slices(&mut self, mut count: usize) -> Vec<(Payload, usize, usize)> {
        let mut slices = Vec::new();
        while count > 0 {
            let part = &self.parts[self.part];
            let here = count.min(part.len() - self.offset);
            if here > 0 {
                slices.push((part.clone(), self.offset, here));
            }
            count -= here;
            self.offset += here;
            if self.offset == part.len() {
                self.part += 1;
                self.offset = 0;
            }
        }
        slices
    }
}

impl Frame {
    /// Adds what is left after `skip` bytes to `vector`.
    pub(super) fn append<'a>(&'a self, mut skip: usize, vector: &mut Vec<IoSlice<'a>>) {
        let payload =
            self.slices.iter().map(|(part, start, len)| &part.filled()[*start..start + len]);
        for bytes in [self.header.as_slice(), &self.body].into_iter().chain(payload) {
            if skip < bytes.len() {
                vector.push(IoSlice::new(&bytes[skip..]));
            }
            skip = skip.saturating_sub(bytes.len());
        }
    }

    /// Slices that `append` may add.
    pub(super) fn slice_count(&self) -> usize {
        2 + self.slices.len()
    }
}
