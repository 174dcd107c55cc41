//! Open files.

use super::super::flags::OpenRequest;
use super::super::handles::FileHandle;
use super::Operations;
use crate::file_system::{CreateOptions, OpenFile, OpenOptions};
use bytes::Bytes;
use firepond_core::ids::InodeId;
use firepond_core::payload::Payload;
use firepond_core::wire::meta::{AttributeChanges, Attributes, Credentials};
use firepond_core::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A file that was just opened.
pub(crate) struct Opened {
    /// Its number.
    pub(crate) handle: u64,
    /// Whether the pages that the kernel has of it are still right.
    pub(crate) unchanged: bool,
}

impl Operations {
    pub(crate) async fn open(
        &self,
        who: &Credentials,
        inode: InodeId,
        request: OpenRequest,
    ) -> Result<Opened> {
        let options =
            OpenOptions { read: request.read, write: request.write, truncate: request.truncate };
        let file = self.file_system.open(who, inode, options).await?;
        if request.append {
            self.learn_end(inode).await?;
        }
        let unchanged = self.inodes.is_unchanged_at_open(&file.attributes());
        if !unchanged && let Some(invalidate) = self.invalidate.get() {
            // The kernel may hold an older length and would not read beyond it.
            invalidate(inode);
        }
        Ok(Opened { handle: self.keep(file, request), unchanged })
    }

    /// Creates and opens, or opens what another client created since the kernel looked.
    pub(crate) async fn create(
        &self,
        who: &Credentials,
        parent: InodeId,
        name: &[u8],
        mode: u32,
        request: OpenRequest,
    ) -> Result<(Attributes, u64)> {
        let options = CreateOptions {
            mode: mode & 0o7777,
            exclusive: request.exclusive,
            read: request.read,
            write: request.write,
            ..CreateOptions::default()
        };
        let (file, mut attributes, created) =
            self.file_system.create(who, parent, name, options).await?;
        if request.truncate && !created {
            let changes = AttributeChanges { size_bytes: Some(0), ..Default::default() };
            attributes = self.file_system.set_attributes(who, attributes.inode, changes).await?;
        }
        if request.append && !created {
            self.learn_end(attributes.inode).await?;
        }
        self.inodes.looked_up(&attributes);
        Ok((attributes, self.keep(file, request)))
    }

    /// Asks where a file ends that is open here. The reply to its open may be older than an append
    /// of another handle that was closed meanwhile, and the next append would overwrite that one.
    async fn learn_end(&self, inode: InodeId) -> Result<()> {
        self.file_system.attributes(&Credentials::default(), inode).await.map(|_| ())
    }

    fn keep(&self, file: Arc<OpenFile>, request: OpenRequest) -> u64 {
        let append = request.append;
        self.files.insert(FileHandle { file, write: request.write, append })
    }

    /// The bytes, in parts; fewer than asked only at the end of the file.
    pub(crate) async fn read(&self, handle: u64, offset: u64, len: usize) -> Result<Vec<Payload>> {
        let open = self.files.get(handle)?;
        let parts = open.file.read(offset, len).await?;
        let count: usize = parts.iter().map(Payload::len).sum();
        self.read_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(parts)
    }

    /// `from_cache`: the kernel writes back a page that was changed through a mapping, so the
    /// offset holds even if the file was opened for appending. `synchronous`: durable when it
    /// returns.
    pub(crate) async fn write(
        &self,
        handle: u64,
        offset: u64,
        data: Bytes,
        from_cache: bool,
        synchronous: bool,
    ) -> Result<()> {
        let open = self.files.get(handle)?;
        self.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if open.append && !from_cache {
            open.file.append(data).await?;
        } else {
            open.file.write(offset, data).await?;
        }
        if synchronous { open.file.sync().await } else { Ok(()) }
    }

    /// close(2): errors of earlier writes show here, and whoever opens the file next sees its bytes
    /// and its length.
    pub(crate) async fn flush(&self, handle: u64) -> Result<()> {
        let open = self.files.get(handle)?;
        if open.write { open.file.sync().await } else { Ok(()) }
    }

    /// fsync(2) and fdatasync(2). Through a file that is open for reading, too: POSIX means the
    /// file's bytes, whoever wrote them.
    pub(crate) async fn sync(&self, handle: u64) -> Result<()> {
        let open = self.files.get(handle)?;
        if open.write {
            return open.file.sync().await;
        }
        let inode = open.file.inode();
        if self.files.find(|other| other.write && other.file.inode() == inode).is_none() {
            // The last writer's close has synced.
            return Ok(());
        }
        // A handle of its own: an error that a writer has to see must not be used up here.
        let options = OpenOptions { write: true, ..OpenOptions::default() };
        let file = self.file_system.open(&Credentials::default(), inode, options).await?;
        let synced = file.sync().await;
        synced.and(file.close().await)
    }

    /// The last close of an open file.
    pub(crate) async fn release(&self, handle: u64) -> Result<()> {
        self.files.remove(handle)?.file.close().await
    }

    /// fallocate(2) with a hole: zeros, as far as the file reaches.
    pub(crate) async fn punch_hole(&self, handle: u64, offset: u64, length: u64) -> Result<()> {
        self.files.get(handle)?.file.punch_hole(offset, length).await
    }

    /// posix_fallocate: the file becomes at least `end` long. Space is not reserved: chunks take
    /// space when they are written. Never a truncation, so that a writer that is faster loses
    /// nothing.
    pub(crate) async fn extend(
        &self,
        who: &Credentials,
        inode: InodeId,
        handle: u64,
        end: u64,
    ) -> Result<()> {
        let open = self.files.get(handle)?;
        let attributes = self.file_system.attributes(who, inode).await?;
        let size_max = attributes.layout.map_or(u64::MAX, |layout| layout.size_max_bytes());
        if end > size_max {
            return Err(Error::new(ErrorKind::FileTooLarge, "fallocate").with("end", end));
        }
        if end > attributes.size_bytes {
            open.file.write(end - 1, Bytes::from_static(&[0])).await?;
        }
        Ok(())
    }
}
