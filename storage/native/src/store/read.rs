//! `read`: verified bytes of one version of a chunk.
//!
//! Invariants: a read sees one version from its first byte to its last, whatever is written
//! meanwhile; every page that it touches is verified. A hot read runs on the calling thread.

use super::core::Core;
use super::epochs::Reader;
use super::page::{PAGE_BYTES, combine_pages, page_count};
use super::pages::read_pages;
use super::record::{ChunkKey, Record, Version};
use super::types::{ReadImage, ReadVersion};
use firepond_core::buffer::Buffer;
use firepond_core::checksum::crc32c;
use firepond_core::payload::Payload;
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;

/// Reads at most `len` bytes from `offset`.
pub(super) async fn read(
    core: &Arc<Core>,
    key: ChunkKey,
    which: ReadVersion,
    offset: u32,
    len: u32,
) -> Result<ReadImage> {
    let mut spare: Option<Buffer> = None;
    loop {
        let reader = Reader::enter(core);
        let record = core.lookup(&key)?.ok_or_else(|| not_found(&key, which))?;
        let version = select(&record, which).ok_or_else(|| not_found(&key, which))?;
        let end = offset.saturating_add(len).min(version.state.len);
        if offset >= end {
            return Ok(image_of(version, Payload::empty(), 0));
        }
        let size = bytes_of_pages(offset, end);
        let fitting = spare.take().filter(|buffer| buffer.capacity() >= size);
        let buffer = match fitting {
            Some(mut buffer) => {
                buffer.set_len(size);
                Ok(buffer)
            }
            None => core.buffers.try_acquire(size),
        };
        match buffer {
            Ok(buffer) => return read_version(core, &key, version, offset, end, buffer).await,
            Err(error) if error.kind() == ErrorKind::PeerOverloaded => {}
            Err(error) => return Err(error),
        }
        // Waiting for room must not keep old pages from being freed: enter anew afterwards.
        drop(reader);
        spare = Some(core.buffers.acquire(size).await?);
    }
}

fn select(record: &Record, which: ReadVersion) -> Option<&Version> {
    let versions = [record.pending.as_ref(), record.committed.as_ref()];
    let found = match which {
        ReadVersion::Committed => record.committed.as_ref(),
        ReadVersion::Newest => versions.into_iter().flatten().next(),
        ReadVersion::Exactly(wanted) => {
            versions.into_iter().flatten().find(|version| version.state.version == wanted)
        }
    };
    found.filter(|version| !version.state.removed)
}

async fn read_version(
    core: &Core,
    key: &ChunkKey,
    version: &Version,
    offset: u32,
    end: u32,
    buffer: Buffer,
) -> Result<ReadImage> {
    let page_bytes = PAGE_BYTES as u32;
    let pages = offset / page_bytes..page_count(end);
    let len = version.state.len;
    let mut buffer = read_pages(core, &version.image, len, pages.clone(), buffer)
        .await
        .map_err(|error| key.describe(error))?;
    let skipped = (offset % page_bytes) as usize;
    let count = (end - offset) as usize;
    if skipped > 0 {
        buffer.copy_within(skipped..skipped + count, 0);
    }
    buffer.set_len(count);
    let is_whole_pages = skipped == 0 && (end == len || end.is_multiple_of(page_bytes));
    let checksum = if is_whole_pages {
        let sums = &version.image.checksums[pages.start as usize..pages.end as usize];
        combine_pages(sums, end - offset)
    } else {
        crc32c(&buffer)
    };
    Ok(image_of(version, Payload::from_buffer(buffer), checksum))
}

fn image_of(version: &Version, payload: Payload, checksum: u32) -> ReadImage {
    ReadImage {
        payload,
        checksum,
        version: version.state.version,
        chunk_len: version.state.len,
        tag: version.tag,
    }
}

/// Bytes of the pages that a range touches.
fn bytes_of_pages(offset: u32, end: u32) -> usize {
    (page_count(end) - offset / PAGE_BYTES as u32) as usize * PAGE_BYTES
}

fn not_found(key: &ChunkKey, which: ReadVersion) -> Error {
    let error = Error::new(ErrorKind::ChunkNotFound, "no such chunk or version");
    key.describe(error.with("which", format_args!("{which:?}")))
}
