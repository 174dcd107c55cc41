//! The runtime of `update`: performs its actions and brings back what became of them.
//!
//! Invariants: storing and forwarding run at the same time on this one task; every event is judged
//! under the standing of its moment; a store operation that began is awaited before the chunk's
//! lock is given up.

use super::backend::Backend;
use super::forward::forward;
use super::job::Job;
use super::replica::Replica;
use super::update::{Action, Event, Plan, Update};
use crate::store::{ChunkWrite, VersionState};
use firepond_core::ids::{ChunkId, RoutingVersion};
use firepond_core::sys::clock::{Instant, now, sleep_until};
use firepond_core::sys::disk::BoxFuture;
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::watch;
use firepond_core::wire::storage::UpdateReply;
use firepond_core::{Error, ErrorKind, Result};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

/// How long an update holds its chunk while the chain does not take it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Slots<'a> {
    apply: Option<BoxFuture<'a, Result<VersionState>>>,
    forward: Option<BoxFuture<'a, Event>>,
    store: Option<BoxFuture<'a, Event>>,
    retry_at: Option<Instant>,
    tired_at: Instant,
}

/// Runs an update under the chunk's lock until it is acknowledged or given up.
pub(super) async fn replicate<B: Backend>(
    replica: &Replica<B>,
    job: &Job,
    plan: Plan,
    mut update: Update,
) -> Result<UpdateReply> {
    let mut routing = replica.node.peers.routing().subscribe();
    let mut slots = Slots {
        apply: None,
        forward: None,
        store: None,
        retry_at: None,
        tired_at: now() + PATIENCE,
    };
    let mut event = Event::Started;
    let begun = planted(Mistake::StandingNotRenewed).then(|| replica.standing());
    loop {
        let standing = begun.clone().unwrap_or_else(|| replica.standing());
        for action in update.step(&standing, event) {
            match action {
                Action::Apply { chain_version, commit } => {
                    let durability = replica.standing().durability;
                    let write = job.write(&plan, chain_version, commit, durability);
                    slots.apply = Some(Box::pin(apply(replica, write)));
                }
                Action::Forward { to, chain_version, form } => {
                    let sending = forward(replica, job, plan, to, chain_version, form);
                    slots.forward = Some(Box::pin(sending));
                }
                Action::CancelForward => slots.forward = None,
                Action::Commit { chain_version } => {
                    let chunk = job.update.chunk;
                    slots.store = Some(Box::pin(async move {
                        let (target, version) = (replica.target, plan.version);
                        let commit = replica.backend.commit(target, chunk, version, chain_version);
                        let result = commit.await;
                        note_commit(replica, chunk, &result);
                        Event::Committed(result)
                    }));
                }
                Action::Abort => {
                    let (chunk, version) = (job.update.chunk, plan.version);
                    slots.store = Some(Box::pin(async move {
                        let dropped = replica.backend.drop_pending(replica.target, chunk, version);
                        Event::Aborted(dropped.await)
                    }));
                }
                Action::RetryAfter(pause) => slots.retry_at = Some(now() + pause),
                Action::FailTarget(error) => replica.fail(&error),
                Action::Expel { to, chain_version, full } => {
                    replica.expel(to, chain_version, full);
                }
                Action::Finish(result) => {
                    if let Some(error) = slots.end().await
                        && update.is_lost_by(&error)
                    {
                        replica.fail(&error);
                    }
                    return result;
                }
            }
        }
        event = slots.next(&mut routing).await;
    }
}

impl Slots<'_> {
    async fn next(&mut self, routing: &mut watch::Receiver<RoutingVersion>) -> Event {
        let wake_at = self.retry_at.unwrap_or(self.tired_at).min(self.tired_at);
        tokio::select! {
            biased;
            result = running(&mut self.apply) => Event::Applied(result),
            event = running(&mut self.forward) => event,
            event = running(&mut self.store) => event,
            Ok(()) = routing.changed() => Event::RoutingChanged,
            () = sleep_until(wake_at) => {
                self.retry_at = None;
                if wake_at < self.tired_at { Event::RetryDue } else { Event::Tired }
            }
        }
    }

    /// Lets the store finish what it began; says why it did not take the update.
    async fn end(&mut self) -> Option<Error> {
        if self.store.is_some() {
            running(&mut self.store).await;
        }
        if self.apply.is_some() { running(&mut self.apply).await.err() } else { None }
    }
}

/// The output of the future in the slot, which is empty then; waits for ever on an empty slot.
async fn running<T>(slot: &mut Option<BoxFuture<'_, T>>) -> T {
    let output = poll_fn(|context| match slot.as_mut() {
        Some(future) => future.as_mut().poll(context),
        None => Poll::Pending,
    })
    .await;
    *slot = None;
    output
}

async fn apply<B: Backend>(replica: &Replica<B>, write: ChunkWrite) -> Result<VersionState> {
    let (chunk, commit) = (write.chunk, write.commit);
    if !commit {
        replica.dirty.insert(chunk);
    }
    let mut result = replica.backend.apply(replica.target, write.clone()).await;
    if matches!(&result, Err(error) if error.kind() == ErrorKind::ChunkChecksumMismatch) {
        // A partial write touched a rotten block: mend the chunk, then write again.
        match replica.repair_locked(chunk).await {
            Ok(()) => result = replica.backend.apply(replica.target, write).await,
            // For good: the sender must not try until its deadline.
            Err(lost) if lost.kind() == ErrorKind::ChunkLost => result = Err(lost),
            Err(_) => {}
        }
    }
    if commit {
        note_commit(replica, chunk, &result);
    }
    result
}

fn note_commit<B: Backend>(replica: &Replica<B>, chunk: ChunkId, result: &Result<VersionState>) {
    if let Ok(state) = result {
        replica.values.committed(chunk, (!state.removed).then_some(state.len));
    }
}
