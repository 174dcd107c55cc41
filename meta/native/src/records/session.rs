//! A file that a client has open for writing.

use super::Record;
use serde::{Deserialize, Serialize};

/// Keeps the file from being collected and its length from being trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// When it was opened, nanoseconds since 1970.
    pub opened_ns: u64,
}

impl Record for SessionRecord {
    const NAME: &'static str = "session";
    const VERSION: u8 = 1;
}
