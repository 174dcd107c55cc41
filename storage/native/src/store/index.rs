//! The index: an ordered map from keys to records that is durable when asked.
//!
//! Why a trait: the shipped one is an LSM tree (fjall); its twin in memory models the loss of what
//! was not synced, so that crash tests and simulations need no file.
//! Invariants: a batch is atomic; a synced batch survives with all batches before it; what survives
//! of the rest is a prefix of them.

use firepond_core::Result;

/// A visitor of pairs; false ends the scan.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool>;

/// One change: a key, and its new value or none.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// An ordered map on disk. All methods may be called concurrently.
pub trait ChunkIndex: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// `IoFailed`, `StoreCorrupt`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Shows the pairs from `from` up to but not including `to`, in order or backwards.
    ///
    /// # Errors
    /// `IoFailed`, `StoreCorrupt`, or what the visitor answers.
    fn scan(&self, from: &[u8], to: &[u8], reverse: bool, visit: Visit<'_>) -> Result<()>;
    /// Makes all changes at once; each key occurs once. With `sync` they are durable on return.
    ///
    /// # Errors
    /// `IoFailed`, `DiskFull`; then the index is not to be used any more.
    fn write(&self, changes: Vec<Change>, sync: bool) -> Result<()>;
}
