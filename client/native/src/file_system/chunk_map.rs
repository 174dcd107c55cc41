//! A range of a file as parts of chunks.

use firepond_core::ids::{ChainId, ChunkId, ChunkIndex, InodeId};
use firepond_core::layout::FileLayout;
use firepond_core::routing::RoutingHandle;
use firepond_core::sys::clock::Instant;
use firepond_core::{ErrorKind, Result};

/// A part of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which chunk.
    pub(super) index: ChunkIndex,
    /// First byte within the chunk.
    pub(super) chunk_offset: u32,
    /// Bytes.
    pub(super) len: u32,
    /// Where the part is in the range that was mapped.
    pub(super) position: usize,
}

/// The parts of `len` bytes from `offset`, in order.
pub(super) fn pieces(
    layout: FileLayout,
    offset: u64,
    len: usize,
) -> impl Iterator<Item = Piece> + Send {
    let mut position = 0;
    std::iter::from_fn(move || {
        if position == len {
            return None;
        }
        let (index, chunk_offset) = layout.locate(offset + position as u64);
        let room = (layout.chunk_size_bytes - chunk_offset) as usize;
        let piece_len = room.min(len - position);
        let piece = Piece { index, chunk_offset, len: piece_len as u32, position };
        position += piece_len;
        Some(piece)
    })
}

/// The name of a file's chunk.
pub(super) fn chunk_id(inode: InodeId, index: ChunkIndex) -> ChunkId {
    ChunkId::file(inode, index)
}

/// The chain of a chunk; waits for routing that knows the layout's table.
pub(super) async fn chain_of(
    routing: &RoutingHandle,
    layout: &FileLayout,
    index: ChunkIndex,
    deadline: Instant,
) -> Result<ChainId> {
    loop {
        let current = routing.current();
        match current.table(layout.table, layout.table_version) {
            Ok(table) if !table.chains.is_empty() => {
                let slot = layout.chain_slot(index, table.chains.len() as u32);
                return Ok(table.chains[slot as usize]);
            }
            Err(error) if error.kind() != ErrorKind::ClusterNotReady => return Err(error),
            _ => drop(routing.wait_newer(current.version, deadline).await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::{ChainTableId, ChainTableVersion};
    use firepond_core::layout::LayoutKind;

    /// Goal: pieces cover the range once, in order. Method: odd ranges. Oracle: their sum and
    /// bounds.
    #[test]
    fn pieces_tile_the_range() {
        let layout = FileLayout {
            kind: LayoutKind::Replicated,
            table: ChainTableId(1),
            table_version: ChainTableVersion(1),
            chunk_size_bytes: 64 << 10,
            stripe_count: 3,
            seed: 9,
        };
        for (offset, len) in [(0, 0), (0, 1), (65_535, 2), (1, 200_000), (65_536, 65_536)] {
            let mut next = 0;
            for piece in pieces(layout, offset, len) {
                assert_eq!(piece.position, next);
                let start = u64::from(piece.index.0) * (64 << 10) + u64::from(piece.chunk_offset);
                assert_eq!(start, offset + next as u64);
                assert!(piece.chunk_offset + piece.len <= 64 << 10);
                next += piece.len as usize;
            }
            assert_eq!(next, len);
        }
    }
}
