//! A name in a directory.

use super::Record;
use firepond_core::ids::InodeId;
use firepond_core::wire::meta::InodeKind;
use serde::{Deserialize, Serialize};

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecord {
    /// The inode.
    pub inode: InodeId,
    /// Its kind, so that reading a directory needs no inode.
    pub kind: InodeKind,
}

impl Record for EntryRecord {
    const NAME: &'static str = "entry";
    const VERSION: u8 = 1;
}
