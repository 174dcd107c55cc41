//! What opening does with the log: brings the index and the data file up to it.
//!
//! Why a page is written only where the last record of its chunk has it: a page of the log may have
//! been given back since, and be part of another chunk that did not go through the log. A record
//! that names place and checksum of exactly these bytes cannot be wronged by them.
//! Invariants: replaying twice is replaying once; a gap in the numbers is rot, and is told.

use super::codec::{chunk_key, corrupt, decode_record};
use super::index::ChunkIndex;
use super::log::Mark;
use super::log_block::{BLOCK_ALIGNMENT_BYTES, Body, Header, decode_body, decode_header, is_whole};
use super::page::{PAGE_BYTES, page_len};
use super::record::Record;
use firepond_core::Result;
use firepond_core::checksum::crc32c;
use firepond_core::sys::disk::DiskFile;
use std::collections::BTreeMap;

/// Replays what follows the mark; returns the mark that it comes to.
pub(super) fn replay(
    log: &dyn DiskFile,
    mark: Mark,
    data: &dyn DiskFile,
    index: &dyn ChunkIndex,
) -> Result<Mark> {
    let mut fresh = BTreeMap::new();
    for place in find_blocks(log)? {
        if place.1.id == mark.id && place.1.sequence > mark.sequence {
            fresh.insert(place.1.sequence, place);
        }
    }
    let mut last = mark.sequence;
    for (sequence, place) in &fresh {
        if *sequence != last + 1 {
            return Err(corrupt("a block of the log is missing").with("block", last + 1));
        }
        last = *sequence;
        index.write(read_block(log, *place)?.changes, false)?;
    }
    for place in fresh.values() {
        for (key, page, unit, bytes) in read_block(log, *place)?.pages {
            let Some(record) = index.get(&chunk_key(&key))? else { continue };
            if is_named(&decode_record(&record)?, page, unit, &bytes) {
                data.write_cached(&bytes, unit * PAGE_BYTES as u64)?;
            }
        }
    }
    Ok(Mark { sequence: last, ..mark })
}

/// Whether a record says that these bytes are in this place.
fn is_named(record: &Record, page: u32, unit: u64, bytes: &[u8]) -> bool {
    record.committed.iter().chain(&record.pending).any(|version| {
        let image = &version.image;
        let valid = &bytes[..page_len(page, version.state.len)];
        page < image.page_count()
            && image.runs(page, 1).iter().any(|run| run.extent.unit == unit)
            && image.checksums[page as usize] == crc32c(valid)
    })
}

/// The whole blocks of the log and where they are: wherever they are, for the halves may have had
/// another size. Between them is what is torn, or of an earlier time.
fn find_blocks(log: &dyn DiskFile) -> Result<Vec<(u64, Header)>> {
    let (mut places, mut page) = (Vec::new(), [0; BLOCK_ALIGNMENT_BYTES]);
    let (mut at, end) = (0, log.len()?);
    while at < end && log.read_in_place(&mut page, at)? == page.len() {
        let header = decode_header(&page).filter(|header| block_len(header) <= end - at);
        let whole = match header {
            Some(header) => is_whole(&header, &read(log, at, &header)?).then_some(header),
            None => None,
        };
        at += match whole {
            Some(header) => {
                places.push((at, header));
                block_len(&header)
            }
            None => page.len() as u64,
        };
    }
    Ok(places)
}

fn block_len(header: &Header) -> u64 {
    let len = super::log_block::HEADER_BYTES + header.body_len;
    len.next_multiple_of(BLOCK_ALIGNMENT_BYTES) as u64
}

fn read(log: &dyn DiskFile, at: u64, header: &Header) -> Result<Vec<u8>> {
    let mut bytes = vec![0; block_len(header) as usize];
    let count = log.read_in_place(&mut bytes, at)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn read_block(log: &dyn DiskFile, (at, header): (u64, Header)) -> Result<Body> {
    decode_body(&header, &read(log, at, &header)?)
}
