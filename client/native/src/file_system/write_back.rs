//! The sending half of writes: sealed extents go to their chains, many chunks at a time.
//!
//! Invariants: one task per chunk, so that updates of a chunk arrive in order; at most
//! `write_window_count` updates are on their way; a flush returns when everything that was dirty
//! when it began was acknowledged, or with the first error.

use super::Inner;
use super::chunk_map::{chain_of, chunk_id};
use super::dirty::Sealed;
use super::inode_state::InodeState;
use firepond_core::checksum::crc32c;
use firepond_core::ids::ChunkIndex;
use firepond_core::peer::ChunkUpdate;
use firepond_core::sys::{clock, task};
use firepond_core::wire::storage::UpdateKind;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::{Arc, Weak};
use std::time::Duration;

impl Inner {
    /// Starts tasks for chunks that have something sealed and no task.
    pub(super) fn send_ready(self: &Arc<Self>, state: &Arc<InodeState>) {
        let ready = state.local.lock().dirty.take_ready();
        for index in ready {
            let (inner, state) = (Arc::clone(self), Arc::clone(state));
            task::spawn(async move { inner.send_chunk(&state, index).await });
        }
    }

    async fn send_chunk(&self, state: &InodeState, index: ChunkIndex) {
        loop {
            let Some(sealed) = state.local.lock().dirty.front(index) else { return };
            let result = self.send(state, index, &sealed).await;
            {
                let mut local = state.local.lock();
                match result {
                    Ok(()) => {
                        let base = u64::from(index.0) * u64::from(state.layout.chunk_size_bytes);
                        let end = base + u64::from(sealed.start) + sealed.payload.len() as u64;
                        local.acknowledged(end);
                    }
                    Err(error) => {
                        tracing::info!(%error, inode = %state.inode, "a buffered write has failed");
                        local.failed(error);
                    }
                }
                local.dirty.finished(index, sealed.sequence);
            }
            drop(sealed);
            state.progress.notify_waiters();
        }
    }

    async fn send(&self, state: &InodeState, index: ChunkIndex, sealed: &Sealed) -> Result<()> {
        let closed = |_| Error::new(ErrorKind::Closed, "the client was shut down");
        let _permit = self.window.acquire().await.map_err(closed)?;
        let deadline = clock::now() + self.options.operation_timeout();
        let routing = self.chains.peers().routing();
        let chain = chain_of(routing, &state.layout, index, deadline).await?;
        let len = sealed.payload.len() as u32;
        let whole = sealed.start == 0 && len == state.layout.chunk_size_bytes;
        let update = ChunkUpdate {
            chunk: chunk_id(state.inode, index),
            kind: if whole { UpdateKind::Replace } else { UpdateKind::Write },
            offset: sealed.start,
            len,
            checksum: crc32c(sealed.payload.filled()),
            payload: sealed.payload.clone(),
            chunk_len_max: state.layout.chunk_size_bytes,
            tag: [0; 32],
        };
        self.chains.update(chain, update, deadline).await.map(drop)
    }

    /// Everything that is dirty now is acknowledged when this returns.
    ///
    /// # Errors
    /// The first error of a send since `errors_seen`; `DeadlineExceeded` when nothing moves.
    pub(super) async fn flush(
        self: &Arc<Self>,
        state: &Arc<InodeState>,
        errors_seen: u64,
    ) -> Result<()> {
        let sequence = state.local.lock().dirty.seal_all();
        self.send_ready(state);
        state
            .wait_progress(self.options.operation_timeout(), |local| {
                local.dirty.ended(sequence) || local.error_since(errors_seen).is_some()
            })
            .await?;
        state.local.lock().error_since(errors_seen).map_or(Ok(()), Err)
    }

    /// Starts sending everything that any file has gathered.
    pub(super) fn write_back_all(self: &Arc<Self>) {
        for state in self.inodes.all() {
            state.local.lock().dirty.seal_all();
            self.send_ready(&state);
        }
    }
}

/// Sends what has been gathered for too long, until the client is gone.
pub(super) async fn write_back_old(inner: Weak<Inner>, delay: Duration) {
    loop {
        clock::sleep(delay / 2).await;
        let Some(inner) = inner.upgrade() else { return };
        let limit = clock::now().checked_sub(delay);
        for state in inner.inodes.all() {
            if let Some(limit) = limit {
                state.local.lock().dirty.seal_since(limit);
            }
            inner.send_ready(&state);
        }
    }
}
