//! A file whose last name is gone.

use super::Record;
use serde::{Deserialize, Serialize};

/// Waits until nobody has the file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageRecord {
    /// When the last name went, nanoseconds since 1970.
    pub unlinked_ns: u64,
}

impl Record for GarbageRecord {
    const NAME: &'static str = "garbage";
    const VERSION: u8 = 1;
}
