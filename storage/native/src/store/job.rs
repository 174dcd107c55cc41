//! One record on its way to the committer, and what whoever brought it waits for.

use super::image::Extent;
use super::locks::ChunkGuard;
use super::log_block::LoggedPage;
use super::record::{ChunkKey, Record, released_by};
use firepond_core::ids::ChangeStamp;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The record of a chunk that replaces the one before.
pub(super) struct Job {
    pub(super) key: ChunkKey,
    /// None removes the record.
    pub(super) record: Option<Arc<Record>>,
    /// The stamp of the record that this one replaces; 0 if there was none.
    pub(super) stamp_before: ChangeStamp,
    /// Pages that the record does not use any more.
    pub(super) freed: Vec<Extent>,
    /// The pages that the update wrote, if they are to be made durable with the record.
    pub(super) pages: Vec<LoggedPage>,
    /// Whether the record was published already.
    pub(super) is_visible: bool,
    /// Who waits; a job without one is lazy.
    pub(super) answer: Option<oneshot::Sender<Result<()>>>,
    /// Held until the job is done.
    pub(super) _guard: Option<ChunkGuard>,
}

/// The end of a job.
pub(super) struct Durable(Option<oneshot::Receiver<Result<()>>>);

impl Job {
    /// A lazy one, whose record is not visible yet.
    pub(super) fn new(key: ChunkKey, old: Option<&Record>, record: Option<Arc<Record>>) -> Job {
        let freed = released_by(old, record.as_deref());
        let stamp_before = old.map_or(ChangeStamp(0), |old| old.stamp);
        let (pages, is_visible, answer, _guard) = (Vec::new(), false, None, None);
        Job { key, record, stamp_before, freed, pages, is_visible, answer, _guard }
    }

    /// One that somebody waits for, and that holds its chunk until then.
    pub(super) fn awaited(self, guard: ChunkGuard) -> (Job, Durable) {
        let (answer, durable) = oneshot::channel();
        let (answer, _guard) = (Some(answer), Some(guard));
        (Job { answer, _guard, ..self }, Durable(Some(durable)))
    }
}

impl Durable {
    /// Nothing is left to wait for.
    pub(super) const DONE: Durable = Durable(None);

    /// Waits until the record is durable.
    ///
    /// # Errors
    /// `Closed`, `DiskFailed`.
    pub(super) async fn wait(self) -> Result<()> {
        let Some(answer) = self.0 else { return Ok(()) };
        let closed = || Error::new(ErrorKind::Closed, "the store was closed before the end");
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}
