//! The pass of the scrubber through the targets of a process.

use crate::chain::{Backend, Replica};
use crate::resync::pace::Pace;
use crate::service::StorageService;
use crate::store::{ChunkState, ReadVersion, ScrubPlace, VersionState};
use firepond_core::ids::ChunkId;
use firepond_core::sys::clock::{sleep, unix_time_ns};
use firepond_core::{ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Chunks between two notes of the place, and of one comparison with the other replicas.
const PAGE_COUNT: usize = 64;
/// A chunk is read in parts of this size.
const PART_BYTES: u32 = 1 << 20;
/// A pass through a target begins this long after the last one ended, at the earliest.
pub const PASS_INTERVAL: Duration = Duration::from_secs(3600);
/// How often a scrubber without anything to do looks around.
const IDLE: Duration = Duration::from_secs(5);
/// How long it lets reads go first, and how often.
const YIELD: Duration = Duration::from_millis(20);
const YIELDS_MAX_COUNT: usize = 50;

/// The end of all chunk ids.
const LAST: ChunkId = ChunkId([0xff; 16]);

/// The scrubber of one process.
pub struct Scrubber<B> {
    service: Arc<StorageService<B>>,
    pace: Pace,
}

impl<B: Backend> Scrubber<B> {
    /// A scrubber that has not begun.
    pub fn new(service: Arc<StorageService<B>>, bytes_per_second: u64) -> Scrubber<B> {
        Scrubber { service, pace: Pace::new(bytes_per_second) }
    }

    /// Runs until dropped.
    pub async fn run(self) {
        loop {
            let targets = self.service.targets.all();
            for replica in targets.values() {
                self.retry(replica).await;
                if let Err(error) = self.pass(replica).await {
                    tracing::debug!(target_id = replica.target.0, %error, "a pass was broken off");
                }
            }
            sleep(IDLE).await;
        }
    }

    /// Tries to mend what could not be mended before: there may be room, or another replica, now.
    async fn retry(&self, replica: &Arc<Replica<B>>) {
        for chunk in replica.findings.unrepaired() {
            if replica.standing().check_read().is_err() {
                return;
            }
            self.pace.take(u64::from(PART_BYTES)).await;
            if let Err(error) = replica.repair(chunk).await {
                tracing::debug!(%chunk, target_id = replica.target.0, %error, "still bad");
            }
        }
    }

    /// Goes through a target from where it was, if it is due.
    async fn pass(&self, replica: &Arc<Replica<B>>) -> Result<()> {
        let mut place = replica.backend.scrub_place(replica.target)?;
        let last_pass_unix_s = place.last_pass_unix_s;
        replica.findings.last_pass_unix_s.store(last_pass_unix_s, Ordering::Relaxed);
        // A wall clock that went back is no reason to wait for ever.
        let age_s = unix_time_s().checked_sub(last_pass_unix_s);
        let is_due = age_s.is_none_or(|age_s| age_s >= PASS_INTERVAL.as_secs());
        if place.after.is_none() && !is_due {
            return Ok(());
        }
        while replica.standing().check_read().is_ok() {
            let from = place.after.map_or(ChunkId([0; 16]), following);
            let page = replica.backend.list(replica.target, from, LAST, PAGE_COUNT, false)?;
            let Some((last, _)) = page.last() else {
                place = ScrubPlace { after: None, last_pass_unix_s: unix_time_s() };
                replica.backend.set_scrub_place(replica.target, &place)?;
                let ended = place.last_pass_unix_s;
                replica.findings.last_pass_unix_s.store(ended, Ordering::Relaxed);
                return Ok(());
            };
            let after = *last;
            self.check_page(replica, page).await?;
            place.after = Some(after);
            replica.backend.set_scrub_place(replica.target, &place)?;
        }
        Ok(())
    }

    async fn check_page(
        &self,
        replica: &Arc<Replica<B>>,
        page: Vec<(ChunkId, ChunkState)>,
    ) -> Result<()> {
        let mut sound = Vec::with_capacity(page.len());
        for (chunk, state) in page {
            let Some(committed) = state.committed.filter(|one| !one.removed) else { continue };
            self.yield_to_reads().await;
            self.pace.take(u64::from(committed.len)).await;
            if self.check_chunk(replica, chunk, &committed).await? {
                sound.push(chunk);
            }
        }
        if replica.standing().head {
            replica.compare_replicas(&sound).await?;
        }
        Ok(())
    }

    /// Reads a chunk, and mends it if it is rotten; says whether it is sound.
    async fn check_chunk(
        &self,
        replica: &Arc<Replica<B>>,
        chunk: ChunkId,
        committed: &VersionState,
    ) -> Result<bool> {
        let (backend, which) = (&replica.backend, ReadVersion::Exactly(committed.version));
        let mut offset = 0;
        while offset < committed.len {
            let read = backend.read(replica.target, chunk, which, offset, PART_BYTES).await;
            match read {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ChunkChecksumMismatch => {
                    return Ok(replica.repair(chunk).await.is_ok());
                }
                // It was replaced or removed meanwhile, by bytes that are newer than this pass.
                Err(error) if error.kind() == ErrorKind::ChunkNotFound => return Ok(false),
                Err(error) => return Err(error),
            }
            offset = offset.saturating_add(PART_BYTES);
        }
        let findings = &replica.findings;
        findings.chunks_checked.fetch_add(1, Ordering::Relaxed);
        findings.bytes_checked.fetch_add(u64::from(committed.len), Ordering::Relaxed);
        Ok(true)
    }

    /// Clients first: waits while half of what may be read at a time is being read.
    async fn yield_to_reads(&self) {
        for _ in 0..YIELDS_MAX_COUNT {
            if !self.service.is_busy() {
                return;
            }
            sleep(YIELD).await;
        }
    }
}

fn following(chunk: ChunkId) -> ChunkId {
    ChunkId(u128::from_be_bytes(chunk.0).saturating_add(1).to_be_bytes())
}

fn unix_time_s() -> u64 {
    unix_time_ns() / 1_000_000_000
}
