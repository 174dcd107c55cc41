//! The bytes of a block of the log, as docs/disk-format.md describes them.
//!
//! Invariants: a block is whole pages; its checksum covers number, length and body, so a torn block
//! is none; decoding checks every length. The log's id is random and never leaves the disk, so that
//! no bytes of a client can pass for a block.

use super::codec::{Input, corrupt, decode_chunk_key};
use super::index::Change;
use super::page::PAGE_BYTES;
use super::record::ChunkKey;
use firepond_core::checksum::crc32c;
use firepond_core::payload::Payload;
use firepond_core::{Error, ErrorKind, Result};

/// Blocks begin at multiples of this.
pub(super) const BLOCK_ALIGNMENT_BYTES: usize = PAGE_BYTES;

const MAGIC: [u8; 4] = *b"FPLG";
const BLOCK_VERSION: u8 = 1;
/// Magic, version, three zeros, the log's id, number, length of the body, checksum.
pub(super) const HEADER_BYTES: usize = 32;
/// The part of the header that the checksum covers.
const CHECKED_HEADER: std::ops::Range<usize> = 4..28;

/// A page that a small update wrote.
#[derive(Clone, Debug)]
pub(super) struct LoggedPage {
    /// The chunk that it belongs to.
    pub(super) key: ChunkKey,
    /// Which page of the chunk.
    pub(super) page: u32,
    /// Where it is in the data file.
    pub(super) unit: u64,
    /// Its bytes are `PAGE_BYTES` of this, from `start`.
    pub(super) source: Payload,
    pub(super) start: usize,
}

/// The header of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) sequence: u64,
    pub(super) body_len: usize,
    checksum: u32,
}

/// What a block says.
pub(super) struct Body {
    pub(super) changes: Vec<Change>,
    pub(super) pages: Vec<(ChunkKey, u32, u64, [u8; PAGE_BYTES])>,
}

/// A whole block.
pub(super) fn encode(id: u64, sequence: u64, changes: &[Change], pages: &[&LoggedPage]) -> Vec<u8> {
    let sizes = changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
    let len = sizes.sum::<usize>() + changes.len() * 8 + pages.len() * (PAGE_BYTES + 36);
    let mut out = Vec::with_capacity((HEADER_BYTES + len + 16).next_multiple_of(PAGE_BYTES));
    out.resize(HEADER_BYTES, 0);
    out.extend_from_slice(&(changes.len() as u32).to_le_bytes());
    for (key, value) in changes {
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(key);
        let len = value.as_ref().map_or(u32::MAX, |value| value.len() as u32);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    out.extend_from_slice(&(pages.len() as u32).to_le_bytes());
    for page in pages {
        out.extend_from_slice(&page.key.target.0.to_be_bytes());
        out.extend_from_slice(&page.key.chunk.0);
        out.extend_from_slice(&page.page.to_le_bytes());
        out.extend_from_slice(&page.unit.to_le_bytes());
        out.extend_from_slice(&page.source.filled()[page.start..page.start + PAGE_BYTES]);
    }
    let body_len = (out.len() - HEADER_BYTES) as u32;
    out[..4].copy_from_slice(&MAGIC);
    out[4] = BLOCK_VERSION;
    out[8..16].copy_from_slice(&id.to_le_bytes());
    out[16..24].copy_from_slice(&sequence.to_le_bytes());
    out[24..28].copy_from_slice(&body_len.to_le_bytes());
    let checksum = checksum(&out[CHECKED_HEADER], &out[HEADER_BYTES..]);
    out[28..32].copy_from_slice(&checksum.to_le_bytes());
    out.resize(out.len().next_multiple_of(BLOCK_ALIGNMENT_BYTES), 0);
    out
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let body_crc = crc32c(body);
    firepond_core::checksum::crc32c_combine(crc32c(header), body_crc, body.len() as u64)
}

/// The header at the start of a page, if there is one.
pub(super) fn decode_header(page: &[u8]) -> Result<Option<Header>> {
    let mut input = Input(page);
    let Ok(magic) = input.take::<4>() else { return Ok(None) };
    if magic != MAGIC {
        return Ok(None);
    }
    let [version, ..] = input.take::<4>()?;
    if version != BLOCK_VERSION {
        return Err(Error::new(ErrorKind::Unsupported, "a log block of a newer release")
            .with("block_version", version));
    }
    let (id, sequence) = (input.u64()?, input.u64()?);
    let body_len = input.u32()? as usize;
    Ok(Some(Header { id, sequence, body_len, checksum: input.u32()? }))
}

/// Whether the bytes of a block are those that were written.
pub(super) fn is_whole(header: &Header, block: &[u8]) -> bool {
    let end = HEADER_BYTES + header.body_len;
    let found = block.get(HEADER_BYTES..end);
    found.is_some_and(|body| checksum(&block[CHECKED_HEADER], body) == header.checksum)
}

/// What a whole block says.
pub(super) fn decode_body(header: &Header, block: &[u8]) -> Result<Body> {
    let mut input = Input(&block[HEADER_BYTES..HEADER_BYTES + header.body_len]);
    let mut changes = Vec::new();
    for _ in 0..input.u32()? {
        let key_len = usize::from(u16::from_le_bytes(input.take()?));
        let key = input.slice(key_len)?.to_vec();
        let value = match input.u32()? {
            u32::MAX => None,
            len => Some(input.slice(len as usize)?.to_vec()),
        };
        changes.push((key, value));
    }
    let mut pages = Vec::new();
    for _ in 0..input.u32()? {
        let key = decode_chunk_key(input.slice(24)?)?;
        let (page, unit) = (input.u32()?, input.u64()?);
        pages.push((key, page, unit, input.take()?));
    }
    if !input.0.is_empty() {
        return Err(corrupt("a log block is too long"));
    }
    Ok(Body { changes, pages })
}
