//! Whole directories and /proc, for what cannot go through `disk`: stores that are libraries with
//! files of their own, and facts that the kernel tells about processes.
//!
//! Invariants: a directory has one owner at a time, which the kernel forgets when the process ends;
//! a directory that is made aside appears under its name complete or not at all.

use crate::{Error, ErrorKind, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;

/// The ownership of a directory, for as long as this lives.
pub struct DirectoryLock(File);

impl Drop for DirectoryLock {
    /// Closing the file is not enough: a process that another thread is just starting has a copy of
    /// it until it runs its program.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl DirectoryLock {
    /// Makes the directory if it is absent, and takes it.
    ///
    /// # Errors
    /// `StoreLocked` when another process has it; `IoFailed`.
    pub fn take(directory: &Path) -> Result<DirectoryLock> {
        let failed = |error: std::io::Error, attempted: &str| {
            Error::io(&error, attempted).with("directory", directory.display())
        };
        std::fs::create_dir_all(directory).map_err(|error| failed(error, "make the directory"))?;
        let path = directory.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(|error| failed(error, "open the lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirectoryLock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let why = "another process has the directory open";
                Err(Error::new(ErrorKind::StoreLocked, why).with("directory", directory.display()))
            }
            Err(error) => Err(failed(error.into(), "take the lock")),
        }
    }
}

/// Removes a directory with all that is in it; absent is fine.
///
/// # Errors
/// `IoFailed`.
pub fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(&error, "remove a directory").with("directory", path.display()))
        }
        _ => Ok(()),
    }
}

/// Gives a directory that was made aside its name, durably. Both are in the same parent.
///
/// # Errors
/// `IoFailed`.
pub fn publish(aside: &Path, name: &Path) -> Result<()> {
    let parent = name.parent().unwrap_or(Path::new("."));
    let moved = std::fs::rename(aside, name)
        .and_then(|()| File::open(parent))
        .and_then(|opened| opened.sync_all());
    moved.map_err(|error| {
        Error::io(&error, "put a directory in its place").with("directory", name.display())
    })
}

/// What the kernel tells of a process in /proc/PID/status; none when it is gone.
pub fn process_status(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: one owner at a time, until it lets go. Oracle: the error's kind.
    #[test]
    fn a_directory_has_one_owner() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let directory = parent.path().join("store");
        let lock = DirectoryLock::take(&directory).expect("free");
        let refused = DirectoryLock::take(&directory).err().expect("taken");
        assert_eq!(refused.kind(), ErrorKind::StoreLocked);
        drop(lock);
        assert!(DirectoryLock::take(&directory).is_ok());
    }

    /// Goal: a directory is free although a process that is being started still has the file.
    /// Method: a copy of the descriptor, as a fork makes it. Oracle: it can be taken.
    #[test]
    fn a_copy_of_the_file_keeps_nothing() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let lock = DirectoryLock::take(parent.path()).expect("free");
        let copy = lock.0.try_clone().expect("a copy");
        drop(lock);
        assert!(DirectoryLock::take(parent.path()).is_ok());
        drop(copy);
    }

    /// Goal: publishing moves, removing twice is fine. Oracle: what exists.
    #[test]
    fn publish_and_remove() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let (aside, name) = (parent.path().join("a.new"), parent.path().join("a"));
        drop(DirectoryLock::take(&aside).expect("made"));
        publish(&aside, &name).expect("moved");
        assert!(name.join("lock").exists() && !aside.exists());
        remove_tree(&name).expect("removed");
        remove_tree(&name).expect("absent is fine");
    }
}
