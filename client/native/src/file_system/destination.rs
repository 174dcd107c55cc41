//! Memory of a caller into which a read puts bytes, by any number of parallel parts.
//!
//! Why: one read becomes many chunk reads, each with its own sink, and holes are zeroed after them.
//! Invariants: the caller's slices are kept, untouched, until the last part is gone; parts that are
//! lent at the same time do not overlap, because each chunk read covers another range.

use firepond_core::buffer::Buffer;
use firepond_core::payload::{Payload, PayloadWriter};
use firepond_core::transport::SinkSlice;
use parking_lot::Mutex;
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// Exclusively lent memory, in one or more slices.
pub(super) struct Destination {
    /// Address and length of each slice.
    slices: Vec<(*mut u8, usize)>,
    owner: Arc<dyn Any + Send + Sync>,
    len: usize,
}

// SAFETY: the addresses are those of slices that `owner` keeps, which may be sent.
unsafe impl Send for Destination {}
// SAFETY: a shared reference reaches the bytes only through `sinks`, whose parts never overlap.
unsafe impl Sync for Destination {}

impl Destination {
    /// The memory of these slices, one after the other.
    pub(super) fn new(mut sinks: Vec<SinkSlice>) -> Destination {
        let slices: Vec<(*mut u8, usize)> = sinks
            .iter_mut()
            .map(|sink| (sink.as_mut_slice().as_mut_ptr(), sink.len()))
            .filter(|(_, len)| *len > 0)
            .collect();
        let len = slices.iter().map(|(_, len)| len).sum();
        // A mutex, because a slice may be sent but not shared; nobody ever locks it.
        Destination { slices, owner: Arc::new(Mutex::new(sinks)), len }
    }

    /// A pooled buffer: the payload shows the bytes once the writer has advanced over them.
    pub(super) fn pooled(buffer: Buffer) -> (Destination, Payload, PayloadWriter) {
        let (payload, mut writer) = Payload::streaming(buffer);
        let unfilled = writer.unfilled();
        let (address, len) = (unfilled.as_mut_ptr(), unfilled.len());
        let owner: Arc<dyn Any + Send + Sync> = Arc::new(payload.clone());
        let destination = Destination { slices: vec![(address, len)], owner, len };
        (destination, payload, writer)
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slices of a range, as sinks for one chunk read. The caller lends no byte twice.
    pub(super) fn sinks(&self, range: Range<usize>) -> Vec<SinkSlice> {
        let parts = self.parts(range);
        parts
            .map(|(address, len)| {
                // SAFETY: the owner keeps the memory valid; exclusivity is this type's invariant.
                unsafe { SinkSlice::new(address, len, Arc::clone(&self.owner)) }
            })
            .collect()
    }

    /// Puts bytes at a position. No part may be lent at this time.
    pub(super) fn put(&mut self, position: usize, mut bytes: &[u8]) {
        for (address, len) in self.parts(position..position + bytes.len()) {
            let (now, rest) = bytes.split_at(len);
            // SAFETY: the part lies inside a slice that is exclusively ours (`&mut self`), and the
            // source is other memory, as nobody else has a reference to the destination.
            unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), address, len) };
            bytes = rest;
        }
    }

    /// Zeroes a range. No part may be lent at this time.
    pub(super) fn zero(&mut self, range: Range<usize>) {
        for (address, len) in self.parts(range) {
            // SAFETY: the part lies inside a slice that is exclusively ours (`&mut self`).
            unsafe { std::ptr::write_bytes(address, 0, len) };
        }
    }

    /// Address and length of each piece of a range.
    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = (*mut u8, usize)> {
        assert!(range.end <= self.len, "the range is inside the memory");
        let mut before = 0;
        self.slices.iter().filter_map(move |(address, len)| {
            let start = range.start.clamp(before, before + len) - before;
            let end = range.end.clamp(before, before + len) - before;
            before += len;
            // SAFETY: `start` is at most the length of this slice.
            (start < end).then(|| (unsafe { address.add(start) }, end - start))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(memory: &mut [Vec<u8>]) -> Destination {
        let sinks = memory.iter_mut().map(|one| {
            // SAFETY: the test keeps the memory and looks at it only afterwards.
            unsafe { SinkSlice::new(one.as_mut_ptr(), one.len(), Arc::new(())) }
        });
        Destination::new(sinks.collect())
    }

    /// Goal: ranges meet the right bytes over slice borders. Method: put, zero, sinks over odd
    /// slices. Oracle: the memory by hand.
    #[test]
    fn ranges_cross_slices() {
        let mut memory = [vec![b'.'; 3], vec![], vec![b'.'; 1], vec![b'.'; 4]];
        let mut target = destination(&mut memory);
        assert_eq!(target.len(), 8);
        target.put(1, b"abcdef");
        target.zero(6..8);
        let mut sinks = target.sinks(2..5);
        assert_eq!(sinks.iter().map(SinkSlice::len).collect::<Vec<_>>(), [1, 1, 1]);
        sinks[1].as_mut_slice()[0] = b'X';
        drop((sinks, target));
        assert_eq!(memory.concat(), b".abXde\0\0");
    }
}
