//! A truncation that is visible in the inode while its chunks are not cut yet.

use super::Record;
use serde::{Deserialize, Serialize};

/// What is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingTruncate {
    /// Bytes that stay.
    pub size_bytes: u64,
    /// The inode's truncate version after this truncation.
    pub truncate_version: u64,
    /// No chunk begins at or after this byte; none when writers had the file open.
    pub extent_bytes: Option<u64>,
}

impl Record for PendingTruncate {
    const NAME: &'static str = "pending_truncate";
    const VERSION: u8 = 1;
}
