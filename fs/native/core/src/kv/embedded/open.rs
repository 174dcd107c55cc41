//! Opening: creation that a crash cannot leave half done, and the last version.

use super::from_fjall;
use crate::sys::directory;
use crate::{Error, ErrorKind, Result};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;

const CACHE_BYTES: u64 = 32 << 20;
const TREE_BUFFER_BYTES: u64 = 16 << 20;
const JOURNAL_MAX_BYTES: u64 = 256 << 20;
const WORKER_COUNT: usize = 1;

/// The key of the last version in the keyspace `system`.
pub(super) const VERSION_KEY: &[u8] = b"version";

/// The open tree.
pub(super) struct Tree {
    pub(super) database: Database,
    pub(super) pairs: Keyspace,
    pub(super) system: Keyspace,
    /// The last committed version.
    pub(super) version: u64,
}

/// Opens the tree of a locked directory.
pub(super) fn open(directory: &Path) -> Result<Tree> {
    let found = open_or_create(directory);
    found.map_err(|error| error.with("directory", directory.display()))
}

fn open_or_create(root: &Path) -> Result<Tree> {
    let ready = root.join("db");
    let exists = ready.try_exists().map_err(|error| Error::io(&error, "look for the store"))?;
    if !exists {
        // The tree cannot be opened after a crash in the middle of its creation: it is created
        // aside and appears by one rename.
        let fresh = root.join("db.new");
        directory::remove_tree(&fresh)?;
        drop(open_tree(&fresh)?);
        directory::publish(&fresh, &ready)?;
    }
    open_tree(&ready)
}

fn open_tree(path: &Path) -> Result<Tree> {
    let failed = |error: fjall::Error| from_fjall(&error, "open the store");
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_MAX_BYTES)
        .worker_threads(WORKER_COUNT)
        .manual_journal_persist(true)
        .open()
        .map_err(failed)?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(TREE_BUFFER_BYTES);
    let pairs = database.keyspace("pairs", options).map_err(failed)?;
    let system = database.keyspace("system", options).map_err(failed)?;
    database.persist(PersistMode::SyncAll).map_err(failed)?;
    let version = match system.get(VERSION_KEY).map_err(failed)? {
        None => 0,
        Some(bytes) => u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| {
            Error::new(ErrorKind::StoreCorrupt, "the version record is not a number")
        })?),
    };
    Ok(Tree { database, pairs, system, version })
}
