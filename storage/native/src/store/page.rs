//! Pages and their checksums: the unit of allocation, of verification and of copy-on-write.
//!
//! Why a table: all pages but the last have one length, so the checksum of a chunk combines from
//! those of its pages with four look-ups a page instead of a matrix product.
//! Invariants: a page checksum covers the bytes of the chunk in that page, not the padding.

use firepond_core::checksum::{crc32c, crc32c_combine};
use std::sync::LazyLock;

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = 4096;

/// `SHIFT[i][b]` is what byte `i` of a checksum with value `b` becomes when a page follows.
static SHIFT: LazyLock<[[u32; 256]; 4]> = LazyLock::new(|| {
    std::array::from_fn(|position| {
        std::array::from_fn(|byte| {
            crc32c_combine((byte as u32) << (8 * position), 0, PAGE_BYTES as u64)
        })
    })
});

/// Pages that hold `len` bytes.
pub(super) fn page_count(len: u32) -> u32 {
    len.div_ceil(PAGE_BYTES as u32)
}

/// Bytes of a chunk of `len` bytes that lie in one of its pages.
pub(super) fn page_len(page: u32, len: u32) -> usize {
    let start = u64::from(page) * PAGE_BYTES as u64;
    (u64::from(len).saturating_sub(start)).min(PAGE_BYTES as u64) as usize
}

/// The checksum of something followed by one page with checksum `page`.
pub(super) fn append_page(crc: u32, page: u32) -> u32 {
    let bytes = crc.to_le_bytes();
    SHIFT.iter().zip(bytes).fold(page, |sum, (table, byte)| sum ^ table[usize::from(byte)])
}

/// The checksum of `len` bytes from the checksums of their pages.
pub(super) fn combine_pages(pages: &[u32], len: u32) -> u32 {
    assert_eq!(pages.len(), page_count(len) as usize, "one checksum a page");
    let tail_len = len as usize % PAGE_BYTES;
    let full = if tail_len == 0 { pages } else { &pages[..pages.len() - 1] };
    let crc = full.iter().fold(0, |crc, page| append_page(crc, *page));
    match pages.last() {
        Some(tail) if tail_len != 0 => crc32c_combine(crc, *tail, tail_len as u64),
        _ => crc,
    }
}

/// The checksums of the pages of some bytes.
pub(super) fn page_checksums(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks(PAGE_BYTES).map(crc32c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: combining pages equals hashing the whole. Method: lengths around page borders.
    /// Oracle: `crc32c`.
    #[test]
    fn combined_pages_equal_the_whole() {
        let bytes: Vec<u8> = (0..20_000_u32).map(|value| (value * 7 % 251) as u8).collect();
        for len in [0, 1, 4095, 4096, 4097, 8192, 12_288, 20_000] {
            let pages: Vec<u32> = page_checksums(&bytes[..len]).collect();
            assert_eq!(combine_pages(&pages, len as u32), crc32c(&bytes[..len]));
        }
    }
}
