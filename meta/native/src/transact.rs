//! Runs a changing operation as a transaction until it is committed, exactly once.
//!
//! How: a conflict or an unknown outcome runs the operation again from the start, after a short
//! random pause. The request id is looked up first and recorded with the reply in the same
//! transaction, so a run after a lost outcome, or a client's retry after a lost reply, finds what
//! the first run did and answers the same.
//! Conflict set of every recorded operation: its own request keys, besides what it reads itself.
//! Invariants: an operation is applied at most once per (client, request) within the time that
//! records are kept: at least one period, at most two.

use crate::keys;
use crate::records::RequestRecord;
use crate::service::{Caller, MetaService};
use crate::view::{Effects, View};
use firepond_core::kv::{CommitOutcome, KvStore, KvTransaction};
use firepond_core::sys::{clock, random};
use firepond_core::wire::meta::MetaReply;
use firepond_core::{Error, ErrorKind, Result};
use std::future::Future;
use std::time::Duration;

/// How long one period of request records is.
const PERIOD_NS: u64 = 300 * 1_000_000_000;
/// The longest pause between two runs.
const PAUSE_MAX_US: u64 = 20_000;

/// Which answers of an operation are recorded under its request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// None: doing it twice does no harm.
    Never,
    /// What it did.
    Success,
    /// What it did or why it refused: a late duplicate must not destroy what came after a refusal.
    Always,
}

/// A changing operation: reads and writes through the view, and may be run several times.
pub(crate) trait Mutation: Send + Sync {
    /// Which answers are recorded.
    const RECORDED: Recorded;
    /// Runs the operation.
    fn apply<T: KvTransaction>(
        &self,
        view: &mut View<T>,
        caller: &Caller,
    ) -> impl Future<Output = Result<MetaReply>> + Send;
}

/// The period of request records that a time belongs to.
pub(crate) fn period(now_ns: u64) -> u32 {
    u32::try_from(now_ns / PERIOD_NS).unwrap_or(u32::MAX)
}

/// What one run of a transaction came to.
enum Run {
    /// Committed now, or nothing to commit.
    Done(Result<MetaReply>, Effects),
    /// An earlier run or try of the request was committed.
    Replayed(Result<MetaReply>),
    /// Nothing happened.
    Again,
    /// What an unknown outcome has done if it turns out to be committed.
    Unknown(Effects),
}

/// Runs an operation until it is committed, refused, or the deadline passes.
pub(crate) async fn run<S: KvStore, M: Mutation>(
    meta: &MetaService<S>,
    caller: &Caller,
    mutation: &M,
) -> Result<MetaReply> {
    let mut pause_us = 250;
    let mut unknown = Effects::default();
    loop {
        match run_once(meta, caller, mutation).await? {
            Run::Done(reply, effects) => {
                meta.after_commit(effects);
                return reply;
            }
            Run::Replayed(reply) => {
                meta.after_commit(unknown);
                return reply;
            }
            Run::Again => {}
            Run::Unknown(effects) => unknown = effects,
        }
        meta.counters().conflict();
        if clock::now() >= caller.deadline {
            return Err(Error::new(ErrorKind::DeadlineExceeded, "the transaction met conflicts"));
        }
        clock::sleep(Duration::from_micros(pause_us / 2 + random::below(pause_us))).await;
        pause_us = (pause_us * 2).min(PAUSE_MAX_US);
    }
}

async fn run_once<S: KvStore, M: Mutation>(
    meta: &MetaService<S>,
    caller: &Caller,
    mutation: &M,
) -> Result<Run> {
    let mut view = View::changing(meta.store().begin(), meta.now_ns());
    let period = period(view.now_ns);
    if M::RECORDED != Recorded::Never {
        for period in [period, period.saturating_sub(1)] {
            let key = keys::request(period, caller.client, caller.request);
            if let Some(record) = view.get::<RequestRecord>(&key).await? {
                return Ok(Run::Replayed(record.outcome()));
            }
        }
    }
    let reply = mutation.apply(&mut view, caller).await;
    let key = keys::request(period, caller.client, caller.request);
    match (&reply, M::RECORDED) {
        (Ok(_), Recorded::Never) => {}
        (Ok(_), _) => view.put(&key, &RequestRecord::new(&reply))?,
        (Err(error), Recorded::Always) if is_refusal(error) => {
            let now_ns = view.now_ns;
            view = View::changing(meta.store().begin(), now_ns);
            view.get::<RequestRecord>(&key).await?;
            view.put(&key, &RequestRecord::new(&reply))?;
        }
        (Err(_), _) => return Ok(Run::Done(reply, Effects::default())),
    }
    let (transaction, effects) = view.into_parts();
    match transaction.commit().await? {
        CommitOutcome::Committed(_) => Ok(Run::Done(reply, effects)),
        CommitOutcome::Conflict => Ok(Run::Again),
        CommitOutcome::MaybeCommitted => Ok(Run::Unknown(effects)),
    }
}

/// Whether an error is the operation's own answer, not a failure of the store below it.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind() as u16, 5000..6000)
}
