//! The end of open files and of the client.
//!
//! Invariants: a close settles the length only after everything was acknowledged; whatever is dirty
//! at `shutdown` is sent before it returns.

use super::inode_state::{COVERS_NOTHING, InodeState};
use super::sessions::unexpected;
use super::{FileSystem, Inner};
use firepond_core::Result;
use firepond_core::sys::clock;
use firepond_core::sys::task::scoped;
use firepond_core::wire::meta::{Credentials, MetaReply, OpenFile as OpenRecord, Operation};
use std::sync::Arc;

impl Inner {
    /// Tells the service length and time of what was acknowledged.
    pub(super) async fn settle(&self, who: &Credentials, state: &InodeState) -> Result<()> {
        let (hint, write_count) = state.local.lock().hint();
        if hint.is_none() {
            // The service knows of every write of this client: an unwritten file closes for
            // nothing.
            return Ok(());
        }
        let operation = Operation::Sync { inode: state.inode, hint };
        self.settle_with(who, state, operation, write_count).await
    }

    /// Gives a handle back. It is gone afterwards, whatever the service answered.
    pub(super) async fn close_handle(
        &self,
        who: &Credentials,
        state: &InodeState,
        handle: u64,
        write: bool,
    ) -> Result<()> {
        let (hint, write_count) = match write {
            true => state.local.lock().hint(),
            // Another handle may have written: nothing of that is settled by this close.
            false => (None, COVERS_NOTHING),
        };
        let open = OpenRecord { inode: state.inode, handle, write };
        let operation = Operation::Close { open, hint };
        let result = self.settle_with(who, state, operation, write_count).await;
        self.sessions.closed(handle);
        result
    }

    async fn settle_with(
        &self,
        who: &Credentials,
        state: &InodeState,
        operation: Operation,
        write_count: u64,
    ) -> Result<()> {
        let deadline = clock::now() + self.options.operation_timeout();
        match self.sessions.call(who, operation, deadline).await? {
            MetaReply::Attributes(attributes) => {
                state.local.lock().settled(&attributes, write_count);
                Ok(())
            }
            other => Err(unexpected("attributes", &other)),
        }
    }

    /// Closes a handle whose owner does not wait. Errors are logged, as nobody else hears of them.
    pub(super) fn close_in_background(
        self: &Arc<Self>,
        who: Credentials,
        state: Arc<InodeState>,
        handle: u64,
        write: bool,
    ) {
        let inner = Arc::clone(self);
        let mut closing = self.closing.lock();
        while closing.try_join_next().is_some() {}
        if tokio::runtime::Handle::try_current().is_err() {
            // The runtime is gone, and with it every connection: the session's lease ends the
            // handle.
            self.sessions.closed(handle);
            return;
        }
        closing.spawn(scoped(async move {
            let seen = state.local.lock().error_count();
            let flushed = if write { inner.flush(&state, seen).await } else { Ok(()) };
            let closed = inner.close_handle(&who, &state, handle, write).await;
            if let Err(error) = flushed.and(closed) {
                tracing::info!(%error, inode = %state.inode, "a background close has failed");
            }
        }));
    }
}

impl FileSystem {
    /// Sends everything that is dirty, waits for background closes and ends the session.
    ///
    /// # Errors
    /// The first error of a file that could not be flushed.
    pub async fn shutdown(&self) -> Result<()> {
        let mut result = Ok(());
        for state in self.0.inodes.all() {
            let seen = state.local.lock().error_count();
            let flushed = match self.0.flush(&state, seen).await {
                Ok(()) if state.local.lock().unsettled() => {
                    self.0.settle(&Credentials::default(), &state).await
                }
                other => other,
            };
            result = result.and(flushed);
        }
        let mut closing = std::mem::take(&mut *self.0.closing.lock());
        while closing.join_next().await.is_some() {}
        self.0.sessions.stop();
        result
    }
}
