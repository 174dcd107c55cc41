//! A number in the store.

use super::Record;
use serde::{Deserialize, Serialize};

/// A count, or the next id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The number.
    pub value: u64,
}

impl Record for Counter {
    const NAME: &'static str = "counter";
    const VERSION: u8 = 1;
}
