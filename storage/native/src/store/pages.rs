//! Reading pages from disk and writing them, with their checksums.
//!
//! Invariants: no byte leaves here unverified; a page is looked for among the fresh ones first, for
//! it leaves them only after the data file has it; whoever writes owns the extents and waits until
//! all writes ended, so that the extents can be given back after a failure.

use super::core::Core;
use super::image::{Extent, Image, Run};
use super::page::{PAGE_BYTES, page_checksums, page_len};
use firepond_core::buffer::Buffer;
use firepond_core::checksum::crc32c;
use firepond_core::payload::Payload;
use firepond_core::sys::disk::BoxFuture;
use firepond_core::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Reads pages into the start of `buffer` and verifies them. The image is of a chunk of `len`
/// bytes.
pub(super) async fn read_pages(
    core: &Core,
    image: &Image,
    len: u32,
    pages: Range<u32>,
    mut buffer: Buffer,
) -> Result<Buffer> {
    let mut runs = image.runs(pages.start, pages.end - pages.start);
    let fresh = core.fresh.find(&runs);
    if !fresh.is_empty() {
        for (page, bytes) in &fresh {
            let start = (page - pages.start) as usize * PAGE_BYTES;
            buffer[start..start + PAGE_BYTES].copy_from_slice(bytes);
        }
        runs = without(&runs, fresh.iter().map(|(page, _)| *page));
        read_runs(core, &runs, pages.start, &mut buffer).await?;
    } else if let [run] = runs[..]
        && !run.extent.is_hole()
        && buffer.len() == bytes_of(&run.extent)
    {
        let offset = offset_of(&run.extent);
        if core.file.read_cached(&mut buffer, offset).is_none() {
            let (count, back) = core.file.read(buffer, offset).await;
            buffer = back;
            check_count(count?, bytes_of(&run.extent))?;
        }
    } else {
        read_runs(core, &runs, pages.start, &mut buffer).await?;
    }
    let verified = verify(image, len, pages, &buffer);
    if verified.is_err() {
        core.rotten_count.fetch_add(1, Ordering::Relaxed);
    }
    verified.map(|()| buffer)
}

/// As `read_pages`, of runs that do not touch on disk. What is not cached is read at the same time.
async fn read_runs(core: &Core, runs: &[Run], first: u32, buffer: &mut Buffer) -> Result<()> {
    let place = |run: &Run| {
        let start = (run.page - first) as usize * PAGE_BYTES;
        start..start + bytes_of(&run.extent)
    };
    let mut reads = Vec::new();
    for run in runs {
        let into = &mut buffer[place(run)];
        if run.extent.is_hole() {
            into.fill(0);
        } else if core.file.read_cached(into, offset_of(&run.extent)).is_none() {
            let part = core.scratch.acquire(bytes_of(&run.extent)).await?;
            reads.push((run, core.file.read(part, offset_of(&run.extent))));
        }
    }
    for (run, read) in reads {
        let (count, part) = read.await;
        check_count(count?, part.len())?;
        buffer[place(run)].copy_from_slice(&part);
    }
    Ok(())
}

/// What is left of runs without some of their pages, which are in order.
fn without(runs: &[Run], pages: impl Iterator<Item = u32>) -> Vec<Run> {
    let mut rest = Vec::with_capacity(runs.len());
    let mut pages = pages.peekable();
    for run in runs {
        let mut run = *run;
        while let Some(page) = pages.next_if(|page| *page < run.page + run.extent.count) {
            let before = page - run.page;
            rest.push(Run { extent: Extent { count: before, ..run.extent }, ..run });
            run = Run { page: page + 1, extent: run.extent.skip(before + 1) };
        }
        rest.push(run);
    }
    rest.retain(|run| run.extent.count > 0);
    rest
}

fn verify(image: &Image, len: u32, pages: Range<u32>, bytes: &[u8]) -> Result<()> {
    let expected = &image.checksums[pages.start as usize..pages.end as usize];
    for ((page, expected), bytes) in pages.zip(expected).zip(bytes.chunks(PAGE_BYTES)) {
        let found = crc32c(&bytes[..page_len(page, len)]);
        if found != *expected {
            let unit = image.runs(page, 1).first().map_or(0, |run| run.extent.unit);
            return Err(Error::new(ErrorKind::ChunkChecksumMismatch, "a page rotted on disk")
                .with("page", page)
                .with("disk_offset", unit.wrapping_mul(PAGE_BYTES as u64))
                .with("expected", format_args!("{expected:08x}"))
                .with("found", format_args!("{found:08x}")));
        }
    }
    Ok(())
}

fn check_count(count: usize, wanted: usize) -> Result<()> {
    if count == wanted {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ChunkChecksumMismatch, "the data file ends within a page")
        .with("wanted", wanted)
        .with("read", count))
}

fn offset_of(extent: &Extent) -> u64 {
    extent.unit * PAGE_BYTES as u64
}

fn bytes_of(extent: &Extent) -> usize {
    extent.count as usize * PAGE_BYTES
}

/// Writes into extents that are filled one after the other.
pub(super) struct PageWriter<'a> {
    core: &'a Core,
    /// Extents that are still to be filled.
    rest: Vec<Extent>,
    running: Vec<BoxFuture<'a, Result<()>>>,
    /// The bytes may be lost, and will be read soon.
    is_cached: bool,
    /// Something went past the page cache.
    is_direct: bool,
    pub(super) checksums: Vec<u32>,
}

impl<'a> PageWriter<'a> {
    pub(super) fn new(core: &'a Core, extents: &[Extent]) -> PageWriter<'a> {
        let rest = extents.iter().rev().copied().collect();
        let (running, checksums) = (Vec::new(), Vec::new());
        PageWriter { core, rest, running, is_cached: false, is_direct: false, checksums }
    }

    /// A writer of bytes that need not be durable: they go into the page cache while it has room.
    pub(super) fn cached(core: &'a Core, extents: &[Extent]) -> PageWriter<'a> {
        PageWriter { is_cached: true, ..PageWriter::new(core, extents) }
    }

    /// Starts writing whole pages, which are `valid_len` bytes of the chunk and padding.
    pub(super) fn write(&mut self, source: &Payload, range: Range<usize>, valid_len: usize) {
        assert!(range.len().is_multiple_of(PAGE_BYTES) && valid_len <= range.len(), "whole pages");
        let valid = &source.filled()[range.start..range.start + valid_len];
        self.checksums.extend(page_checksums(valid));
        let mut start = range.start;
        while start < range.end {
            let Some(extent) = self.rest.pop() else {
                unreachable!("pages were allocated for all")
            };
            let count = extent.count.min(((range.end - start) / PAGE_BYTES) as u32);
            let part = start..start + count as usize * PAGE_BYTES;
            start = part.end;
            self.start(source, part, offset_of(&extent));
            if count < extent.count {
                self.rest.push(extent.skip(count));
            }
        }
    }

    fn start(&mut self, source: &Payload, part: Range<usize>, offset: u64) {
        if self.is_cached {
            match self.core.cached_writes.write(&source.filled()[part.clone()], offset) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => return self.running.push(Box::pin(async move { Err(error) })),
            }
        }
        self.is_direct = true;
        self.running.push(self.core.file.write(source.clone(), part, offset));
    }

    /// Waits until every write ended; the first failure counts, and fails the disk.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let mut result = Ok(());
        for write in self.running.drain(..) {
            result = result.and(write.await);
        }
        if self.is_direct {
            self.core.unsynced.store(true, Ordering::Release);
        }
        result.map_err(|cause| self.core.write_failed(cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(page: u32, unit: u64, count: u32) -> Run {
        Run { page, extent: Extent { unit, count } }
    }

    /// Goal: what is read from disk is what is not fresh. Oracle: the rows.
    #[test]
    fn runs_without_pages() {
        let runs = [run(0, 100, 4), run(4, super::super::image::HOLE, 2), run(6, 50, 3)];
        let rest = |pages: &[u32]| without(&runs, pages.iter().copied());
        assert_eq!(rest(&[]), runs);
        assert_eq!(rest(&[0, 3]), [run(1, 101, 2), runs[1], runs[2]]);
        assert_eq!(
            rest(&[1, 7]),
            [run(0, 100, 1), run(2, 102, 2), runs[1], run(6, 50, 1), run(8, 52, 1)]
        );
        assert_eq!(rest(&[0, 1, 2, 3, 6, 7, 8]), [runs[1]]);
    }
}
