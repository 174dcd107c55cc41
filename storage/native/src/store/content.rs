//! The bytes of a new version: which pages change, what they hold, and where they go.
//!
//! Why pages and not blocks: a page has its own checksum, so an aligned 4 KiB overwrite writes 4
//! KiB and reads nothing. The pages of small updates go into the log with their record, and are
//! fresh until its checkpoint; those of larger ones are synced before it. A chunk that falls into
//! many pieces is put together again later (`compact`). Nothing that a committed version uses is
//! ever overwritten.
//! Invariants: the payload's checksum is verified before anything of it can become visible.

use super::core::Core;
use super::image::{Extent, HOLE, Image, unused};
use super::log_block::LoggedPage;
use super::page::{PAGE_BYTES, append_page, combine_pages, page_checksums, page_count, page_len};
use super::pages::{PageWriter, read_pages};
use super::record::ChunkKey;
use super::types::ChunkWrite;
use bytes::Bytes;
use firepond_core::checksum::{crc32c, crc32c_combine, crc32c_zeros};
use firepond_core::payload::Payload;
use firepond_core::routing::Durability;
use firepond_core::sys::mistake::{Mistake, planted};
use firepond_core::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;

/// Payloads up to this long are copied if that saves a write.
const COPY_MAX_BYTES: usize = 64 << 10;

/// Updates that write at most this much are made durable by the log.
const LOGGED_MAX_BYTES: usize = 16 << 10;

/// A streamed payload is written in pieces of at least this length.
const PIECE_BYTES: usize = 256 << 10;

/// An image that is being made, with the bytes of the chunk and the pages that were taken for it.
pub(super) struct Draft {
    pub(super) image: Arc<Image>,
    pub(super) len: u32,
    /// Taken from the free space; to be given back if the draft is thrown away.
    pub(super) taken: Vec<Extent>,
    /// Times that pages were taken.
    take_count: usize,
    /// The chunk, if its small writes go through the log.
    logged_key: Option<ChunkKey>,
    /// What the log is to make durable.
    pub(super) logged: Vec<LoggedPage>,
}

impl Draft {
    pub(super) fn new(image: Arc<Image>, len: u32, logged_key: Option<ChunkKey>) -> Draft {
        let (taken, logged) = (Vec::new(), Vec::new());
        Draft { image, len, taken, take_count: 0, logged_key, logged }
    }

    /// Gives back pages that were taken and replaced again.
    pub(super) fn release_unused(&mut self, core: &Core) {
        if self.take_count > 1 {
            core.release(&unused(&self.taken, &self.image));
            let image = &self.image;
            self.logged.retain(|logged| {
                logged.page < image.page_count()
                    && image.runs(logged.page, 1)[0].extent.unit == logged.unit
            });
        }
    }

    /// The checksum of the whole chunk.
    pub(super) fn checksum(&self) -> u32 {
        combine_pages(&self.image.checksums, self.len)
    }

    /// Cuts the chunk, or extends it with zeros.
    pub(super) async fn resize(&mut self, core: &Core, len: u32) -> Result<()> {
        if len < self.len {
            return self.cut(core, len).await;
        }
        let tail = self.len as usize % PAGE_BYTES;
        if tail != 0 && len > self.len {
            let page = self.len / PAGE_BYTES as u32;
            let filled = len.min((page + 1) * PAGE_BYTES as u32);
            self.rewrite(core, page..page + 1, filled, &[], 0).await?;
        }
        self.image = Arc::new(self.image.with_holes(len));
        self.len = len;
        Ok(())
    }

    /// Cuts without writing: the bytes beyond the end are no longer part of the page's checksum.
    async fn cut(&mut self, core: &Core, len: u32) -> Result<()> {
        let pages = page_count(len);
        let mut image = self.image.prefix(pages);
        let tail = len as usize % PAGE_BYTES;
        if tail != 0 {
            let buffer = core.scratch.acquire(PAGE_BYTES).await?;
            let page = read_pages(core, &self.image, self.len, pages - 1..pages, buffer).await?;
            if let Some(last) = image.checksums.last_mut() {
                *last = crc32c(&page[..tail]);
            }
        }
        (self.image, self.len) = (Arc::new(image), len);
        Ok(())
    }

    /// Makes a range zeros, as far as the chunk reaches: whole pages become holes, the edges are
    /// written.
    pub(super) async fn punch(&mut self, core: &Core, offset: u32, len: u32) -> Result<()> {
        const PAGE: u32 = PAGE_BYTES as u32;
        let end = offset.saturating_add(len).min(self.len);
        if offset >= end {
            return Ok(());
        }
        let first = offset.div_ceil(PAGE);
        let last = if end == self.len { page_count(end) } else { end / PAGE };
        if !offset.is_multiple_of(PAGE) {
            self.zero(core, offset, end.min(first * PAGE)).await?;
        }
        if last >= first && last * PAGE < end {
            self.zero(core, last * PAGE, end).await?;
        }
        if first < last {
            let hole = Extent { unit: HOLE, count: last - first };
            let sums = (first..last).map(|page| crc32c_zeros(page_len(page, self.len) as u64));
            self.image = Arc::new(self.image.splice(first, &[hole], &sums.collect::<Vec<u32>>()));
        }
        Ok(())
    }

    /// Writes zeros over a part of a page, unless the page is a hole already.
    async fn zero(&mut self, core: &Core, start: u32, end: u32) -> Result<()> {
        let page = start / PAGE_BYTES as u32;
        if self.image.runs(page, 1).iter().all(|run| run.extent.is_hole()) {
            return Ok(());
        }
        let zeros = vec![0; (end - start) as usize];
        self.rewrite(core, page..page + 1, self.len, &zeros, start).await
    }

    /// Puts the payload at the offset of the write.
    pub(super) async fn write(&mut self, core: &Core, write: &ChunkWrite) -> Result<()> {
        let first = write.offset / PAGE_BYTES as u32;
        if first > self.len / PAGE_BYTES as u32 {
            self.resize(core, first * PAGE_BYTES as u32).await?;
        }
        if write.len == 0 {
            let len = self.len.max(write.offset);
            return self.resize(core, len).await;
        }
        let end = write.offset + write.len;
        let len = self.len.max(end);
        let pages = first..page_count(end);
        let is_aligned = write.offset.is_multiple_of(PAGE_BYTES as u32);
        let is_whole = end.is_multiple_of(PAGE_BYTES as u32);
        let is_copied = !is_aligned
            || (self.logged_key.is_some() && write.payload.len() <= LOGGED_MAX_BYTES)
            || (!is_whole && write.payload.len() <= COPY_MAX_BYTES);
        if is_copied {
            let payload = write.payload.complete().await?;
            check_payload(crc32c(payload), write)?;
            self.rewrite(core, pages, len, payload, write.offset).await
        } else {
            self.stream(core, pages, len, write).await
        }
    }

    /// Writes pages from a buffer that holds their old bytes with `bytes` put over them at
    /// `offset`.
    async fn rewrite(
        &mut self,
        core: &Core,
        pages: Range<u32>,
        len: u32,
        bytes: &[u8],
        offset: u32,
    ) -> Result<()> {
        let size = (pages.end - pages.start) as usize * PAGE_BYTES;
        let base = pages.start as usize * PAGE_BYTES;
        let start = (offset as usize).max(base) - base;
        let valid_len = (len as usize).min(base + size) - base;
        let is_covered = start == 0 && base + bytes.len() >= (self.len as usize).min(base + size);
        let mut buffer = core.scratch.acquire(size).await?;
        if is_covered {
            buffer[bytes.len()..].fill(0);
        } else {
            buffer = self.old_bytes(core, pages.clone(), buffer).await?;
        }
        buffer[start..start + bytes.len()].copy_from_slice(bytes);
        let kept: Vec<Extent> = match planted(Mistake::TailInPlace) {
            true => self.image.runs(pages.start, 1).iter().map(|run| run.extent).collect(),
            false => Vec::new(),
        };
        let in_place = pages.end - pages.start == 1 && kept.iter().any(|one| !one.is_hole());
        let extents = if in_place { kept } else { self.take(core, pages.end - pages.start)? };
        let is_logged = size <= LOGGED_MAX_BYTES && !in_place;
        let checksums = match self.logged_key.filter(|_| is_logged) {
            Some(key) => {
                self.add_fresh(core, key, pages.start, &extents, &buffer);
                page_checksums(&buffer[..valid_len]).collect()
            }
            None => {
                let mut writer = PageWriter::new(core, &extents);
                writer.write(&Payload::from_buffer(buffer), 0..size, valid_len);
                writer.settle().await?;
                writer.checksums
            }
        };
        self.image = Arc::new(self.image.splice(pages.start, &extents, &checksums));
        self.len = self.len.max(base as u32 + valid_len as u32);
        Ok(())
    }

    /// Keeps pages for the log and for readers. A copy: the buffers between disk and disk are soon
    /// needed.
    fn add_fresh(
        &mut self,
        core: &Core,
        key: ChunkKey,
        first: u32,
        extents: &[Extent],
        bytes: &[u8],
    ) {
        let bytes = Bytes::copy_from_slice(bytes);
        let units = extents
            .iter()
            .flat_map(|extent| (0..extent.count).map(|offset| extent.unit + u64::from(offset)));
        for (offset, unit) in units.enumerate() {
            let start = offset * PAGE_BYTES;
            let (page, bytes) = (first + offset as u32, bytes.slice(start..start + PAGE_BYTES));
            core.fresh.insert(unit, bytes.clone());
            self.logged.push(LoggedPage { key, page, unit, bytes });
        }
    }

    /// The bytes that pages hold now, zeros beyond the end of the chunk.
    async fn old_bytes(
        &self,
        core: &Core,
        pages: Range<u32>,
        mut buffer: firepond_core::buffer::Buffer,
    ) -> Result<firepond_core::buffer::Buffer> {
        let size = buffer.len();
        let have = pages.start..pages.end.min(self.image.page_count());
        let mut valid = 0;
        if have.start < have.end {
            buffer.set_len((have.end - have.start) as usize * PAGE_BYTES);
            buffer = read_pages(core, &self.image, self.len, have.clone(), buffer).await?;
            let last = have.end - 1;
            valid = (last - have.start) as usize * PAGE_BYTES + page_len(last, self.len);
        }
        buffer.set_len(size);
        buffer[valid..].fill(0);
        Ok(buffer)
    }

    /// Writes the payload from where it is, while it arrives. Only a last page that is not whole is
    /// copied, to be filled up.
    async fn stream(
        &mut self,
        core: &Core,
        pages: Range<u32>,
        len: u32,
        write: &ChunkWrite,
    ) -> Result<()> {
        let extents = self.take(core, pages.end - pages.start)?;
        let mut writer = match write.durability {
            Durability::Durable => PageWriter::new(core, &extents),
            Durability::Cache => PageWriter::cached(core, &extents),
        };
        let streamed = self.stream_pages(core, &mut writer, write, len).await;
        let settled = writer.settle().await;
        streamed.and(settled)?;
        self.image = Arc::new(self.image.splice(pages.start, &extents, &writer.checksums));
        self.len = len;
        Ok(())
    }

    async fn stream_pages(
        &self,
        core: &Core,
        writer: &mut PageWriter<'_>,
        write: &ChunkWrite,
        len: u32,
    ) -> Result<()> {
        let payload = &write.payload;
        let whole = payload.len() / PAGE_BYTES * PAGE_BYTES;
        let mut written = 0;
        while written < whole {
            let filled = payload.wait_filled((written + PIECE_BYTES).min(whole)).await?.len();
            let end = filled.min(whole) / PAGE_BYTES * PAGE_BYTES;
            writer.write(payload, written..end, end - written);
            written = end;
        }
        let mut crc = writer.checksums.iter().fold(0, |crc, page| append_page(crc, *page));
        let tail = &payload.complete().await?[whole..];
        if !tail.is_empty() {
            crc = crc32c_combine(crc, crc32c(tail), tail.len() as u64);
            let page = write.offset / PAGE_BYTES as u32 + (whole / PAGE_BYTES) as u32;
            let buffer = core.scratch.acquire(PAGE_BYTES).await?;
            let mut buffer = self.old_bytes(core, page..page + 1, buffer).await?;
            buffer[..tail.len()].copy_from_slice(tail);
            let valid_len = page_len(page, len);
            writer.write(&Payload::from_buffer(buffer), 0..PAGE_BYTES, valid_len);
        }
        check_payload(crc, write)
    }

    fn take(&mut self, core: &Core, count: u32) -> Result<Vec<Extent>> {
        let extents = core.space.allocate(count)?;
        self.taken.extend(&extents);
        self.take_count += 1;
        Ok(extents)
    }
}

fn check_payload(found: u32, write: &ChunkWrite) -> Result<()> {
    if found == write.checksum {
        return Ok(());
    }
    Err(Error::new(ErrorKind::PayloadChecksumMismatch, "the payload changed on its way")
        .with("expected", format_args!("{:08x}", write.checksum))
        .with("found", format_args!("{found:08x}")))
}
