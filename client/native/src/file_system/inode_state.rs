//! What this process knows of one file, shared by all its open files.
//!
//! Why shared: a reader sees what another handle of this process has written and not yet sent, and
//! a truncation through one handle counts for all. Invariants: `attributes` never goes back in
//! time; the visible size is the larger of what the service said and what was written here and not
//! yet settled; an error of a write is reported once to every handle that was open (as Linux does).
//! Locks: `changes` (async) before `local`; `local` is never held across an await.

use super::dirty::{Dirty, Overlay};
use firepond_core::ids::InodeId;
use firepond_core::layout::FileLayout;
use firepond_core::sys::clock::{self, Instant};
use firepond_core::wire::meta::{Attributes, LengthHint};
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::{Notify, RwLock};

/// One file.
pub(super) struct InodeState {
    /// Which.
    pub(super) inode: InodeId,
    /// Where its chunks are.
    pub(super) layout: FileLayout,
    /// Writers share it, a truncation has it alone.
    pub(super) changes: RwLock<()>,
    /// Something sealed has ended.
    pub(super) progress: Notify,
    /// The rest.
    pub(super) local: Mutex<Local>,
}

/// No count of writes: the settlement leaves some of them open.
pub(super) const COVERS_NOTHING: u64 = u64::MAX;

/// What is known and dirty.
pub(super) struct Local {
    attributes: Attributes,
    attributes_at: Instant,
    /// When a reader last began to ask, answered or not.
    asked_at: Instant,
    /// One past the last byte written here and not settled.
    unsettled_end: u64,
    /// The same, of what was acknowledged.
    acknowledged_end: u64,
    /// When the last unsettled write was, in nanoseconds since 1970; 0: none.
    modified_ns: u64,
    /// Counts writes, so that a settlement knows whether it covers the last one.
    write_count: u64,
    /// Counts whatever makes read-ahead stale.
    generation: u64,
    /// Where the last write ended: sequential writers get whole buffers.
    last_write_end: u64,
    error_count: u64,
    last_error: Option<Error>,
    /// Not yet acknowledged.
    pub(super) dirty: Dirty,
}

/// What a read works with: the bytes to read, and the dirty ones that lie over them.
pub(super) struct ReadView {
    /// Bytes to the end of the file or of the request, whichever is first.
    pub(super) len: usize,
    /// Dirty bytes.
    pub(super) overlay: Vec<Overlay>,
}

impl InodeState {
    pub(super) fn new(attributes: Attributes, layout: FileLayout) -> InodeState {
        InodeState {
            inode: attributes.inode,
            layout,
            changes: RwLock::new(()),
            progress: Notify::new(),
            local: Mutex::new(Local {
                attributes,
                attributes_at: clock::now(),
                asked_at: clock::now(),
                unsettled_end: 0,
                acknowledged_end: 0,
                modified_ns: 0,
                write_count: 0,
                generation: 0,
                last_write_end: 0,
                error_count: 0,
                last_error: None,
                dirty: Dirty::new(layout.chunk_size_bytes),
            }),
        }
    }

    /// Waits until `ready` says so, looking again whenever a send has ended.
    ///
    /// # Errors
    /// `DeadlineExceeded` when nothing at all has ended for `patience`.
    pub(super) async fn wait_progress(
        &self,
        patience: Duration,
        mut ready: impl FnMut(&mut Local) -> bool,
    ) -> Result<()> {
        loop {
            let changed = self.progress.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if ready(&mut self.local.lock()) {
                return Ok(());
            }
            if clock::timeout_at(clock::now() + patience, changed).await.is_none() {
                return Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    "no write was acknowledged in time",
                )
                .with("inode", self.inode));
            }
        }
    }
}

impl Local {
    /// Takes what the service said, unless something newer is known.
    pub(super) fn learn(&mut self, attributes: &Attributes) {
        let known = &self.attributes;
        if attributes.truncate_version < known.truncate_version {
            return;
        }
        let same_cut = attributes.truncate_version == known.truncate_version;
        if attributes.size_bytes != known.size_bytes
            || attributes.modified_ns != known.modified_ns
            || !same_cut
        {
            self.generation += 1;
        }
        // Under one truncate version a file only grows.
        let size_bytes = match same_cut {
            true => attributes.size_bytes.max(known.size_bytes),
            false => attributes.size_bytes,
        };
        if !same_cut || attributes.changed_ns >= known.changed_ns {
            self.attributes = attributes.clone();
        }
        self.attributes.size_bytes = size_bytes;
        self.attributes_at = clock::now();
    }

    /// The attributes with what was written here and is not settled.
    pub(super) fn visible(&self) -> Attributes {
        let mut attributes = self.attributes.clone();
        attributes.size_bytes = self.size();
        attributes.modified_ns = attributes.modified_ns.max(self.modified_ns);
        attributes.changed_ns = attributes.changed_ns.max(self.modified_ns);
        attributes
    }

    /// The visible size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.attributes.size_bytes.max(self.unsettled_end)
    }

    /// How long ago the service was asked.
    pub(super) fn age(&self) -> Duration {
        clock::now().saturating_duration_since(self.attributes_at)
    }

    /// Whether it is the caller's turn to ask the service: one asks in each interval, also when
    /// nobody answers.
    pub(super) fn begin_asking(&mut self, interval: Duration) -> bool {
        let now = clock::now();
        let turn = now.saturating_duration_since(self.asked_at) >= interval;
        if turn {
            self.asked_at = now;
        }
        turn
    }

    /// Whatever makes read-ahead stale changes this number.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Notes a write that has been taken in, up to `end`.
    pub(super) fn wrote(&mut self, end: u64) {
        self.unsettled_end = self.unsettled_end.max(end);
        self.modified_ns = clock::unix_time_ns();
        self.write_count += 1;
        self.generation += 1;
        self.last_write_end = end;
    }

    /// Whether a write at `offset` goes on where the last one ended.
    pub(super) fn continues_at(&self, offset: u64) -> bool {
        offset != 0 && self.last_write_end == offset
    }

    /// Notes an acknowledged extent.
    pub(super) fn acknowledged(&mut self, end: u64) {
        self.acknowledged_end = self.acknowledged_end.max(end);
    }

    /// Notes a write that has failed for good.
    pub(super) fn failed(&mut self, error: Error) {
        self.error_count += 1;
        self.last_error = Some(error);
    }

    /// How many errors there were.
    pub(super) fn error_count(&self) -> u64 {
        self.error_count
    }

    /// The newest error if there were more than `seen`.
    pub(super) fn error_since(&self, seen: u64) -> Option<Error> {
        if self.error_count > seen { self.last_error.clone() } else { None }
    }

    /// What the service is told at a settlement, if there is anything, and the number to give to
    /// `settled`.
    pub(super) fn hint(&self) -> (Option<LengthHint>, u64) {
        if self.unsettled_end == 0 && self.modified_ns == 0 {
            return (None, self.write_count);
        }
        let hint = LengthHint {
            size_bytes: self.acknowledged_end,
            truncate_version: self.attributes.truncate_version,
            modified_ns: self.modified_ns,
        };
        // A write that is on its way is not part of the hint, and a settlement must not pass for
        // it.
        (Some(hint), if self.dirty.is_empty() { self.write_count } else { COVERS_NOTHING })
    }

    /// Whether the service does not know of some write yet.
    pub(super) fn unsettled(&self) -> bool {
        self.unsettled_end > 0
    }

    /// The service has settled what was written up to `write_count`.
    pub(super) fn settled(&mut self, attributes: &Attributes, write_count: u64) {
        let generation = self.generation;
        self.learn(attributes);
        if self.write_count == write_count && self.dirty.is_empty() {
            self.unsettled_end = 0;
            self.acknowledged_end = 0;
            self.modified_ns = 0;
            // These are our own writes: what was read ahead since the last of them is still true.
            self.generation = generation;
        }
    }

    /// The file was cut or extended by the service at this client's request.
    pub(super) fn resized(&mut self, attributes: &Attributes) {
        self.unsettled_end = 0;
        self.acknowledged_end = 0;
        self.modified_ns = 0;
        self.generation += 1;
        self.last_write_end = 0;
        self.learn(attributes);
    }

    /// The times were set: earlier writes do not change them any more.
    pub(super) fn times_set(&mut self) {
        self.modified_ns = 0;
    }

    /// What a read of a range sees.
    pub(super) fn view(&self, offset: u64, len: usize) -> ReadView {
        let rest = self.size().saturating_sub(offset);
        let len = len.min(usize::try_from(rest).unwrap_or(usize::MAX));
        ReadView { len, overlay: self.dirty.overlay(offset, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::dirty::Put;
    use firepond_core::ids::{ChainTableId, ChainTableVersion, ChunkIndex};
    use firepond_core::layout::LayoutKind;
    use firepond_core::wire::meta::InodeKind;

    fn state() -> InodeState {
        let layout = FileLayout {
            kind: LayoutKind::Replicated,
            table: ChainTableId(1),
            table_version: ChainTableVersion(1),
            chunk_size_bytes: 1 << 16,
            stripe_count: 1,
            seed: 0,
        };
        let attributes = Attributes {
            inode: InodeId(9),
            kind: InodeKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            link_count: 1,
            size_bytes: 0,
            accessed_ns: 1,
            modified_ns: 1,
            changed_ns: 1,
            truncate_version: 0,
            layout: Some(layout),
        };
        InodeState::new(attributes, layout)
    }

    /// Goal: a settlement that began before a write was acknowledged does not pass for it, so the
    /// next append finds the right end. Oracle: the visible size.
    #[tokio::test]
    async fn a_settlement_covers_only_what_it_told() {
        let pool = firepond_core::buffer::BufferPool::new(firepond_core::buffer::BUFFER_MAX_BYTES);
        let state = state();
        let mut local = state.local.lock();
        let mut buffer = Some(pool.try_acquire(8).expect("room"));
        let put = local.dirty.put(ChunkIndex(0), 0, b"12345678", &mut buffer, clock::now());
        assert!(matches!(put, Put::Done));
        local.wrote(8);
        // The write is on its way when the settlement begins, and has ended when it returns.
        let (_, count) = local.hint();
        local.dirty = Dirty::new(1 << 16);
        local.acknowledged(8);
        let told = local.attributes.clone();
        local.settled(&told, count);
        assert_eq!(local.size(), 8);
        // The next one tells all of it.
        let (hint, count) = local.hint();
        assert_eq!(hint.map(|hint| hint.size_bytes), Some(8));
        let told = Attributes { size_bytes: 8, ..told };
        local.settled(&told, count);
        assert_eq!((local.size(), local.unsettled()), (8, false));
    }
}
