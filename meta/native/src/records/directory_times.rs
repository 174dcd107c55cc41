//! When a directory's entries last changed.
//!
//! Why its own key: every create would otherwise write its parent, and parallel creates would
//! conflict. Whoever changes an entry sets this blindly; the last commit wins.

use super::Record;
use serde::{Deserialize, Serialize};

/// Modification and change time of a directory by its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryTimes {
    /// Nanoseconds since 1970.
    pub entries_changed_ns: u64,
}

impl Record for DirectoryTimes {
    const NAME: &'static str = "directory_times";
    const VERSION: u8 = 1;
}
