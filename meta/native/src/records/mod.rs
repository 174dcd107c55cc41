//! What is persisted: each struct in its own file, as one version byte and postcard.
//!
//! Why postcard: small, with a stable format; a newer version of a record gets a new version byte
//! and code that reads the older one. Golden bytes: tests/golden/v1/meta (never edited).
//! Invariants: what `encode` writes `decode` reads; an unknown version is an error, not a guess.

mod counter;
mod directory_times;
mod entry;
mod garbage;
mod inode;
mod pending_truncate;
mod request;
mod session;

pub use counter::Counter;
pub use directory_times::DirectoryTimes;
pub use entry::EntryRecord;
pub use garbage::GarbageRecord;
pub use inode::{InodeBody, InodeRecord};
pub use pending_truncate::PendingTruncate;
pub use request::RequestRecord;
pub use session::SessionRecord;

use firepond_core::{Error, ErrorKind, Result};
use serde::{Serialize, de::DeserializeOwned};

/// A persisted struct.
pub trait Record: Serialize + DeserializeOwned + Send + Sync {
    /// Its name, for errors.
    const NAME: &'static str;
    /// The version that this release writes and reads.
    const VERSION: u8;

    /// The stored bytes.
    ///
    /// # Errors
    /// `Internal` when the value cannot be encoded, which plain data always can.
    fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_extend(self, vec![Self::VERSION])
            .map_err(|error| Error::internal(error.to_string()).with("record", Self::NAME))
    }

    /// The value behind stored bytes.
    ///
    /// # Errors
    /// `VersionUnsupported` for a newer release's record, `StoreCorrupt` for what is none.
    fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((version, rest)) if *version == Self::VERSION => postcard::from_bytes(rest)
                .map_err(|error| {
                    Error::new(ErrorKind::StoreCorrupt, error.to_string())
                        .with("record", Self::NAME)
                }),
            Some((version, _)) => {
                Err(Error::new(ErrorKind::VersionUnsupported, "record of another release")
                    .with("record", Self::NAME)
                    .with("version", version))
            }
            None => Err(Error::new(ErrorKind::StoreCorrupt, "empty").with("record", Self::NAME)),
        }
    }
}
