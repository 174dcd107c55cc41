//! The bytes of a block of the log, as docs/disk-format.md describes them.
//!
//! Invariants: a block is whole pages; its checksum covers number, length and body, so a torn block
//! is none; decoding checks every length. The log's id is random and never leaves the disk, so that
//! no bytes of a client can pass for a block.

use super::codec::{Input, corrupt, decode_chunk_key};
use super::index::Change;
use super::page::PAGE_BYTES;
use super::record::ChunkKey;
use bytes::Bytes;
use firepond_core::Result;
use firepond_core::checksum::crc32c;

/// Blocks begin at multiples of this.
pub(super) const BLOCK_ALIGNMENT_BYTES: usize = PAGE_BYTES;

const MAGIC: [u8; 4] = *b"FPLG";
const BLOCK_VERSION: u8 = 1;
/// Magic, checksum, version, three zeros, the log's id, number, length of the body.
pub(super) const HEADER_BYTES: usize = 32;
/// The checksum covers what follows it.
const CHECKED_START: usize = 8;

/// A page that a small update wrote.
#[derive(Clone, Debug)]
pub(super) struct LoggedPage {
    /// The chunk that it belongs to.
    pub(super) key: ChunkKey,
    /// Which page of the chunk.
    pub(super) page: u32,
    /// Where it is in the data file.
    pub(super) unit: u64,
    /// `PAGE_BYTES` of them.
    pub(super) bytes: Bytes,
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
        out.extend_from_slice(&page.bytes);
    }
    let body_len = (out.len() - HEADER_BYTES) as u32;
    out[..4].copy_from_slice(&MAGIC);
    out[8] = BLOCK_VERSION;
    out[12..20].copy_from_slice(&id.to_le_bytes());
    out[20..28].copy_from_slice(&sequence.to_le_bytes());
    out[28..32].copy_from_slice(&body_len.to_le_bytes());
    let checksum = crc32c(&out[CHECKED_START..]);
    out[4..8].copy_from_slice(&checksum.to_le_bytes());
    out.resize(out.len().next_multiple_of(BLOCK_ALIGNMENT_BYTES), 0);
    out
}

/// The header at the start of a page, if there is one.
pub(super) fn decode_header(page: &[u8]) -> Option<Header> {
    let mut input = Input(page);
    let magic = input.take::<4>().ok()?;
    let checksum = input.u32().ok()?;
    let [version, ..] = input.take::<4>().ok()?;
    if magic != MAGIC || version != BLOCK_VERSION {
        return None;
    }
    let (id, sequence) = (input.u64().ok()?, input.u64().ok()?);
    let body_len = input.u32().ok()? as usize;
    Some(Header { id, sequence, body_len, checksum })
}

/// Whether the bytes of a block are those that were written.
pub(super) fn is_whole(header: &Header, block: &[u8]) -> bool {
    let end = HEADER_BYTES + header.body_len;
    block.get(CHECKED_START..end).is_some_and(|bytes| crc32c(bytes) == header.checksum)
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

#[cfg(test)]
mod tests {
    use super::*;
    use firepond_core::ids::{ChunkId, ChunkIndex, InodeId, TargetId};

    const BLOCK: &[u8] = include_bytes!("../../../../tests/golden/v2/store_log_block.bin");

    fn parts() -> (Vec<Change>, LoggedPage) {
        let changes = vec![(b"c1".to_vec(), Some(b"abc".to_vec())), (b"x2".to_vec(), None)];
        let chunk = ChunkId::file(InodeId(7), ChunkIndex(2));
        let bytes = vec![0xab; PAGE_BYTES].into();
        let key = ChunkKey { target: TargetId(1), chunk };
        (changes, LoggedPage { key, page: 3, unit: 300, bytes })
    }

    /// Goal: blocks keep their bytes. Oracle: a golden file, made by hand and never edited.
    #[test]
    fn golden_block() {
        let (changes, page) = parts();
        assert_eq!(encode(0x0102_0304_0506_0708, 7, &changes, &[&page]), BLOCK);
        let header = decode_header(BLOCK).expect("a header");
        assert_eq!((header.id, header.sequence), (0x0102_0304_0506_0708, 7));
        assert!(is_whole(&header, BLOCK));
        let body = decode_body(&header, BLOCK).expect("decodes");
        assert_eq!(body.changes, changes);
        let [(key, number, unit, bytes)] = &body.pages[..] else { panic!("one page") };
        assert_eq!((*key, *number, *unit), (page.key, page.page, page.unit));
        assert_eq!(*bytes, [0xab; PAGE_BYTES]);
    }

    /// Goal: no torn or rotten block passes for a whole one. Method: flip each byte, cut anywhere.
    /// Oracle: refusal, without a panic.
    #[test]
    fn damaged_blocks_are_none() {
        let header = decode_header(BLOCK).expect("a header");
        let end = HEADER_BYTES + header.body_len;
        for at in 0..end {
            let mut bytes = BLOCK.to_vec();
            bytes[at] ^= 1;
            let passes = decode_header(&bytes).is_some_and(|header| is_whole(&header, &bytes));
            assert!(!passes, "byte {at}");
            assert!(!is_whole(&header, &BLOCK[..at]), "cut at {at}");
        }
    }
}
