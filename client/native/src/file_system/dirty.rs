//! Bytes of one file that were written and are not yet acknowledged.
//!
//! Why per chunk: updates of one chunk must arrive in the order of the writes, updates of different
//! chunks need not. A chunk has at most one *gathering* extent, into which writes that continue or
//! overwrite it are copied, and a queue of *sealed* ones, of which the first is on its way.
//! Invariants: a sealed extent never changes; an extent stays visible to readers until it was
//! acknowledged or failed; later extents lie over earlier ones; `bytes` is the memory held.

use firepond_core::buffer::Buffer;
use firepond_core::ids::ChunkIndex;
use firepond_core::payload::Payload;
use firepond_core::sys::clock::Instant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// An extent that is complete and waits for its acknowledgement.
pub(super) struct Sealed {
    /// Position in the order of sealing, from 1.
    pub(super) sequence: u64,
    /// First byte within the chunk.
    pub(super) start: u32,
    /// The bytes.
    pub(super) payload: Payload,
    memory_bytes: usize,
}

struct Gathering {
    start: u32,
    len: usize,
    buffer: Buffer,
    since: Instant,
}

#[derive(Default)]
struct DirtyChunk {
    gathering: Option<Gathering>,
    sealed: VecDeque<Arc<Sealed>>,
    /// A task works on the queue, or is about to.
    sending: bool,
}

/// The dirty chunks of one file.
pub(super) struct Dirty {
    chunk_size_bytes: u32,
    chunks: BTreeMap<u32, DirtyChunk>,
    bytes: usize,
    sequence: u64,
    outstanding: BTreeSet<u64>,
    ready: Vec<ChunkIndex>,
}

/// What became of a write into one chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// The bytes are in.
    Done,
    /// Call again with a buffer of at least so many bytes.
    NeedsBuffer(usize),
}

/// Dirty bytes as a reader sees them; later ones lie over earlier ones.
pub(super) struct Overlay {
    /// Where in the file.
    pub(super) offset: u64,
    /// The bytes.
    pub(super) bytes: OverlayBytes,
}

/// Shared when sealed, copied while still gathering.
pub(super) enum OverlayBytes {
    /// A sealed extent.
    Sealed(Payload),
    /// A copy.
    Copied(Vec<u8>),
}

impl Overlay {
    /// The bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        match &self.bytes {
            OverlayBytes::Sealed(payload) => payload.filled(),
            OverlayBytes::Copied(bytes) => bytes,
        }
    }
}

impl Gathering {
    /// Whether a write at `at` continues or overwrites this extent without a gap.
    fn touches(&self, at: u32) -> bool {
        at >= self.start && at as usize <= self.start as usize + self.len
    }

    fn copy_in(&mut self, at: u32, bytes: &[u8]) {
        let from = (at - self.start) as usize;
        self.buffer.set_len(self.len.max(from + bytes.len()));
        self.buffer[from..from + bytes.len()].copy_from_slice(bytes);
        self.len = self.buffer.len();
    }

    fn end(&self) -> usize {
        self.start as usize + self.len
    }
}

impl Dirty {
    pub(super) fn new(chunk_size_bytes: u32) -> Dirty {
        Dirty {
            chunk_size_bytes,
            chunks: BTreeMap::new(),
            bytes: 0,
            sequence: 0,
            outstanding: BTreeSet::new(),
            ready: Vec::new(),
        }
    }

    /// Memory held in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when everything was acknowledged (or has failed).
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes the bytes in; they stay inside the chunk. `buffer` is used only when it is needed.
    pub(super) fn put(
        &mut self,
        index: ChunkIndex,
        at: u32,
        bytes: &[u8],
        buffer: &mut Option<Buffer>,
        now: Instant,
    ) -> Put {
        assert!(at as usize + bytes.len() <= self.chunk_size_bytes as usize, "inside the chunk");
        let gathering = self.chunks.get_mut(&index.0).and_then(|chunk| chunk.gathering.as_mut());
        if let Some(extent) = gathering.filter(|extent| extent.touches(at)) {
            let len = (at - extent.start) as usize + bytes.len();
            if len > extent.buffer.capacity() {
                match buffer.take_if(|new| new.capacity() >= len) {
                    None => return Put::NeedsBuffer(len),
                    Some(mut new) => {
                        new.set_len(extent.len);
                        new.copy_from_slice(&extent.buffer[..extent.len]);
                        self.bytes += new.capacity();
                        self.bytes -= extent.buffer.capacity();
                        extent.buffer = new;
                    }
                }
            }
            extent.copy_in(at, bytes);
        } else {
            let Some(mut new) = buffer.take_if(|new| new.capacity() >= bytes.len()) else {
                return Put::NeedsBuffer(bytes.len());
            };
            self.seal(index);
            self.bytes += new.capacity();
            new.set_len(0);
            let mut extent = Gathering { start: at, len: 0, buffer: new, since: now };
            extent.copy_in(at, bytes);
            self.chunks.entry(index.0).or_default().gathering = Some(extent);
        }
        let gathering = self.chunks.get(&index.0).and_then(|chunk| chunk.gathering.as_ref());
        if gathering.is_some_and(|extent| extent.end() == self.chunk_size_bytes as usize) {
            self.seal(index);
        }
        Put::Done
    }

    /// Ends the gathering of one chunk.
    fn seal(&mut self, index: ChunkIndex) {
        let Some(chunk) = self.chunks.get_mut(&index.0) else { return };
        let Some(mut extent) = chunk.gathering.take() else { return };
        self.sequence += 1;
        self.outstanding.insert(self.sequence);
        extent.buffer.set_len(extent.len);
        let memory_bytes = extent.buffer.capacity();
        let payload = Payload::from_buffer(extent.buffer);
        let sequence = self.sequence;
        chunk.sealed.push_back(Arc::new(Sealed {
            sequence,
            start: extent.start,
            payload,
            memory_bytes,
        }));
        if !chunk.sending {
            chunk.sending = true;
            self.ready.push(index);
        }
    }

    /// Ends all gathering that began at `limit` or before; returns the newest sequence.
    pub(super) fn seal_since(&mut self, limit: Instant) -> u64 {
        let gathering = self.chunks.iter().filter_map(|(index, chunk)| {
            let old = chunk.gathering.as_ref().is_some_and(|extent| extent.since <= limit);
            old.then_some(ChunkIndex(*index))
        });
        for index in gathering.collect::<Vec<_>>() {
            self.seal(index);
        }
        self.sequence
    }

    /// Ends all gathering; returns the newest sequence.
    pub(super) fn seal_all(&mut self) -> u64 {
        let gathering = self.chunks.iter().filter(|(_, chunk)| chunk.gathering.is_some());
        let indexes: Vec<ChunkIndex> = gathering.map(|(index, _)| ChunkIndex(*index)).collect();
        for index in indexes {
            self.seal(index);
        }
        self.sequence
    }

    /// Chunks that need a sending task, each once.
    pub(super) fn take_ready(&mut self) -> Vec<ChunkIndex> {
        std::mem::take(&mut self.ready)
    }

    /// What the chunk's task sends next; `None` ends the task.
    pub(super) fn front(&mut self, index: ChunkIndex) -> Option<Arc<Sealed>> {
        let chunk = self.chunks.get_mut(&index.0)?;
        let front = chunk.sealed.front().cloned();
        if front.is_none() {
            chunk.sending = false;
            if chunk.gathering.is_none() {
                self.chunks.remove(&index.0);
            }
        }
        front
    }

    /// The front was acknowledged, or has failed for good.
    pub(super) fn finished(&mut self, index: ChunkIndex, sequence: u64) {
        let Some(chunk) = self.chunks.get_mut(&index.0) else { return };
        let front = chunk.sealed.pop_front_if(|front| front.sequence == sequence);
        let front = front.unwrap_or_else(|| unreachable!("only a chunk's task ends its front"));
        self.bytes -= front.memory_bytes;
        self.outstanding.remove(&sequence);
    }

    /// Whether everything sealed up to `sequence` has ended.
    pub(super) fn ended(&self, sequence: u64) -> bool {
        self.outstanding.first().is_none_or(|first| *first > sequence)
    }

    /// The dirty bytes that meet a range of the file, in the order in which they lie over each
    /// other.
    pub(super) fn overlay(&self, offset: u64, len: usize) -> Vec<Overlay> {
        let size = u64::from(self.chunk_size_bytes);
        let end = offset + len as u64;
        if self.chunks.is_empty() || len == 0 {
            return Vec::new();
        }
        let first = u32::try_from(offset / size).unwrap_or(u32::MAX);
        let last = u32::try_from((end - 1) / size).unwrap_or(u32::MAX);
        let mut found = Vec::new();
        for (index, chunk) in self.chunks.range(first..=last) {
            let base = u64::from(*index) * size;
            for sealed in &chunk.sealed {
                let start = base + u64::from(sealed.start);
                if start < end && start + sealed.payload.len() as u64 > offset {
                    let bytes = OverlayBytes::Sealed(sealed.payload.clone());
                    found.push(Overlay { offset: start, bytes });
                }
            }
            let Some(extent) = &chunk.gathering else { continue };
            let start = base + u64::from(extent.start);
            let (from, to) = (start.max(offset), (start + extent.len as u64).min(end));
            if from < to {
                let bytes = &extent.buffer[(from - start) as usize..(to - start) as usize];
                let bytes = OverlayBytes::Copied(bytes.to_vec());
                found.push(Overlay { offset: from, bytes });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::buffer::{BUFFER_MAX_BYTES, BufferPool};
    use firepond_core::sys::clock;

    const CHUNK: u32 = 64 << 10;

    fn write(dirty: &mut Dirty, pool: &BufferPool, offset: u64, bytes: &[u8]) {
        let index = ChunkIndex((offset / u64::from(CHUNK)) as u32);
        let at = (offset % u64::from(CHUNK)) as u32;
        let mut buffer = None;
        while let Put::NeedsBuffer(len) = dirty.put(index, at, bytes, &mut buffer, clock::now()) {
            buffer = Some(pool.try_acquire(len).expect("room"));
        }
    }

    fn visible(dirty: &Dirty, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![b'.'; len];
        for part in dirty.overlay(offset, len) {
            for (position, byte) in part.as_slice().iter().enumerate() {
                let at = part.offset + position as u64;
                if (offset..offset + len as u64).contains(&at) {
                    bytes[(at - offset) as usize] = *byte;
                }
            }
        }
        bytes
    }

    /// Goal: contiguous small writes leave as one extent. Method: write, seal. Oracle: the queue.
    #[tokio::test]
    async fn contiguous_writes_are_gathered() {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let mut dirty = Dirty::new(CHUNK);
        for step in 0..10_u64 {
            write(&mut dirty, &pool, step * 1000, &[step as u8; 1000]);
        }
        assert!(dirty.take_ready().is_empty());
        assert_eq!(dirty.seal_all(), 1);
        assert_eq!(dirty.take_ready(), [ChunkIndex(0)]);
        let sealed = dirty.front(ChunkIndex(0)).expect("one extent");
        assert_eq!((sealed.start, sealed.payload.len()), (0, 10_000));
        assert!(!dirty.ended(1));
        dirty.finished(ChunkIndex(0), 1);
        assert!(dirty.front(ChunkIndex(0)).is_none());
        assert!(dirty.ended(1) && dirty.is_empty());
        assert_eq!(dirty.bytes(), 0);
    }

    /// Goal: a full chunk goes out at once; readers see later writes over earlier ones.
    /// Oracle: the bytes by hand.
    #[tokio::test]
    async fn later_writes_lie_over_earlier_ones() {
        let pool = BufferPool::new(BUFFER_MAX_BYTES);
        let mut dirty = Dirty::new(CHUNK);
        write(&mut dirty, &pool, 0, &vec![b'a'; CHUNK as usize]);
        assert_eq!(dirty.take_ready(), [ChunkIndex(0)]);
        write(&mut dirty, &pool, 4, b"bb");
        write(&mut dirty, &pool, 5, b"cc");
        write(&mut dirty, &pool, 2, b"dd");
        assert_eq!(visible(&dirty, 0, 8), b"aaddbcca");
        assert_eq!(dirty.seal_all(), 3);
        assert_eq!(visible(&dirty, 3, 3), b"dbc");
        assert!(dirty.take_ready().is_empty(), "the chunk's task is already at work");
    }
}
