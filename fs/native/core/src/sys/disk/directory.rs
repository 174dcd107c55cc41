//! Files of a real directory: what the real engines have in common.
//!
//! Why two descriptors a file: aligned writes go past the page cache (`O_DIRECT`: no copy, no
//! flush that takes seconds later), reads go through it (a hot block costs no I/O). The kernel
//! keeps the two coherent: a direct write drops the cached pages of its range.
//! Invariants: paths stay below the root; a file system that refuses direct writes is found out at
//! the first one and is written through the page cache from then on.

use crate::{Error, ErrorKind, Result};
use rustix::fs::FallocateFlags;
use rustix::io::ReadWriteFlags;
use std::fs::{File, OpenOptions};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A directory with its files.
pub(super) struct Directory {
    root: PathBuf,
}

/// One open file.
pub(super) struct OpenFile {
    path: PathBuf,
    buffered: File,
    direct: Option<File>,
    direct_refused: AtomicBool,
    cached_refused: AtomicBool,
}

impl Directory {
    pub(super) fn open(root: &Path) -> Result<Directory> {
        std::fs::create_dir_all(root).map_err(|error| failed(&error, "make directory", root))?;
        Ok(Directory { root: root.to_owned() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, path: &Path) -> Result<PathBuf> {
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || path.as_os_str().is_empty() {
            return Err(Error::invalid("not a path below the disk").with("path", path.display()));
        }
        Ok(self.root.join(path))
    }

    pub(super) fn open_file(&self, path: &Path, create: bool) -> Result<OpenFile> {
        let path = self.resolve(path)?;
        let is_new = create && !path.exists();
        let buffered = OpenOptions::new().read(true).write(true).create(create).open(&path);
        let buffered = buffered.map_err(|error| failed(&error, "open", &path))?;
        let direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path).ok();
        if is_new {
            let parent = path.parent().unwrap_or(&self.root);
            let synced = File::open(parent).and_then(|directory| directory.sync_all());
            synced.map_err(|error| failed(&error, "sync directory", parent))?;
        }
        Ok(OpenFile {
            path,
            buffered,
            direct,
            direct_refused: AtomicBool::new(false),
            cached_refused: AtomicBool::new(false),
        })
    }

    pub(super) fn space(&self) -> Result<(u64, u64)> {
        let stat = rustix::fs::statvfs(&self.root)
            .map_err(|error| failed(&error.into(), "statvfs", &self.root))?;
        let (total, free) = (stat.f_blocks, stat.f_bavail);
        Ok((total.saturating_mul(stat.f_frsize), free.saturating_mul(stat.f_frsize)))
    }

    pub(super) fn list(&self) -> Result<Vec<PathBuf>> {
        let fail = |error: std::io::Error| failed(&error, "list", &self.root);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(fail)? {
            names.push(PathBuf::from(entry.map_err(fail)?.file_name()));
        }
        names.sort();
        Ok(names)
    }

    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        let path = self.resolve(path)?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(&error, "remove", &path)),
        }
    }
}

impl OpenFile {
    /// The descriptor for a write of this memory: direct when alignment and file system allow it.
    pub(super) fn write_fd(&self, bytes: &[u8], offset: u64) -> RawFd {
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(super::ALIGNMENT_BYTES)
            && bytes.len().is_multiple_of(super::ALIGNMENT_BYTES)
            && offset.is_multiple_of(super::ALIGNMENT_BYTES as u64);
        match &self.direct {
            Some(direct) if aligned && !self.direct_refused.load(Ordering::Relaxed) => {
                direct.as_raw_fd()
            }
            _ => self.buffered.as_raw_fd(),
        }
    }

    pub(super) fn read_fd(&self) -> RawFd {
        self.buffered.as_raw_fd()
    }

    /// Notes that a direct write was refused; true when another try can help.
    pub(super) fn note_refusal(&self, errno: Option<i32>, fd: RawFd) -> bool {
        let is_direct = fd != self.buffered.as_raw_fd();
        if is_direct && matches!(errno, Some(libc::EINVAL | libc::EOPNOTSUPP)) {
            self.direct_refused.store(true, Ordering::Relaxed);
            return true;
        }
        false
    }

    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.buffered.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error, "read")),
            }
        }
        Ok(done)
    }

    pub(super) fn read_cached(&self, into: &mut [u8], offset: u64) -> Option<usize> {
        if self.cached_refused.load(Ordering::Relaxed) {
            return None;
        }
        let len = into.len();
        let mut slices = [IoSliceMut::new(into)];
        let flags = ReadWriteFlags::NOWAIT;
        match rustix::io::preadv2(&self.buffered, &mut slices, offset, flags) {
            Ok(count) if count == len => Some(count),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.cached_refused.store(true, Ordering::Relaxed);
                None
            }
            _ => None,
        }
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let fd = self.write_fd(bytes, offset);
        let file = match &self.direct {
            Some(direct) if direct.as_raw_fd() == fd => direct,
            _ => &self.buffered,
        };
        match file.write_all_at(bytes, offset) {
            Ok(()) => Ok(()),
            Err(error) if self.note_refusal(error.raw_os_error(), fd) => self
                .buffered
                .write_all_at(bytes, offset)
                .map_err(|error| self.failed(&error, "write")),
            Err(error) => Err(self.failed(&error, "write")),
        }
    }

    pub(super) fn write_cached(&self, bytes: &[u8], offset: u64) -> Result<()> {
        check_aligned(bytes.len(), offset)?;
        self.buffered.write_all_at(bytes, offset).map_err(|error| self.failed(&error, "write"))
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.buffered.sync_data().map_err(|error| self.failed(&error, "fdatasync"))
    }

    pub(super) fn set_len(&self, len: u64) -> Result<()> {
        let now = self.len()?;
        if len > now {
            let flags = FallocateFlags::empty();
            match rustix::fs::fallocate(&self.buffered, flags, now, len - now) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                Err(error) => return Err(self.failed(&error.into(), "fallocate")),
            }
        }
        self.buffered.set_len(len).map_err(|error| self.failed(&error, "set length"))
    }

    pub(super) fn len(&self) -> Result<u64> {
        let metadata = self.buffered.metadata();
        Ok(metadata.map_err(|error| self.failed(&error, "stat"))?.len())
    }

    pub(super) fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.buffered, flags, offset, len)
            .map_err(|error| self.failed(&error.into(), "punch hole"))
    }

    pub(super) fn failed(&self, error: &std::io::Error, attempted: &str) -> Error {
        failed(error, attempted, &self.path)
    }
}

/// Refuses writes of parts of pages.
pub(super) fn check_aligned(len: usize, offset: u64) -> Result<()> {
    let page = super::ALIGNMENT_BYTES;
    if len.is_multiple_of(page) && offset.is_multiple_of(page as u64) {
        return Ok(());
    }
    Err(Error::invalid("a write must be of whole pages").with("len", len).with("offset", offset))
}

/// The bytes of a range that a caller wants written.
pub(super) fn written_bytes(
    payload: &crate::payload::Payload,
    range: std::ops::Range<usize>,
    offset: u64,
) -> Result<&[u8]> {
    let aligned = range.start <= range.end
        && range.len().is_multiple_of(super::ALIGNMENT_BYTES)
        && offset.is_multiple_of(super::ALIGNMENT_BYTES as u64);
    let bytes = payload.filled().get(range.clone()).filter(|_| aligned);
    bytes.ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument, "a write must be aligned and its bytes there")
            .with("start", range.start)
            .with("end", range.end)
            .with("offset", offset)
    })
}

fn failed(error: &std::io::Error, attempted: &str, path: &Path) -> Error {
    Error::io(error, attempted).with("path", path.display())
}
