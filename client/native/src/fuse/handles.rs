//! Open files and open directories by the number that the kernel keeps for them.
//!
//! Invariants: a number is never used twice, so that a late request never meets another file; a
//! handle is removed exactly once, by its release.
//! Locks: one for each table, held only to look up.

use super::cursor::Cursor;
use crate::file_system::OpenFile;
use firepond_core::ids::InodeId;
use firepond_core::wire::meta::Credentials;
use firepond_core::{Error, ErrorKind, Result};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An open file.
pub(super) struct FileHandle {
    /// The file.
    pub(super) file: Arc<OpenFile>,
    /// Whether it was opened for writing.
    pub(super) write: bool,
    /// Whether every write goes to the end.
    pub(super) append: bool,
}

/// An open directory.
pub(super) struct DirectoryHandle {
    /// The directory.
    pub(super) inode: InodeId,
    /// Who opened it; what may be read is decided then.
    pub(super) who: Credentials,
    /// Where its reader is. Held while a page is fetched: one reader at a time.
    pub(super) cursor: tokio::sync::Mutex<Cursor>,
}

/// Handles of one kind.
pub(super) struct Handles<T> {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<T>>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Handles<T> {
        Handles { next: AtomicU64::new(1), open: RwLock::default() }
    }
}

impl<T> Handles<T> {
    /// Keeps an object and gives its number.
    pub(super) fn insert(&self, value: T) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(value));
        number
    }

    /// The object behind a number.
    ///
    /// # Errors
    /// `Closed` when it was released.
    pub(super) fn get(&self, number: u64) -> Result<Arc<T>> {
        self.open.read().get(&number).cloned().ok_or_else(|| unknown(number))
    }

    /// Forgets a number and gives its object back.
    ///
    /// # Errors
    /// `Closed` when it was released.
    pub(super) fn remove(&self, number: u64) -> Result<Arc<T>> {
        self.open.write().remove(&number).ok_or_else(|| unknown(number))
    }

    /// Any object for which `wanted` says yes.
    pub(super) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.open.read().values().find(|value| wanted(value)).cloned()
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.open.read().len()
    }
}

fn unknown(number: u64) -> Error {
    Error::new(ErrorKind::Closed, "no such open file").with("handle", number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a released number never means another object. Oracle: the error, and a new number.
    #[test]
    fn numbers_are_never_used_again() {
        let handles = Handles::default();
        let first = handles.insert("a");
        assert_eq!(*handles.get(first).expect("open"), "a");
        assert_eq!(*handles.remove(first).expect("open"), "a");
        assert_eq!(handles.get(first).err().map(|error| error.kind()), Some(ErrorKind::Closed));
        assert!(handles.remove(first).is_err());
        assert_ne!(handles.insert("b"), first);
        assert_eq!(handles.count(), 1);
        assert!(handles.find(|value| *value == "b").is_some());
        assert!(handles.find(|value| *value == "a").is_none());
    }
}
