//! Compaction: moves live pages, so that full chunks find contiguous space and the file can shrink.
//!
//! Two reasons to move: a chunk that lies in many pieces takes many transfers to read, and a
//! segment with few used pages keeps a mebibyte of the file for them. Fragmented chunks are noted
//! when they are written, and put together once they are left alone, for until then they would only
//! fall apart again; sparse segments are closed for new pages, and one walk of the index finds
//! whose pages they hold.
//! Invariants: a chunk moves under its lock, so that neither an update, a commit nor a removal
//! comes in between; a move is a new record of the same version, durable before the old pages are
//! free, so a crash gives the old places or the new ones; readers keep theirs (`epochs`). Chunks
//! with a pending version are left for later, rotten ones for repair. At most
//! `compact_bytes_per_s`.

use super::core::Core;
use super::image::{Extent, Image, Run};
use super::job::Job;
use super::pages::{PageWriter, read_pages};
use super::record::{ChunkKey, Record, Version};
use super::scan::scan;
use super::segment::SEGMENT_UNITS;
use super::types::CompactReport;
use firepond_core::payload::Payload;
use firepond_core::sys::clock;
use firepond_core::{ErrorKind, Result};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// Segments with at most this many used pages are emptied ...
const SPARSE_UNITS: u32 = SEGMENT_UNITS / 4;

/// ... when there are this many of them, which then need a fraction of the space ...
const SPARSE_MIN_COUNT: usize = 8;

/// ... and at most so many in one walk of the index.
const SPARSE_MAX_COUNT: usize = 1024;

/// Records that are looked at in one go.
const SCAN_COUNT: usize = 1024;

/// After a walk so many times its length without one.
const WALK_REST_FACTOR: u32 = 10;

/// How long a chunk has been left alone before it is put together ...
const COLD_AGE: Duration = Duration::from_secs(5);

/// ... unless it lies in so many times the pieces that are too many.
const PIECES_FACTOR: usize = 4;

/// How often it is looked whether there is something to do.
const INTERVAL: Duration = Duration::from_secs(1);

/// Compacts for as long as the store is open. Walks of the index take a bounded part of the time.
pub(super) async fn run(core: Arc<Core>) {
    let mut walk_at = clock::now();
    while core.check_disk().is_ok() {
        clock::sleep(INTERVAL).await;
        let mut report = CompactReport::default();
        // What fails here failed the disk, or is met by whoever reads the chunk.
        let _ = put_together(&core, &mut report, COLD_AGE).await;
        let start = clock::now();
        if start >= walk_at {
            let _ = empty_sparse(&core, &mut report).await;
            walk_at = clock::now() + (clock::now() - start) * WALK_REST_FACTOR;
        }
    }
}

/// Moves what is worth it, however lately it was written.
pub(super) async fn pass(core: &Arc<Core>) -> Result<CompactReport> {
    let mut report = CompactReport::default();
    put_together(core, &mut report, Duration::ZERO).await?;
    empty_sparse(core, &mut report).await?;
    Ok(report)
}

async fn put_together(core: &Arc<Core>, report: &mut CompactReport, age: Duration) -> Result<()> {
    let noted = std::mem::take(&mut *core.fragmented.lock());
    for key in noted {
        if is_due(core, &key, age)? {
            move_paced(core, key, report, |_| true).await?;
        } else {
            core.fragmented.lock().insert(key);
        }
    }
    Ok(())
}

fn is_due(core: &Core, key: &ChunkKey, age: Duration) -> Result<bool> {
    let Some(record) = core.lookup(key)? else { return Ok(true) };
    let alone_ns = clock::steady_unix_ns().saturating_sub(record.updated_ns);
    let pieces = record.existing().map_or(0, |version| version.image.extents.len());
    let most = core.options.pieces_max_count * PIECES_FACTOR;
    Ok(is_worth_it(pieces, most, Duration::from_nanos(alone_ns), age))
}

/// Whether a chunk has been left alone for long enough, or lies in far too many pieces.
fn is_worth_it(pieces: usize, most: usize, alone: Duration, age: Duration) -> bool {
    alone >= age || pieces > most
}

async fn empty_sparse(core: &Arc<Core>, report: &mut CompactReport) -> Result<()> {
    if !core.space.drain(SPARSE_UNITS, SPARSE_MIN_COUNT, SPARSE_MAX_COUNT) {
        return Ok(());
    }
    let emptied = walk(core, report).await;
    core.space.end_drain();
    emptied
}

/// Moves all pages that lie in segments that are being emptied.
async fn walk(core: &Arc<Core>, report: &mut CompactReport) -> Result<()> {
    let mut after = Bound::Unbounded;
    loop {
        core.check_disk()?;
        let (found, last) = chunks_in_drained(core, after)?;
        tokio::task::yield_now().await; // The committer has the same thread.
        for key in found {
            move_paced(core, key, report, |extent| core.space.is_drained(extent)).await?;
        }
        match last {
            Some(last) => after = Bound::Excluded(last),
            None => return Ok(()),
        }
    }
}

/// The chunks among the next records that have pages in such segments, and the last chunk that was
/// looked at, unless that was the end.
fn chunks_in_drained(
    core: &Core,
    after: Bound<ChunkKey>,
) -> Result<(Vec<ChunkKey>, Option<ChunkKey>)> {
    let (mut found, mut last, mut count) = (Vec::new(), None, 0);
    scan(core, (after, Bound::Unbounded), false, &mut |key, record| {
        let images = record.images();
        let mut extents = images.iter().flat_map(|image| &image.extents);
        if extents.any(|extent| core.space.is_drained(extent)) {
            found.push(key);
        }
        count += 1;
        last = (count == SCAN_COUNT).then_some(key);
        Ok(count < SCAN_COUNT)
    })?;
    Ok((found, last))
}

async fn move_paced(
    core: &Arc<Core>,
    key: ChunkKey,
    report: &mut CompactReport,
    moves: impl Fn(&Extent) -> bool,
) -> Result<()> {
    let bytes = match move_chunk(core, key, moves).await {
        Ok(bytes) => bytes,
        // Gone, rotten or without room: nothing was changed, and others tell of it.
        Err(error) if !matches!(error.kind(), ErrorKind::DiskFailed | ErrorKind::Closed) => 0,
        Err(error) => return Err(error),
    };
    if bytes > 0 {
        report.chunk_count += 1;
        report.moved_bytes += bytes;
        let rate = core.options.compact_bytes_per_s.max(1);
        clock::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
    }
    Ok(())
}

/// Moves those pages of a chunk; says how many bytes.
async fn move_chunk(
    core: &Arc<Core>,
    key: ChunkKey,
    moves: impl Fn(&Extent) -> bool,
) -> Result<u64> {
    let guard = core.locks.lock(key).await;
    core.check_disk()?;
    core.target(key.target)?;
    let Some(old) = core.lookup(&key)? else { return Ok(0) };
    let Some(version) = old.existing().filter(|_| old.pending.is_none()) else { return Ok(0) };
    let image = &version.image;
    let is_moved = |run: &Run| !run.extent.is_hole() && moves(&run.extent);
    let runs: Vec<Run> = image.runs(0, image.page_count()).into_iter().filter(is_moved).collect();
    let count = runs.iter().map(|run| run.extent.count).sum();
    if count == 0 {
        return Ok(0);
    }
    let extents = core.space.allocate(count)?;
    let moved = match copy(core, version, &runs, &extents).await {
        Ok(moved) => moved,
        Err(error) => {
            core.release(&extents);
            return Err(error);
        }
    };
    let mut next = Record::clone(&old);
    next.committed = Some(Version { image: Arc::new(moved), ..version.clone() });
    let record = Some(Arc::new(next));
    let (job, durable) = Job::new(key, Some(&old), record).awaited(guard);
    core.queue.push(job);
    durable.wait().await?;
    Ok(u64::from(count) * super::page::PAGE_BYTES as u64)
}

/// Copies runs into new places, verified; the image with these.
async fn copy(core: &Core, version: &Version, runs: &[Run], extents: &[Extent]) -> Result<Image> {
    let mut image = Image::clone(&version.image);
    let mut writer = PageWriter::new(core, extents);
    let mut rest = extents.to_vec();
    rest.reverse();
    let mut copied = Ok(());
    for run in runs {
        let pages = run.page..run.page + run.extent.count;
        let size = run.extent.count as usize * super::page::PAGE_BYTES;
        let read = match core.scratch.acquire(size).await {
            Ok(buffer) => {
                read_pages(core, &version.image, version.state.len, pages.clone(), buffer).await
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(buffer) => writer.write(&Payload::from_buffer(buffer), 0..size, size),
            Err(error) => copied = copied.and(Err(error)),
        }
        if copied.is_err() {
            break;
        }
        let places = take_front(&mut rest, run.extent.count);
        let sums = version.image.checksums[pages.start as usize..pages.end as usize].to_vec();
        image = image.splice(pages.start, &places, &sums);
    }
    // The kernel may still write into the pages: they are given back only after this.
    let settled = writer.settle().await;
    copied.and(settled).map(|()| image)
}

/// The next `count` pages of extents that are in reverse order.
fn take_front(rest: &mut Vec<Extent>, mut count: u32) -> Vec<Extent> {
    let mut taken = Vec::new();
    while count > 0 {
        let Some(extent) = rest.pop() else { unreachable!("pages were allocated for all") };
        let part = Extent { count: extent.count.min(count), ..extent };
        if part.count < extent.count {
            rest.push(extent.skip(part.count));
        }
        count -= part.count;
        taken.push(part);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is being written waits, unless its record grows too long. Oracle: the rows.
    #[test]
    fn chunks_are_put_together_when_they_are_cold() {
        let second = Duration::from_secs(1);
        assert!(!is_worth_it(100, 256, second, COLD_AGE));
        assert!(is_worth_it(257, 256, second, COLD_AGE));
        assert!(is_worth_it(65, 256, COLD_AGE, COLD_AGE));
        assert!(is_worth_it(65, 256, Duration::ZERO, Duration::ZERO), "when asked to");
    }
}
