//! CRC32C (Castagnoli), the checksum of every block, payload and frame.
//!
//! Why: three bytes a cycle with the processor's instructions, and checksums of parts combine into
//! the checksum of the whole without another look at the bytes. Source: RFC 3720, section 12.1.

use crc_fast::{CrcAlgorithm, Digest, checksum, checksum_combine};

/// The CRC32C of some bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The CRC32C of `a` followed by `b`.
pub fn crc32c_pair(a: &[u8], b: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(a);
    digest.update(b);
    digest.finalize() as u32
}

/// The CRC32C of `a` followed by `b`, from the checksums of both and the length of `b` in bytes.
pub fn crc32c_combine(crc_a: u32, crc_b: u32, len_b: u64) -> u32 {
    checksum_combine(CrcAlgorithm::Crc32Iscsi, u64::from(crc_a), u64::from(crc_b), len_b) as u32
}

/// The CRC32C of `len` zero bytes, in logarithmic time.
pub fn crc32c_zeros(len: u64) -> u32 {
    let mut total = 0;
    let mut power = crc32c(&[0]);
    let mut power_len = 1_u64;
    let mut rest = len;
    while rest > 0 {
        if rest & 1 == 1 {
            total = crc32c_combine(total, power, power_len);
        }
        power = crc32c_combine(power, power, power_len);
        power_len <<= 1;
        rest >>= 1;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the right polynomial. Oracle: the check value of RFC 3720.
    #[test]
    fn check_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    /// Goal: combining equals recomputing. Method: every split of one buffer. Oracle: `crc32c`.
    #[test]
    fn combine_equals_whole() {
        let bytes: Vec<u8> = (0..300_u16).map(|value| (value % 251) as u8).collect();
        for split in 0..=bytes.len() {
            let (a, b) = bytes.split_at(split);
            assert_eq!(crc32c_combine(crc32c(a), crc32c(b), b.len() as u64), crc32c(&bytes));
            assert_eq!(crc32c_pair(a, b), crc32c(&bytes));
        }
        for len in [0, 1, 2, 3, 4096, 65_537] {
            assert_eq!(crc32c_zeros(len), crc32c(&vec![0; len as usize]));
        }
    }
}
