//! The open files of this client as the metadata service knows them, and the task that keeps them.
//!
//! Why: a file that is open is not collected, and a client that is gone is noticed; so the service
//! hears from a client with open files every third of its lease. A service that has forgotten the
//! client says `SessionUnknown`, gets the whole list, and the operation is repeated.
//! Invariants: a handle is in the table from before its open is sent until its close was answered.

use super::meta_calls::MetaCaller;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::sys::task;
use firepond_core::wire::meta::{Credentials, MetaReply, OpenFile, Operation};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often the session is kept until the service has said how long it lives.
const KEEP_INTERVAL_FIRST: Duration = Duration::from_millis(1_000);
const KEEP_INTERVAL_MAX: Duration = Duration::from_millis(10_000);

/// Calls that renew the session when it was lost.
pub(super) struct Sessions {
    caller: MetaCaller,
    state: Mutex<State>,
    next_handle: AtomicU64,
}

#[derive(Default)]
struct State {
    open_files: HashMap<u64, OpenFile>,
    keeper: Option<tokio::task::AbortHandle>,
}

impl Sessions {
    pub(super) fn new(caller: MetaCaller) -> Arc<Sessions> {
        let state = Mutex::new(State::default());
        Arc::new(Sessions { caller, state, next_handle: AtomicU64::new(1) })
    }

    /// One operation; a lost session is renewed first.
    pub(super) async fn call(
        &self,
        who: &Credentials,
        operation: Operation,
        deadline: Instant,
    ) -> Result<MetaReply> {
        loop {
            let result = self.caller.call(who, operation.clone(), deadline).await;
            match result {
                Err(error) if error.kind() == ErrorKind::SessionUnknown => {
                    self.keep(true, deadline).await?;
                }
                other => return other,
            }
        }
    }

    /// A number for a new open file.
    pub(super) fn new_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
    }

    /// Remembers an open file, from before its open is sent.
    pub(super) fn opened(self: &Arc<Self>, open: OpenFile) {
        let mut state = self.state.lock();
        state.open_files.insert(open.handle, open);
        if state.keeper.is_none() {
            let keeper = task::spawn(keep_alive(Arc::downgrade(self)));
            state.keeper = Some(keeper.abort_handle());
        }
    }

    /// Forgets an open file, after its close was answered or its open failed.
    pub(super) fn closed(&self, handle: u64) {
        self.state.lock().open_files.remove(&handle);
    }

    /// Says that this client lives; `all` tells which files it has open.
    async fn keep(&self, all: bool, deadline: Instant) -> Result<Duration> {
        let open_files = all.then(|| self.state.lock().open_files.values().copied().collect());
        let operation = Operation::KeepSession { open_files };
        match self.caller.call(&Credentials::default(), operation, deadline).await? {
            MetaReply::Session { lease_ms } => Ok(Duration::from_millis(lease_ms)),
            other => Err(unexpected("session", &other)),
        }
    }

    /// Stops the task. Afterwards the service forgets this client when its lease ends.
    pub(super) fn stop(&self) {
        if let Some(keeper) = self.state.lock().keeper.take() {
            keeper.abort();
        }
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Keeps the session until its owner is gone.
async fn keep_alive(sessions: Weak<Sessions>) {
    let mut interval = KEEP_INTERVAL_FIRST;
    let mut all = false;
    loop {
        clock::sleep(interval).await;
        let Some(sessions) = sessions.upgrade() else { return };
        if !all && sessions.state.lock().open_files.is_empty() {
            continue;
        }
        let deadline = clock::now() + interval.max(KEEP_INTERVAL_FIRST);
        match sessions.keep(all, deadline).await {
            Ok(lease) => {
                interval = (lease / 3).clamp(Duration::from_millis(50), KEEP_INTERVAL_MAX);
                all = false;
            }
            // Tried again soon; the lease is three intervals long.
            Err(error) => {
                tracing::info!(%error, "the session was not kept at this try");
                all = error.kind() == ErrorKind::SessionUnknown;
                interval = KEEP_INTERVAL_FIRST;
            }
        }
    }
}

/// The error of a reply of the wrong kind.
pub(super) fn unexpected(wanted: &str, reply: &MetaReply) -> Error {
    Error::new(ErrorKind::FrameInvalid, "the metadata service answered something else")
        .with("wanted", wanted)
        .with("reply", format!("{reply:?}").chars().take(80).collect::<String>())
}
