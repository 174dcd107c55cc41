//! Writes: bytes are taken into bounded buffers and sent in the background.
//!
//! Why write-back: an application writes in small pieces and one at a time, chains like whole
//! chunks and many at a time. Invariants: memory of dirty bytes is bounded per file and in all, a
//! writer waits for room; an error of a send is kept until a caller has seen it. Errors and order:
//! `dirty`.

use super::Inner;
use super::chunk_map::pieces;
use super::dirty::Put;
use super::inode_state::InodeState;
use firepond_core::buffer::Buffer;
use firepond_core::sys::clock;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// While a writer waits for memory it asks for write-back this often: other files may have gathered
/// bytes in the meantime.
const PRESSURE_INTERVAL: Duration = Duration::from_millis(20);

impl Inner {
    /// Takes bytes in at an offset.
    pub(super) async fn write(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        check_size(state, offset, bytes.len())?;
        let _shared = state.changes.read().await;
        self.take_in(state, offset, bytes).await
    }

    /// Takes bytes in at the end of the file as this client knows it; returns where that was.
    pub(super) async fn append(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        bytes: &[u8],
    ) -> Result<u64> {
        // Alone: two appends never get the same place.
        let _alone = state.changes.write().await;
        let offset = state.local.lock().size();
        check_size(state, offset, bytes.len())?;
        self.take_in(state, offset, bytes).await?;
        Ok(offset)
    }

    async fn take_in(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        for piece in pieces(state.layout, offset, bytes.len()) {
            let part = &bytes[piece.position..piece.position + piece.len as usize];
            let part_offset = offset + piece.position as u64;
            let mut buffer = None;
            loop {
                let needed = {
                    let mut local = state.local.lock();
                    let sequential = local.continues_at(part_offset);
                    let (index, at) = (piece.index, piece.chunk_offset);
                    match local.dirty.put(index, at, part, &mut buffer, clock::now()) {
                        Put::Done => {
                            local.wrote(part_offset + part.len() as u64);
                            break;
                        }
                        // A sequential writer will fill the chunk.
                        Put::NeedsBuffer(_) if sequential && at == 0 => {
                            state.layout.chunk_size_bytes as usize
                        }
                        Put::NeedsBuffer(len) => len,
                    }
                };
                buffer = Some(self.dirty_buffer(state, needed).await?);
            }
            self.send_ready(state);
        }
        Ok(())
    }

    /// Memory for dirty bytes; waits while the file or the client has too many.
    async fn dirty_buffer(self: &Arc<Self>, state: &Arc<InodeState>, len: usize) -> Result<Buffer> {
        let deadline = clock::now() + self.options.operation_timeout();
        let limit = self.options.file_dirty_max_bytes;
        if state.local.lock().dirty.bytes() + len > limit {
            state.local.lock().dirty.seal_all();
            self.send_ready(state);
            state
                .wait_progress(self.options.operation_timeout(), |local| {
                    local.dirty.is_empty() || local.dirty.bytes() + len <= limit
                })
                .await?;
        }
        loop {
            match self.dirty_pool.try_acquire(len) {
                Err(error) if error.kind() == ErrorKind::PeerOverloaded => {}
                other => return other,
            }
            self.write_back_all();
            let soon = deadline.min(clock::now() + PRESSURE_INTERVAL);
            if let Some(buffer) = clock::timeout_at(soon, self.dirty_pool.acquire(len)).await {
                return buffer;
            }
            if clock::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    "the cluster does not take written data fast enough",
                )
                .with("inode", state.inode));
            }
        }
    }
}

fn check_size(state: &InodeState, offset: u64, len: usize) -> Result<()> {
    let max = state.layout.size_max_bytes();
    let end = offset.checked_add(len as u64);
    match end {
        Some(end) if end <= max => Ok(()),
        _ => Err(Error::new(ErrorKind::FileTooLarge, "")
            .with("inode", state.inode)
            .with("offset", offset)
            .with("len", len)
            .with("max", max)),
    }
}
