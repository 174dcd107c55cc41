//! Calls in flight on one client connection.
//!
//! Invariants: a call is completed once; the reader writes into a call's sink only while it holds
//! the call's lock and the sink is there, and a cancelled call takes its sink out under that lock:
//! so nothing is written after `call` returned. Locks: `calls`, then a call's `state`; none across
//! await.

use super::shared::{SLOT_BYTES, Slot};
use crate::buffer::BufferPool;
use crate::transport::bulk::ReplySink;
use crate::transport::{Reply, SinkPlan};
use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// All calls of one connection.
#[derive(Default)]
pub(super) struct Calls {
    state: Mutex<CallsState>,
}

#[derive(Default)]
struct CallsState {
    by_id: HashMap<u64, Arc<PendingCall>>,
    last_id: u64,
    /// Set when the connection is gone.
    lost: Option<Error>,
}

/// One call that waits for its reply.
pub(super) struct PendingCall {
    /// Where the server may put the reply's payload; free again when the call is forgotten.
    slot: Option<Slot>,
    state: Mutex<CallState>,
}

struct CallState {
    /// Taken out when the call ends.
    sink: Option<ReplySink>,
    body: Bytes,
    outcome: Option<Result<Reply>>,
    waker: Option<Waker>,
}

impl Calls {
    /// Registers a call.
    ///
    /// # Errors
    /// `PeerUnreachable` when the connection is gone.
    pub(super) fn insert(
        &self,
        plan: Option<Box<dyn SinkPlan>>,
        slot: Option<Slot>,
    ) -> Result<(u64, Arc<PendingCall>)> {
        let mut state = self.state.lock();
        if let Some(error) = &state.lost {
            return Err(error.clone());
        }
        let id = state.last_id + 1;
        Ok((id, state.insert(id, plan, slot)))
    }

    /// Registers a call that was sent already, on a fresh connection.
    pub(super) fn insert_sent(&self, id: u64, plan: Option<Box<dyn SinkPlan>>) -> Arc<PendingCall> {
        self.state.lock().insert(id, plan, None)
    }

    /// A call that still waits.
    pub(super) fn get(&self, id: u64) -> Option<Arc<PendingCall>> {
        self.state.lock().by_id.get(&id).cloned()
    }

    /// Forgets a call; says whether it was there.
    pub(super) fn remove(&self, id: u64) -> Option<Arc<PendingCall>> {
        self.state.lock().by_id.remove(&id)
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.state.lock().by_id.len()
    }

    /// Fails all calls, and those to come.
    pub(super) fn lose(&self, error: &Error) {
        let calls = {
            let mut state = self.state.lock();
            state.lost.get_or_insert_with(|| error.clone());
            std::mem::take(&mut state.by_id)
        };
        for call in calls.into_values() {
            call.complete(Err(error.clone()));
        }
    }

    /// True when the connection is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.state.lock().lost.is_some()
    }
}

impl CallsState {
    fn insert(
        &mut self,
        id: u64,
        plan: Option<Box<dyn SinkPlan>>,
        slot: Option<Slot>,
    ) -> Arc<PendingCall> {
        self.last_id = id;
        let sink = Some(ReplySink::new(plan));
        let call = CallState { sink, body: Bytes::new(), outcome: None, waker: None };
        let call = Arc::new(PendingCall { slot, state: Mutex::new(call) });
        self.by_id.insert(id, Arc::clone(&call));
        call
    }
}

impl PendingCall {
    /// The reply's first frame came.
    pub(super) fn begin(&self, body: Bytes, total: usize, buffers: &BufferPool) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(sink) = &mut state.sink {
            sink.begin(&body, total, buffers)?;
            state.body = body;
        }
        Ok(())
    }

    /// Copies a payload of `total` bytes out of the slot that a reply names.
    pub(super) fn take_slot(&self, code: u16, total: usize) -> Result<()> {
        let slot = self.slot.as_ref().filter(|slot| slot.code() == code && total <= SLOT_BYTES);
        let named = || Error::new(ErrorKind::FrameInvalid, "a reply in a slot that is not its own");
        let slot = slot.ok_or_else(named)?;
        let mut state = self.state.lock();
        let Some(sink) = &mut state.sink else { return Ok(()) };
        let mut start = 0;
        while start < total {
            let room = sink.unfilled(total - start);
            let count = room.len();
            assert!(count > 0, "the sink has room for what was announced");
            slot.take(start, room);
            sink.advance(count);
            start += count;
        }
        Ok(())
    }

    /// Whether the server may still write into a slot of this call.
    pub(super) fn has_slot(&self) -> bool {
        self.slot.is_some()
    }

    /// Runs `work` on the sink, if the call still wants its reply.
    pub(super) fn with_sink<T>(&self, work: impl FnOnce(&mut ReplySink) -> T) -> Option<T> {
        self.state.lock().sink.as_mut().map(work)
    }

    /// The reply's last frame came.
    pub(super) fn finish(&self) {
        let mut state = self.state.lock();
        let Some(mut sink) = state.sink.take() else { return };
        let body = std::mem::take(&mut state.body);
        state.outcome = Some(if sink.missing() == 0 {
            Ok(Reply { body, payload: sink.finish() })
        } else {
            Err(Error::new(ErrorKind::FrameInvalid, "a reply ended before its last byte"))
        });
        PendingCall::wake(&mut state);
    }

    /// The call failed.
    pub(super) fn complete(&self, outcome: Result<Reply>) {
        let mut state = self.state.lock();
        if state.sink.take().is_some() {
            state.outcome = Some(outcome);
            PendingCall::wake(&mut state);
        }
    }

    /// The caller goes away: its sink is never touched again.
    pub(super) fn abandon(&self) {
        self.state.lock().sink = None;
    }

    fn wake(state: &mut CallState) {
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Waits for the outcome.
    pub(super) async fn outcome(&self) -> Result<Reply> {
        poll_fn(|context| {
            let mut state = self.state.lock();
            match state.outcome.take() {
                Some(outcome) => Poll::Ready(outcome),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
